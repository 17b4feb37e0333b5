# %% [markdown]
# # 06 Iterative pruning: SA-Merging, whole
#
# **You will be able to**
#
# * build SA-Merging from its score, its quota and its loop, and watch density, sign conflict and R over the rounds;
# * run the experiment that would settle its premise, random masks of equal density, and see two ways to get it wrong;
# * explain why so many masks give the same accuracy here: one shared mask, and a scale in disguise;
# * say when not to use the method, and what evidence would change your mind.
#
# **Needs** notebooks 02, 04 and 05. **Minutes** {reading} to read, {exercises} for the exercises; runs in about 45 s on two cores
# (pocket suite). On Colab: File, Save a copy in Drive, before you start.

# %% [markdown]
# ## Algorithm 1
#
# You have all parts but two. Given $\theta_0$ and N experts, SA-Merging (Park, Lee and Sohn, 2026) is
#
# | line | | where |
# |---|---|---|
# | 1 | $\tau_n = \theta_n - \theta_0$ | notebook 01 |
# | 2 | repeat T times: $\tau^* = \sum_i \tau_i$ with what is left | **here** |
# | 3 | $R_n = \mathbb{1}^T (\prod_l \lvert\theta_0^l + \tau_n^l\rvert)\, \mathbb{1}$, $\;G_n = \partial R_n / \partial \tau_n$ | notebook 04 |
# | 4 | $S_n = G_n \odot \tau^*$ | notebook 05 |
# | 5 | in each tensor keep the top $(1-p)$ share by $S_n$, $\;\tau_n \leftarrow m_n \odot \tau_n$ | **here** |
# | 6 | $\theta = \theta_0 + \sum_n \tau_n$ | notebook 01 |
#
# with T = 10 and p = 0.2, which the paper says leaves about $(1-p)^T$, a tenth of all updates. Why in rounds? When an entry of
# one expert goes, the sum changes for all the others, and an entry that looked useless in the crowd may now be worth more.

# %% [markdown]
# ## The quota
#
# Line 5 hides a trap. Take ten entries and keep the top 80 % in each round: eight stay. In the next round, 80 % of the *tensor*
# are eight again: nothing happens any more. Worse: an entry that is pruned in expert n still has a score, because neither
# $G_n$ nor $\tau^*$ is zero there, and it may take a place in the quota. So (1-p)^T is reached only if the share is taken
# among the survivors. That is our reading.

# %%
# EXERCISE 06.1

# %%
# EXERCISE 06.2

# %% [markdown]
# Now compare the two quotas on a small network of two layers with three experts. And is your loop the package's?

# %%
from samerge_edu.saliency import chain_flow, flow_score
from samerge_edu.transforms.sa_merging import density, sa_merging, sign_conflict

generator = torch.Generator().manual_seed(0)
shapes = {"0.weight": (20, 30), "1.weight": (10, 20)}
base = {k: torch.randn(shape, generator=generator) for k, shape in shapes.items()}
small = [{k: 0.5 * torch.randn(shape, generator=generator) for k, shape in shapes.items()} for _ in range(3)]
score = flow_score(base, chain_flow)


# %%
def whole_tensor(S, tau, t, p):
    """The trap: a share of all entries, whatever is left of them."""
    return (S >= S.flatten().quantile(p)) & (tau != 0)


for T in (1, 2, 5, 10, 20):
    trap, ours = (density(prune(small, score, mask, T, 0.2)) for mask in (whole_tensor, survivors))
    print(f"T = {T:2}: density {trap:.2f} over the whole tensor, {ours:.3f} among survivors, (1-p)^T = {0.8**T:.3f}")
mine, package = prune(small, score, survivors, 10, 0.2), sa_merging(small, score=score, T=10, p=0.2)
print(
    "the same as the package:", all(torch.equal(a[k], b[k]) for a, b in zip(mine, package, strict=True) for k in shapes)
)

# %% [markdown]
# Over the whole tensor the density soon comes to rest, and more rounds change nothing. Among survivors it follows
# $(1-p)^T$, a little above because each tensor rounds up.

# %% [markdown]
# ## Ten rounds on real experts
#
# `sa_merging` calls `progress(t, taus)` after each round. We note what is left, how much of it is in conflict, and how far
# the path strength of the sum is above that of the base. By the public notes the paper's Figure 3 has such curves. These are
# from our own runs, for the three readings of S.

# %%
from functools import partial

from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.saliency import clip_flow

suite = se.load_suite(lab.suite)
theta_0 = {k: v.cpu() for k, v in suite.theta_0.items()}
taus = se.task_vectors(theta_0, [{k: suite.experts[task][k].cpu() for k in theta_0} for task in suite.id_tasks])
flow = partial(clip_flow, heads=suite.attention_heads)
ln_R_0 = flow(theta_0).log_R


def in_rounds(score, T=10, p=0.2):
    """The pruned task vectors, and a list of what was seen after each round."""
    seen = [(density(taus), sign_conflict(taus), flow(se.add(theta_0, task_arithmetic(taus))).log_R - ln_R_0)]

    def note(t, left):
        seen.append((density(left), sign_conflict(left), flow(se.add(theta_0, task_arithmetic(left))).log_R - ln_R_0))

    return sa_merging(taus, score=score, T=T, p=p, progress=note), seen


# %%
READINGS = ("literal", "agreement", "abs")
pruned, history = {}, {}
for reading in READINGS:
    pruned[reading], history[reading] = in_rounds(flow_score(theta_0, flow, reading))
    left, conflict, _ = history[reading][-1]
    se.show(f"06.density.{reading}", 100 * left, f"{reading}: density after 10 rounds", slack=0.1)
    se.show(f"06.conflict.{reading}", 100 * conflict, f"{reading}: sign conflict after 10 rounds", slack=2.0)

# %%
from samerge_edu.course.drawings import d06

last = {reading: history[reading][-1] for reading in READINGS}
ln_R = [seen[2] for seen in history["literal"]]
se.figure(*d06.rounds(history))
se.claim("06.density", by=-max(abs(100 * (left - 0.8**10)) for left, _, _ in last.values()), at_least=-0.2)
se.claim("06.agreement_resolves", by=100 * (last["literal"][1] - last["agreement"][1]), at_least=50)
se.claim("06.R_rises_first", by=max(ln_R) - ln_R[0], at_least=0.1, unit="in ln R")

# %% [markdown]
# Only *agreement* does what the method's story says: the conflict goes away. Under *literal*, the formula as printed, most
# of it stays, and R **rises** first: this reading keeps what makes weights larger (notebook 05), so its sum has a path
# strength that no expert has, and only the falling density brings it down again.

# %% [markdown]
# ## Do the experts keep different things?
#
# Before you look, a piece of arithmetic.

# %%
# QUIZ 06.q1

# %%
from samerge_edu.saliency import magnitude_score

D = 0.8**10
V = torch.stack([se.flatten(tau) for tau in taus])  # (N, d): all task vectors
star = V.sum(dim=0)
generator = torch.Generator().manual_seed(0)
kept = {reading: torch.stack([se.flatten(tau) != 0 for tau in pruned[reading]]) for reading in READINGS}
kept["own size"] = torch.stack([se.flatten(t) != 0 for t in sa_merging(taus, score=magnitude_score(), T=1, p=1 - D)])
kept["random"] = torch.rand(V.shape, generator=generator) < D
union = {name: 100 * m.any(dim=0).double().mean().item() for name, m in kept.items()}
length = {name: 100 * ((V * m).norm(dim=1) / V.norm(dim=1)).mean().item() for name, m in kept.items()}
for name in kept:
    se.show(f"06.union.{name}", union[name], f"{name:10} entries kept by at least one expert", slack=1.0)
    se.show(f"06.length.{name}", length[name], f"{name:10} length that an expert keeps", slack=1.0)

# %%
se.figure(*d06.overlap(kept, union, length))
se.claim("06.one_shared_mask", by=union["random"] - union["literal"], at_least=30)
beyond_chance, to_the_best = (length[b] - length[a] for a, b in (("random", "literal"), ("literal", "own size")))
se.claim("06.blind_for_one", by=to_the_best - beyond_chance, at_least=10)

# %% [markdown]
# So the experts are not taken apart. Under literal and abs SA-Merging finds **nearly one shared mask**, chosen by the sum, and
# from the view of a single expert that mask is nearly blind: what it keeps of the expert's length is nearer to chance than to
# the largest entries. With exactly one mask M for all, $\sum_n M \odot \tau_n = M \odot \tau^*$: Task Arithmetic, its sum
# trimmed.

# %% [markdown]
# ## The first merge, and its scale
#
# The formula ends with a plain sum, lam = 1. Notebook 01 taught you to distrust that.

# %%
from samerge_edu.evaluate import choose_lam, id_average

IMAGES = 100  # a task, for testing


def measure(vector, lam, split="val", n=50):
    """ID average of theta_0 + lam * vector."""
    return id_average(suite, se.add(theta_0, se.unflatten(vector, theta_0), lam), split, n)


# %%
sums = {"Task Arithmetic": star} | {name: (V * m).sum(dim=0) for name, m in kept.items()}
lams = {}
for name in ("Task Arithmetic", "literal"):
    lams[name], _ = choose_lam(suite, se.unflatten(sums[name], theta_0), n=50)
    se.show(f"06.lam.{name}", lams[name], f"{name}: lam from validation", unit="", digits=2, slack=0.15)
tested = {name: measure(sums[name], lam, "test", IMAGES) for name, lam in lams.items()}
tested |= {"literal, lam = 1": measure(sums["literal"], 1.0, "test", IMAGES), "base": measure(star, 0.0, "test", IMAGES)}
for name, value in tested.items():
    se.show(f"06.accuracy.{name}", value, f"{name}: test accuracy", slack=3.0)
se.claim("06.plain_sum_below_base", by=tested["base"] - tested["literal, lam = 1"], at_least=1)
se.claim("06.scale_matters", by=tested["literal"] - tested["literal, lam = 1"], at_least=6)

# %% [markdown]
# At lam = 1 the merge is below the base: eight vectors on the *same* tenth of the entries add up to something far too
# long. A scale from validation gives back all of that, and it is not 1.

# %% [markdown]
# ## The experiment that would settle it, done badly
#
# The paper's public review names the decisive experiment: **if random masks of equal density do as well, the premise
# fails.** Here is one random mask beside SA-Merging, at the two scales we have.

# %%
naive = {}
for where, lam in (("1", 1.0), ("literal's own", lams["literal"])):
    for name in ("literal", "random"):
        naive[where, name] = measure(sums[name], lam)
        se.show(f"06.naive.{name}.{where}", naive[where, name], f"lam is {where}: {name}", slack=3.0)
se.claim("06.random_wins_by_far", by=naive["1", "random"] - naive["1", "literal"], at_least=8)
se.claim("06.random_loses", by=naive["literal's own", "literal"] - naive["literal's own", "random"], at_least=0.5)

# %% [markdown]
# Both papers could be written: "random masks win by far" and "saliency wins".

# %%
# QUIZ 06.q2

# %% [markdown]
# ## The effective scale
#
# Split every merged vector into its part along $\tau^*$ and a rest orthogonal to it: $\hat\tau = e\,\tau^* + \text{rest}$.
# The number e says how far lam = 1 moves the model along the plain sum.

# %%
# EXERCISE 06.3

# %%
from samerge_edu.merges.ties import ties
from samerge_edu.merges.tsv_m import tsv_m

sums |= {"TIES": se.flatten(ties(taus)), "TSV-M": se.flatten(tsv_m(taus))}
e = {name: effective_scale(vector, star) for name, vector in sums.items()}
for name in sums:
    se.show(f"06.e.{name}", e[name], f"effective scale of {name}", unit="", digits=3, slack=0.01)

# %% [markdown]
# A random mask of density d has the effective scale d. SA-Merging's mask of the same density has more than three times that,
# since it picks large entries of the sum. So draw accuracy not against lam, but against $a = \mathrm{lam} \cdot e$. What do you
# expect? If masks differ in *which* entries they keep, they should give different curves.

# %%
SCALES = (0.06, 0.11, 0.16, 0.23, 0.36)
curves = {name: [measure(vector, a / e[name]) for a in SCALES] for name, vector in sums.items()}
peaks = {name: max(curve) for name, curve in curves.items()}
masks = [peaks[name] for name in peaks if name not in ("TIES", "TSV-M")]
se.figure(*d06.two_rulers(curves, SCALES, e))
se.show("06.peaks", max(masks) - min(masks), "spread of the peaks of all masks", unit="points", slack=1.5)
se.claim("06.peaks_alike", by=-(max(masks) - min(masks)), at_least=-4)
se.claim("06.tsv_m_above_all_masks", by=peaks["TSV-M"] - max(masks), at_least=2)

# %% [markdown]
# On the left every method has a curve of its own. On the right the masked merges rise together and peak near the same place,
# chance included, and the peaks differ by little beside what a wrong scale costs. **Most of what is felt of a mask is its
# length along the plain sum**: on this suite pruning is first of all a way to shrink. It is not all: whether the rest speaks for a
# chosen mask or against it needs the careful measurement below. What clearly leaves the bundle is TSV-M, which changes the sum
# in its singular directions (notebook 09).

# %% [markdown]
# ## Why does the network not feel the mask?
#
# First: is there anything to choose? Pruning pays where a few large entries carry the task. How much of a task vector's
# squared length is in its largest tenth, and how much would that be for normally distributed noise?

# %%
noise, share = torch.randn(V.shape[1], generator=generator), {}
for label, vector in (("expert", V[0]), ("sum", star), ("noise", noise)):
    largest = vector.abs().topk(int(D * len(vector))).values
    share[label] = 100 * (largest.norm() / vector.norm()).item() ** 2
    se.show(f"06.largest.{label}", share[label], f"squared length in the largest {100 * D:.1f} %, {label}", slack=1.0)
se.claim("06.nothing_stands_out", by=share["noise"] - max(share.values()), at_least=-5)

# %% [markdown]
# Hardly more than in noise. Nothing stands out, so a choice by size, or by size times a slope that is nearly constant
# (notebook 04), cannot gain much over chance.
#
# Second: a mask leaves an error, and in weights it is huge. But each unit adds up hundreds of weights, and errors that do
# not know of each other average out on the way, the argument behind DARE (notebook 02). Measure both. In weights:
# how far is the masked model from Task Arithmetic's at equal effective scale, in units of Task Arithmetic's own way? In
# features: the same question about the embeddings of test images.

# %%
A = lams["Task Arithmetic"]
images = torch.cat([suite.images(task, "test", 20)[0] for task in suite.id_tasks])


def features(vector, lam):
    return suite.encode(se.add(theta_0, se.unflatten(vector, theta_0), lam), images).cpu()


z_0, z_star = features(star, 0.0), features(star, A)
off = {}
for name in ("literal", "random", "TIES", "TSV-M"):
    in_weights = (A / e[name] * sums[name] - A * star).norm() / (A * star).norm()
    z = features(sums[name], A / e[name])
    in_features = ((z - z_star).norm(dim=1) / (z_star - z_0).norm(dim=1)).mean()
    off[name] = in_weights.item(), in_features.item()
    se.show(f"06.off.weights.{name}", off[name][0], f"{name}: off in weights", unit="", digits=2, slack=0.1)
    se.show(f"06.off.features.{name}", off[name][1], f"{name}: off in features", unit="", digits=2, slack=0.1)

# %%
se.figure(*d06.off(off))
se.claim("06.errors_average_out", by=off["random"][0] - off["random"][1], at_least=1.5, unit="ways")
others = min(off["TIES"][1], off["TSV-M"][1])
se.claim("06.others_arrive_elsewhere", by=others - off["random"][1], at_least=0.15, unit="ways")
felt = {name: in_features / in_weights for name, (in_weights, in_features) in off.items()}
se.claim("06.rule_averages_less", by=felt["literal"] - felt["random"], at_least=0.03, unit="")

# %% [markdown]
# A huge error in weights, a small one in features: that is a random mask. TIES and TSV-M are less far off in weights and
# further off in features: they are *meant* to arrive elsewhere. And compare literal with random: of a unit of error in weights,
# more reaches the features. An error that was chosen by a rule does not average out as well as a blind one.

# %% [markdown]
# ## The experiment, done fairly
#
# Now make one thing equal: the effective scale, that of Task Arithmetic at its validated lam. Random masks get no search
# of their own; SA-Merging is shown at this scale *and* at its own validated lam, and the better of the two counts. Two kinds
# of chance, ten masks each:
#
# * **independent**: each expert draws its own mask, as the review asks;
# * **shuffled**: SA-Merging's masks with their places shuffled in each tensor, in the same way for all experts. Density, overlap
#   and tensor sizes are exactly the method's; only the choice of places is gone.
#
# And the ablations: one shot at the same density instead of ten rounds, and the abs score with a part taken out.

# %%
# EXERCISE 06.4


# %%
def ablation(without):
    """A score for the package from yours, tensor by tensor."""

    def score(taus):
        flows = [flow(se.add(theta_0, tau)) for tau in taus]
        S = {k: ablated(without, [tau[k] for tau in taus], [f.gradient(k) for f in flows]) for k in theta_0}
        return [{k: S[k][n] for k in theta_0} for n in range(len(taus))]

    return score


one_shot = sa_merging(taus, score=flow_score(theta_0, flow), T=1, p=1 - D)
sums["one shot"] = se.flatten(task_arithmetic(one_shot))
for part in ("sensitivity", "modulation"):
    sums[f"abs without {part}"] = se.flatten(task_arithmetic(sa_merging(taus, score=ablation(part))))
sums["abs without both"] = sums["own size"]  # |tau_n| ranks the same in every round: ten rounds are one

# %%
sizes = [v.numel() for v in theta_0.values()]


def shuffled(m, generator):
    """The masks m (N, d) with places permuted inside each tensor, in the same way for all experts."""
    starts = torch.tensor(sizes).cumsum(0) - torch.tensor(sizes)
    order = torch.cat([s + torch.randperm(n, generator=generator) for s, n in zip(starts, sizes, strict=True)])
    return m[:, order]


def fair(vector, a=A):
    """Test accuracy at a given effective scale, Task Arithmetic's if nothing else is said."""
    return measure(vector, a / effective_scale(vector, star), "test", IMAGES)


def independent(generator):
    return torch.rand(V.shape, generator=generator) < D


# %%
generators = [torch.Generator().manual_seed(seed) for seed in range(10)]
chance = {"independent": [fair((V * independent(g)).sum(dim=0)) for g in generators]}

# %%
chance["shuffled"] = [fair((V * shuffled(kept["literal"], g)).sum(dim=0)) for g in generators]
shown = ["literal", "one shot", "agreement", "abs", *(name for name in sums if "without" in name), "Task Arithmetic"]
results = {name: fair(sums[name]) for name in shown}
own = measure(sums["literal"], lams["literal"], "test", IMAGES)

# %%
mean = {kind: sum(values) / len(values) for kind, values in chance.items()}
for kind, values in chance.items():
    se.show(f"06.chance.{kind}", mean[kind], f"ten {kind} random masks, mean", slack=2.0)
    se.show(f"06.chance.{kind}.std", torch.tensor(values).std(), "  their standard deviation", unit="points", slack=0.5)
for name, value in results.items():
    se.show(f"06.fair.{name}", value, f"{name}, test accuracy at equal effective scale", slack=2.5)
cost = {name: results["abs"] - value for name, value in results.items() if "without" in name}
se.figure(*d06.fair(chance, results, own))

# %%
se.claim("06.chance_does_as_well", by=min(mean.values()) - results["literal"], at_least=-2)
by_size = max(value for name, value in results.items() if "abs" in name)
se.claim("06.chance_beats_abs", by=mean["independent"] - by_size, at_least=0.5)
se.claim("06.one_shot_as_well", by=results["one shot"] - results["literal"], at_least=-2)
se.claim("06.sensitivity_not_felt", by=-abs(cost["abs without sensitivity"]), at_least=-2)
se.claim("06.modulation_not_better", by=-cost["abs without modulation"], at_least=-1.5)

# %% [markdown]
# Compare each ablation with the row that it is made from: *one shot* with *literal*, *without ...* with *abs*. Was your
# prediction right? Two standard errors of a single number are about three points; the rows share their images, so
# differences between them are more certain than that. **Literal is where chance is, and abs loses to chance**, whole or with a
# part taken out: taking out sensitivity or modulation changes next to nothing, and every way to prefer large entries is
# behind masks that prefer nothing.
#
# How surprising is the method's place among the random masks?

# %%
# EXERCISE 06.5

# %%
best_of_two = max(own, results["literal"])
rare = {kind: surprise(best_of_two, values) for kind, values in chance.items()}
for kind, found in rare.items():
    se.show(f"06.surprise.{kind}", found, f"share at least as good, {kind} masks", unit="", digits=2, slack=0.4)
se.claim("06.not_surprising", by=min(rare.values()) - 0.05, at_least=0.03, unit="")

# %% [markdown]
# Near 1, most random masks are at least as good; 1/11 is the least that ten of them can show. (So ten masks can show that a
# method is *not* special. To pass the usual bar of 0.05 you would need at least nineteen.) All of it was measured on the same
# few images: an advantage of half a point may hide in it, in either direction. What this experiment excludes is a large one.
# So on this suite **the premise fails: it is not the choice of entries that makes the merge.**
#
# The slow version of this comparison, all eight experts and two subsets of six, each mask with its own validated scale, is
# `samerge-edu ablate sa-merging`; its table is in `docs/ablations/sa-merging.md`, and it says the same.

# %% [markdown]
# ## T and p are a scale in disguise
#
# By the public notes, the paper's Figure 3(b) shows that accuracy rises with T, whatever p is. We can draw that for the plain
# sum: one run of ten rounds passes through all smaller T. What does the effective scale say?

# %%
ROUNDS, SHARES = (1, 4, 10), (0.2, 0.3, 0.4)
grid, after_10 = {}, {}


def remember(t, left, p):
    if t in ROUNDS:
        vector = se.flatten(task_arithmetic(left))
        grid[t, p] = effective_scale(vector, star), measure(vector, 1.0)
        after_10[p] = density(left), vector  # of the last round noted


for p in SHARES:
    sa_merging(taus, score=flow_score(theta_0, flow), T=10, p=p, progress=partial(remember, p=p))
curve = dict(zip(SCALES, curves["Task Arithmetic"], strict=True))
curve |= {a: measure(star, a) for a in (0.02, 0.5, 0.7)}  # Task Arithmetic where the first and the last rounds are

# %%
import numpy as np

curve = dict(sorted(curve.items()))
distance = max(abs(np.interp(a, list(curve), list(curve.values())) - value) for a, value in grid.values())
se.figure(*d06.rounds_as_scale(grid, curve, distance))
se.claim("06.rises_with_T", by=grid[10, 0.2][1] - grid[1, 0.2][1], at_least=8)
se.claim("06.on_one_curve", by=grid[10, 0.2][1] - grid[1, 0.2][1] - distance, at_least=3)

# %% [markdown]
# The trend of the paper is there: with p = 0.2 and lam = 1 accuracy rises with T. But all values of T and p lie near the curve of Task
# Arithmetic, which knows neither T nor p: more rounds mean a smaller sum. And at equal density one round does as well as
# ten (the row *one shot* above). "No search for a scale" is true in the sense that T and p have been chosen instead.

# %%
# QUIZ 06.q3

# %% [markdown]
# ## Where does the choice begin to matter?
#
# A tenth is much. Perhaps the choice matters when less is left? The runs above end at three densities. Beside them three
# random masks each, all at *half* of Task Arithmetic's effective scale: with few entries left the error is larger, and a
# shorter step is better for everybody.

# %%
by_choice, by_chance = [], []
for left, vector in after_10.values():
    random = [(V * (torch.rand(V.shape, generator=g) < left)).sum(dim=0) for g in generators[:3]]
    by_choice.append(fair(vector, A / 2))
    by_chance.append([fair(vector, A / 2) for vector in random])
    se.show(f"06.less.{left:.3f}", by_choice[-1], f"density {left:.3f}, SA-Merging", slack=3.0)
    se.show(f"06.less.random.{left:.3f}", sum(by_chance[-1]) / 3, f"density {left:.3f}, mean of 3 random", slack=3.0)
lines = {"Task Arithmetic": fair(star, A / 2), "base": tested["base"]}
se.figure(*d06.thinner([left for left, _ in after_10.values()], by_choice, by_chance, lines))
ahead = [sum(dots) / 3 - own for dots, own in zip(by_chance, by_choice, strict=True)]
se.claim("06.thinner_chance_ahead", by=sum(ahead) / len(ahead), at_least=0.5)

# %% [markdown]
# The choice does matter, in the wrong direction: chance stays closer to Task Arithmetic. A random mask is *unbiased*, every
# update has the same chance, so the mean over all masks is Task Arithmetic itself, and the errors around it average out. A
# chosen mask always drops the same kind of update, the many small ones, and nothing makes up for that.

# %% [markdown]
# ## A world made for the method
#
# Is the code wrong, or the premise? Build a world in which the premise is true: each expert has a few large updates of its own,
# and small noise everywhere. We know the updates that matter, so we can measure how far a merge is from their sum.


# %%
def world(noise, N=8, share=0.01):
    """Base, true updates and noisy task vectors of N experts on a chain of two layers."""
    g = torch.Generator().manual_seed(1)
    base = {"0.weight": torch.randn(60, 80, generator=g), "1.weight": torch.randn(30, 60, generator=g)}

    def update(v):
        return torch.randn(v.shape, generator=g) * (torch.rand(v.shape, generator=g) < share)

    true = [{k: update(v) for k, v in base.items()} for _ in range(N)]
    noisy = [{k: v + noise * torch.randn(v.shape, generator=g) for k, v in t.items()} for t in true]
    return base, true, noisy


# %%
def total(taus):
    return se.flatten(task_arithmetic(taus))


base, true, noisy = world(noise=0.05)
target, errors = total(true), {}
found = {r: total(sa_merging(noisy, score=flow_score(base, chain_flow, r))) for r in READINGS}
generator = torch.Generator().manual_seed(0)
found["own size, one shot"] = total(sa_merging(noisy, score=magnitude_score(), T=1, p=1 - D))
found["random"] = sum(se.flatten(t) * (torch.rand(len(target), generator=generator) < D) for t in noisy)
for name, vector in {"Task Arithmetic": total(noisy), **found}.items():
    lam = effective_scale(target, vector)  # the best scale, since here we know the target
    errors[name] = ((lam * vector - target).norm() / target.norm()).item()
    print(f"{name:18}  best lam {lam:.2f}   error {errors[name]:.2f}")
se.claim("06.world_abs_wins", by=errors["Task Arithmetic"] - errors["abs"], at_least=0.1, unit="")
se.claim("06.world_size_does_most", by=errors["literal"] - errors["own size, one shot"], at_least=0.05, unit="")
se.claim("06.world_random_fails", by=errors["random"] - errors["Task Arithmetic"], at_least=0.2, unit="")

# %% [markdown]
# Here the mask matters: under abs SA-Merging recovers clearly more of the true updates than the plain sum, its best scale is
# close to 1, and random masks lose nearly everything. (The literal reading gains next to nothing: it drops the updates that
# shrink weights, about half of the true ones.) So the code can win. But look at the row *own size, one shot*: each expert trimmed by
# its own entries, no flow, no sum, no rounds, and it is ahead of literal. Most of what this world shows is that **trimming by
# size pays where updates are sparse**; abs adds a little to it. The question to ask of *your* experts is the one above: do a few
# entries stand out from noise? Measure it before you prune.

# %% [markdown]
# ## When not to use it
#
# * When your task vectors have no large entries that stand out (measure the largest tenth against noise): chance does as well.
# * At lam = 1 without a look at validation data. If you have none at all, compare the effective scale with the one that suits
#   Task Arithmetic on a suite you know.
# * In front of merges that solve for directions (WUDI, TSV-M, Iso-C): in our study it costs them 2 to 9 points at home
#   (`docs/ablations/in-front.md`).
# * When you need fewer numbers to *store* for each expert: its shared mask does save that, and so does any mask.

# %%
# OPEN 06.open

# %% [markdown]
# ## What to remember
#
# * The quota is taken among survivors, or the density stays where it was after a few rounds.
# * Scores that share their aggregate share their mask. Here the eight masks are nearly one.
# * A random mask is unbiased, a chosen one is not. That can cost more than the choice is worth.
# * A mask changes two things, which entries and how far. Compare at equal effective scale, or you compare lengths.
# * Random masks are the cheapest control there is, and shuffled ones the sharpest. Run them before you explain a result.
# * A negative result needs a positive control: in a world where the premise is true, the same code works.
#
# ## Further reading
#
# * Park, Lee, Sohn: *Saliency-Aware Model Merging*, 2026, arXiv:2606.00511. No public code; we know it from its abstract and
#   public notes.
# * Tanaka et al.: *Pruning neural networks without any data*, 2020, arXiv:2006.05467: why in rounds.
# * Yu et al.: *Language models are super Mario* (DARE), 2023, arXiv:2311.03099: random dropping is nearly free.
# * Frankle et al.: *Pruning neural networks at initialization: why are we missing the mark?*, 2020, arXiv:2009.08576:
#   shuffled masks as a control, where they matched the methods as well.
# * Su et al.: *Sanity-checking pruning methods*, 2020, arXiv:2009.11094: the same lesson.
#
# ## Claims
#
# The directions of the paper, as far as they are public, and what we saw. "Here" is one small suite, our stand-in for R.
#
# | claim | status |
# |---|---|
# | Retention after T rounds is $(1-p)^T$ | holds, if the quota is taken among survivors; measured here: `06.density` |
# | Accuracy rises with T, for every p, at the plain sum | holds for p = 0.2, and so does a simpler reason, the sum gets shorter; measured here: `06.rises_with_T`, `06.on_one_curve`, `06.one_shot_as_well` |
# | Pruning in rounds resolves sign conflict | holds for `agreement`, not for the formula read literally; measured here: `06.agreement_resolves` |
# | Structural sensitivity is better than magnitude | not visible: without it the result is about the same, since G hardly varies within a tensor (notebook 04); measured here: `06.sensitivity_not_felt` |
# | Modulation by the aggregate is better than none | not visible, at equal effective scale; measured here: `06.modulation_not_better` |
# | Saliency-guided removal is better than random removal | **does not hold**: random and shuffled masks do as well, and better than `abs` and at lower densities; measured here: `06.chance_does_as_well`, `06.chance_beats_abs`, `06.not_surprising`, `06.thinner_chance_ahead` |
# | The plain sum, lam = 1, beats other data-free merges | does not hold: the sum is so long that the merge is below the base; measured here: `06.plain_sum_below_base`, `06.scale_matters` |
# | SA-Merging helps other merges | not tried in this notebook; in our study it costs at home in front of every merge that solves for directions, and is free and without gain in front of the plain sum (docs/ablations/in-front.md) |
# | At equal effective scale, masks differ little up to their peak, beside what another direction gains | measured here: `06.peaks_alike`, `06.tsv_m_above_all_masks` |
# | Where updates are sparse, a mask pays, and trimming by size has most of it | a made-up world; measured here: `06.world_abs_wins`, `06.world_size_does_most` |
# | With large experts, whose updates are more redundant or have outliers, the mask matters | open: `samerge-edu ablate sa-merging --suite vit-b-32` (this notebook would need much memory there: it keeps every variant) |
