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
# **Needs** notebooks 02, 04 and 05. **Minutes** 40 to read, 60 for the exercises; runs in about a minute on two cores
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


def whole_tensor(S, tau, t, p):
    """The trap: a share of all entries, whatever is left of them."""
    return (S >= S.flatten().quantile(p)) & (tau != 0)


for T in (1, 2, 5, 10, 20):
    trap, ours = (density(prune(small, score, mask, T, 0.2)) for mask in (whole_tensor, survivors))
    print(f"T = {T:2}: density {trap:.2f} over the whole tensor, {ours:.3f} among survivors, (1-p)^T = {0.8**T:.3f}")
mine, package = prune(small, score, survivors, 10, 0.2), sa_merging(small, score=score, T=10, p=0.2)
print("the same as the package:", all(torch.equal(a[k], b[k]) for a, b in zip(mine, package, strict=True) for k in shapes))

# %% [markdown]
# Over the whole tensor the density soon comes to rest, and more rounds change nothing. Among survivors it follows
# $(1-p)^T$, a little above because each tensor rounds up.

# %% [markdown]
# ## Ten rounds on real experts
#
# `sa_merging` calls `progress(t, taus)` after each round. We note what is left, how much of it is in conflict, and how far
# the path strength of the sum is above that of the base. The paper's Figure 3 is about such curves, as far as it is publicly
# known: what is left, rounds, conflict (its accuracy against T comes further down). Here they are drawn from our own
# runs, for the three readings of S.

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
import matplotlib.pyplot as plt

from samerge_edu import plots

figure, axes = plt.subplots(1, 3, figsize=(10, 3))
for reading in READINGS:
    for axis, values in zip(axes, zip(*history[reading], strict=True), strict=True):
        axis.plot(range(11), values, label=reading)
axes[0].set(title="density", xlabel="round", yscale="log", yticks=[0.1, 0.2, 0.5, 1], yticklabels=["0.1", "0.2", "0.5", "1"])
axes[0].minorticks_off()
axes[1].set(title="sign conflict", xlabel="round", ylim=(-0.05, 1.05))
axes[2].set(title="ln R of the sum, above the base", xlabel="round", ylim=(0, 3.2))
axes[2].legend(loc="upper right")
last = {reading: history[reading][-1] for reading in READINGS}
sentence = f"The density falls to {last['literal'][0]:.3f} under every reading, the sign conflict to "
sentence += ", ".join(f"{100 * last[r][1]:.0f} % ({r})" for r in READINGS) + "."
se.figure(plots.titled(figure, sentence), sentence)

# %% [markdown]
# Only *agreement* does what the method's story says: the conflict goes away. Under *literal*, the formula as printed, it
# hardly moves, and R **rises** first: this reading keeps what makes weights larger (notebook 05), so its sum has a path
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
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), width_ratios=(1.7, 1))
for i, (name, m) in enumerate(kept.items()):
    by = torch.bincount(m.sum(dim=0), minlength=len(V) + 1)[1:].double()
    places = [c + 0.16 * (i - 2) for c in range(1, len(V) + 1)]
    left.bar(places, 100 * by / by.sum(), 0.16, label=name, color=plots.COLOURS[i], hatch=plots.HATCHES[i], edgecolor="white")
    right.barh(name, length[name], color=plots.COLOURS[i], hatch=plots.HATCHES[i], edgecolor="white")
left.set(xlabel="number of experts that keep an entry", ylabel="share of all kept entries (%)", ylim=(0, 100))
left.legend(loc="upper center")
right.set(xlabel="length of its task vector that an expert keeps (%)", xlim=(0, 100))
right.invert_yaxis()
for axis in (left, right):
    axis.grid(visible=False)
sentence = f"Each expert keeps {100 * D:.1f} % of its entries; under literal all of them together {union['literal']:.1f} %, "
sentence += f"by random masks {union['random']:.0f} %. A literal mask keeps {length['literal']:.0f} % of an expert's length, "
sentence += f"a random one {length['random']:.0f} %, the largest entries {length['own size']:.0f} %."
se.figure(plots.titled(figure, sentence), sentence)

# %% [markdown]
# So the experts are not taken apart. Under literal and abs SA-Merging finds **one shared mask**, chosen by the sum, and
# from the view of a single expert that mask is nearly blind: it keeps hardly more of the expert's length than chance. We can
# say it shorter: with one mask M for all, $\sum_n M \odot \tau_n = M \odot \tau^*$. That is Task Arithmetic, its sum trimmed.

# %% [markdown]
# ## The first merge, and its scale
#
# The formula ends with a plain sum, lam = 1. Notebook 01 taught you to distrust that.

# %%
from samerge_edu.evaluate import choose_lam, id_average

N = 100  # images a task


def measure(vector, lam, split="val", n=50):
    """ID average of theta_0 + lam * vector."""
    return id_average(suite, se.add(theta_0, se.unflatten(vector, theta_0), lam), split, n)


sums = {"Task Arithmetic": star} | {name: (V * m).sum(dim=0) for name, m in kept.items()}
lams = {}
for name in ("Task Arithmetic", "literal"):
    lams[name], _ = choose_lam(suite, se.unflatten(sums[name], theta_0), n=N)
    se.show(f"06.lam.{name}", lams[name], f"{name}: lam from validation", unit="", digits=2, slack=0.15)
zero_shot = measure(star, 0.0, "test", N)
se.show("06.zero_shot", zero_shot, "test accuracy of the base", slack=2.0)
for name, lam in [*lams.items(), ("literal", 1.0)]:
    what = f"{name}, lam = {lam:g}: test accuracy"
    se.show(f"06.accuracy.{name}.{'1' if lam == 1 else 'chosen'}", measure(sums[name], lam, "test", N), what, slack=3.0)

# %% [markdown]
# At lam = 1 the merge is below the base: eight vectors on the *same* tenth of the entries add up to something far too
# long. With a scale from validation it is about level with Task Arithmetic.

# %% [markdown]
# ## The experiment that would settle it, done badly
#
# The paper's public review names the decisive experiment: **if random masks of equal density do as well, the premise
# fails.** Here is one random mask beside SA-Merging, at the two scales we have.

# %%
for where, lam in (("1", 1.0), ("chosen", lams["literal"])):
    for name in ("literal", "random"):
        se.show(f"06.naive.{name}.{where}", measure(sums[name], lam), f"lam = {lam:g}, {name}", slack=3.0)

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
masks = [name for name in sums if name not in ("TIES", "TSV-M")]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True)
for i, (name, curve) in enumerate(curves.items()):
    look = {"color": plots.COLOURS[i], "marker": plots.MARKERS[i]}
    left.plot([a / e[name] for a in SCALES], curve, label=name, **look)
    right.plot(SCALES, curve, **look)
left.set(xscale="log", xlabel="lam", ylabel="accuracy (%), validation", title="the same curves against lam ...")
right.set(xlabel="effective scale a = lam e", title="... and against the effective scale")
figure.legend(loc="outside right center")
peaks = [max(curves[name]) for name in masks]
gain = max(curves["TSV-M"]) - max(peaks)
sentence = f"At their best effective scale {len(masks)} ways to choose entries differ by {max(peaks) - min(peaks):.1f} points, "
sentence += f"and TSV-M is {gain:.1f} points above the best of them."
se.figure(plots.titled(figure, sentence), sentence)
se.show("06.peaks", max(peaks) - min(peaks), "spread of the peaks of all masks", unit="points", slack=1.5)
se.show("06.gain", gain, "TSV-M above the best mask", unit="points", slack=2.0)

# %% [markdown]
# On the left every method has a curve of its own. On the right the masked merges rise together and peak together, chance
# included (beyond the peak, where everything is too long, `abs` falls sooner). **Whatever the mask, what is felt is its length
# along the plain sum**: on this suite pruning is a way to shrink. What leaves the curve are methods that change the
# direction of the sum as the network feels it: TIES by its elected signs and its mean over those who agree, TSV-M in the
# singular directions (notebook 09).

# %% [markdown]
# ## Why does the network not feel the mask?
#
# First: is there anything to choose? Pruning pays where a few large entries carry the task. How much of a task vector's
# squared length is in its largest tenth, and how much would that be for normally distributed noise?

# %%
noise = torch.randn(V.shape[1], generator=generator)
for label, vector in (("expert", V[0]), ("sum", star), ("noise", noise)):
    largest = vector.abs().topk(int(D * len(vector))).values
    share = 100 * (largest.norm() / vector.norm()).item() ** 2
    se.show(f"06.largest.{label}", share, f"squared length in the largest {100 * D:.1f} %, {label}", slack=1.0)

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
figure, axis = plt.subplots(figsize=(7, 2.8))
for i, (label, column) in enumerate((("in weights", 0), ("in features", 1))):
    places = [n + 0.4 * i - 0.2 for n in range(len(off))]
    axis.bar(places, [o[column] for o in off.values()], 0.4, label=label, hatch=plots.HATCHES[i], edgecolor="white")
axis.axhline(1, color="black", linewidth=1, linestyle=":")
axis.set_xticks(range(len(off)), list(off))
axis.set(ylabel="distance to Task Arithmetic,\nits own way = 1")
axis.grid(axis="x", visible=False)
axis.legend()
sentence = f"The random mask is {off['random'][0]:.1f} times Task Arithmetic's way off in weights, but only {off['random'][1]:.2f} "
sentence += f"in features; TSV-M {off['TSV-M'][0]:.1f} in weights, {off['TSV-M'][1]:.2f} in features."
se.figure(plots.titled(figure, sentence), sentence)

# %% [markdown]
# A huge error in weights, a small one in features: that is a random mask. TIES and TSV-M are the other way about, they are
# *meant* to arrive elsewhere. And compare literal with random: about half the error in weights, and hardly less
# in features. An error that was chosen by a rule does not average out as well as a blind one.

# %% [markdown]
# ## The experiment, done fairly
#
# Now make one thing equal: the effective scale, that of Task Arithmetic at its validated lam. Random masks get no search
# of their own; SA-Merging is shown at this scale *and* at its own validated lam, which can only help it. Two kinds of
# chance, ten masks each:
#
# * **independent**: each expert draws its own mask, as the review asks;
# * **shuffled**: SA-Merging's masks with their places shuffled in each tensor, in the same way for all experts. Density, overlap
#   and tensor sizes are exactly the method's; only the choice of places is gone.
#
# And the ablations: one shot at the same density instead of ten rounds, and one of your choice.

# %%
# EXERCISE 06.4

# %%
WITHOUT = "sensitivity"  # your choice: "sensitivity", "modulation" or "both"


def ablation(taus):
    """A score for the package from yours, tensor by tensor."""
    flows = [flow(se.add(theta_0, tau)) for tau in taus]
    S = {k: ablated(WITHOUT, [tau[k] for tau in taus], [f.gradient(k) for f in flows]) for k in theta_0}
    return [{k: S[k][n] for k in theta_0} for n in range(len(taus))]


one_shot = sa_merging(taus, score=flow_score(theta_0, flow), T=1, p=1 - D)
sums["one shot"] = se.flatten(task_arithmetic(one_shot))
sums[f"without {WITHOUT}"] = se.flatten(task_arithmetic(sa_merging(taus, score=ablation)))

# %%
sizes = [v.numel() for v in theta_0.values()]


def shuffled(m, generator):
    """The masks m (N, d) with places permuted inside each tensor, in the same way for all experts."""
    starts = torch.tensor(sizes).cumsum(0) - torch.tensor(sizes)
    order = torch.cat([s + torch.randperm(n, generator=generator) for s, n in zip(starts, sizes, strict=True)])
    return m[:, order]


def fair(vector, a=A):
    """Test accuracy at a given effective scale, Task Arithmetic's if nothing else is said."""
    return measure(vector, a / effective_scale(vector, star), "test", N)


def independent(generator):
    return torch.rand(V.shape, generator=generator) < D


# %%
generators = [torch.Generator().manual_seed(seed) for seed in range(10)]
chance = {"independent": [fair((V * independent(g)).sum(dim=0)) for g in generators]}

# %%
chance["shuffled"] = [fair((V * shuffled(kept["literal"], g)).sum(dim=0)) for g in generators]
shown = ["literal", "agreement", "abs", "one shot", f"without {WITHOUT}", "Task Arithmetic"]
results = {name: fair(sums[name]) for name in shown}
own = measure(sums["literal"], lams["literal"], "test", N)

# %%
for kind, values in chance.items():
    values = torch.tensor(values)
    se.show(f"06.chance.{kind}", values.mean(), f"ten {kind} random masks, mean", slack=2.0)
    se.show(f"06.chance.{kind}.std", values.std(), "  their standard deviation", unit="points", slack=0.5)
for name, value in results.items():
    se.show(f"06.fair.{name}", value, f"{name}, test accuracy at equal effective scale", slack=2.5)

# %%
figure, axis = plt.subplots(figsize=(8, 3.6))
rows = {**chance, **{name: [value] for name, value in results.items()}}
for i, (name, values) in enumerate(rows.items()):
    look = {"marker": "o" if name in chance else "D", "color": plots.COLOURS[1] if name in chance else plots.COLOURS[0]}
    axis.plot(values, [i] * len(values), linestyle="", markersize=7, alpha=0.7, **look)
axis.axvline(own, color="black", linewidth=1, linestyle=":")
axis.text(own, -0.7, " literal at its own lam", fontsize=8)
axis.set_yticks(range(len(rows)), [f"10 random, {name}" if name in chance else name for name in rows])
axis.set(xlabel="test accuracy (%)", ylim=(len(rows) - 0.5, -1.0))
sentence = f"SA-Merging {results['literal']:.1f} %, at its own scale {own:.1f} %; ten random masks {min(chance['independent']):.1f} to "
sentence += f"{max(chance['independent']):.1f} %, ten shuffled ones {min(chance['shuffled']):.1f} to {max(chance['shuffled']):.1f} %."
se.figure(plots.titled(figure, sentence), sentence)

# %% [markdown]
# Compare each ablation with the row that it is made from: *one shot* with *literal*, *without ...* with *abs*. And keep in mind
# that two standard errors of a single number are about three points (the rows share their images, so differences
# between them are a little more certain than that).
#
# How surprising is the method's place among the random masks?

# %%
# EXERCISE 06.5

# %%
best_of_two = max(own, results["literal"])
for kind, values in chance.items():
    share = surprise(best_of_two, values)
    se.show(f"06.surprise.{kind}", share, f"share at least as good, {kind} masks", unit="", digits=2, slack=0.3)

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
ROUNDS, SHARES = (1, 2, 4, 7, 10), (0.2, 0.3, 0.4)
grid, after_10 = {}, {}


def remember(t, left, p):
    if t in ROUNDS:
        vector = se.flatten(task_arithmetic(left))
        a = effective_scale(vector, star)
        grid[t, p] = density(left), 100 * sign_conflict(left), a, measure(vector, 1.0)
        after_10[p] = vector  # of the last round noted


for p in SHARES:
    sa_merging(taus, score=flow_score(theta_0, flow), T=10, p=p, progress=partial(remember, p=p))
for T in (1, 4, 10):
    se.show(f"06.grid.{T}", grid[T, 0.2][3], f"T = {T:2}, p = 0.2, lam = 1: accuracy", slack=3.0)
far = (0.5, 0.7)  # Task Arithmetic at the effective scales of the first rounds
reference = [*SCALES, *far], [*curves["Task Arithmetic"], *(measure(star, a) for a in far)]


# %%
def draw(T, p):
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3), dpi=75)
    left.plot(ROUNDS, [100 * grid[t, p][0] for t in ROUNDS], label="density (%)", color=plots.COLOURS[0], marker="o")
    left.plot(ROUNDS, [grid[t, p][1] for t in ROUNDS], label="sign conflict (%)", color=plots.COLOURS[1], marker="s")
    left.plot(ROUNDS, [grid[t, p][3] for t in ROUNDS], label="accuracy, lam = 1 (%)", color=plots.COLOURS[2], marker="^")
    left.axvline(T, color="black", linewidth=1, linestyle=":")
    left.set(xlabel="T", ylim=(0, 165), yticks=range(0, 101, 25))
    left.legend(fontsize=8, loc="upper right")
    right.plot(*reference, color="0.5", marker="", label="Task Arithmetic")
    right.plot([g[2] for g in grid.values()], [g[3] for g in grid.values()], "o", color="0.7", label="all T and p")
    right.plot(grid[T, p][2], grid[T, p][3], "*", markersize=14, color=plots.COLOURS[2], label=f"T = {T}, p = {p}")
    right.set(xlabel="effective scale", ylim=(0, 165), yticks=range(0, 101, 25))
    right.legend(fontsize=8, loc="upper right")
    return plots.titled(figure, says(T, p))


def says(T, p):
    left, conflict, a, accuracy = grid[T, p]
    sentence = f"T = {T}, p = {p}: density {left:.3f}, sign conflict {conflict:.0f} %, effective scale {a:.2f}, "
    return sentence + f"accuracy {accuracy:.0f} % at lam = 1."


presets = [{"T": 1, "p": 0.2}, {"T": 10, "p": 0.2}, {"T": 10, "p": 0.3}, {"T": 10, "p": 0.4}]
se.explore(draw, presets, says, T=list(ROUNDS), p=list(SHARES))

# %% [markdown]
# The trend of the paper is there: at lam = 1 accuracy rises with T. But look at the right side: all values of T and p lie on
# the curve of Task Arithmetic, which knows neither T nor p. More rounds mean a smaller sum. At equal density, T = 1 does as
# well as T = 10 (the row *one shot* above). "No search for a scale" is true in the sense that T and p have been chosen instead.

# %%
# QUIZ 06.q3

# %% [markdown]
# ## Where does the choice begin to matter?
#
# A tenth is much. Perhaps the choice matters when less is left? The runs above end at three densities. Beside them three
# random masks each, all at *half* of Task Arithmetic's effective scale: with few entries left the error is larger, and a
# shorter step is better for everybody.

# %%
half = fair(star, A / 2)
se.show("06.less.star", half, "Task Arithmetic, half its effective scale", slack=2.5)
by_choice = {p: fair(vector, A / 2) for p, vector in after_10.items()}
by_chance = {}
for p in SHARES:
    left = grid[10, p][0]
    random = [(V * (torch.rand(V.shape, generator=g) < left)).sum(dim=0) for g in generators[:3]]
    by_chance[p] = [fair(vector, A / 2) for vector in random]
    se.show(f"06.less.{p}", by_choice[p], f"density {left:.3f}, SA-Merging", slack=3.0)
    se.show(f"06.less.random.{p}", sum(by_chance[p]) / 3, f"density {left:.3f}, mean of 3 random", slack=3.0)

# %%
figure, axis = plt.subplots(figsize=(7, 3))
left = [grid[10, p][0] for p in SHARES]
for n in range(3):
    dots = [by_chance[p][n] for p in SHARES]
    axis.plot(left, dots, linestyle="", marker="o", color=plots.COLOURS[1], label="random" if n == 0 else None)
axis.plot(left, list(by_choice.values()), "D-", color=plots.COLOURS[0], label="SA-Merging")
for height, name in ((half, "Task Arithmetic"), (zero_shot, "base")):
    axis.axhline(height, color="black", linewidth=1, linestyle=":")
    axis.text(left[-1], height + 0.3, name, fontsize=8)
axis.set(xscale="log", xlabel="density", ylabel="test accuracy (%)")
axis.legend(loc="center right", bbox_to_anchor=(1, 0.3))
above = sum(r > by_choice[p] for p in SHARES for r in by_chance[p])
sentence = f"{above} of {3 * len(SHARES)} random masks are above SA-Merging at their density; at {left[1]:.3f} it has "
sentence += f"{by_choice[0.3]:.1f} %, they have {min(by_chance[0.3]):.1f} to {max(by_chance[0.3]):.1f} %."
se.figure(plots.titled(figure, sentence), sentence)

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


def total(taus):
    return se.flatten(task_arithmetic(taus))


base, true, noisy = world(noise=0.05)
target, errors = total(true), {}
found = {r: total(sa_merging(noisy, score=flow_score(base, chain_flow, r))) for r in READINGS}
generator = torch.Generator().manual_seed(0)
found["random"] = sum(se.flatten(t) * (torch.rand(len(target), generator=generator) < D) for t in noisy)
for name, vector in {"Task Arithmetic": total(noisy), **found}.items():
    lam = effective_scale(target, vector)  # the best scale, since here we know the target
    errors[name] = ((lam * vector - target).norm() / target.norm()).item()
    print(f"{name:15}  best lam {lam:.2f}   error {errors[name]:.2f}")

# %% [markdown]
# Here everything is as in the paper's story: SA-Merging recovers more of the true updates than the plain sum, under abs its
# best scale is close to 1, and random masks lose nearly everything. (The literal reading gains least: it drops the
# updates that shrink weights, half of the true ones.) So the code can win, where the premise holds. The question to ask of
# *your* experts is the one above: do a few entries stand out from noise? Measure it before you prune.

# %% [markdown]
# ## In front of other merges
#
# SA-Merging is a transform: it returns N task vectors, and any merge can follow. In a program of your own you would write
# `pipe(partial(sa_merging, score=score), ties)`. Here its result is at hand, so the first step just returns it.

# %%
from samerge_edu.merges.wudi import wudi_flow
from samerge_edu.transforms.dare import dare


def sa(taus):
    return pruned["literal"]


drop = partial(dare, generator=torch.Generator().manual_seed(0))
pairs = {
    "TIES": (ties, se.pipe(sa, partial(ties, density=1.0))),  # density 1: SA-Merging has trimmed already
    "DARE": (se.pipe(drop, task_arithmetic), se.pipe(sa, drop, task_arithmetic)),
    "WUDI": (wudi_flow, se.pipe(sa, wudi_flow)),
}
combined = {}
for name, both in pairs.items():
    for label, merge in zip(("alone", "after SA"), both, strict=True):
        tau_m = merge(taus)
        lam, _ = choose_lam(suite, tau_m, (0.18, 0.3, 0.56, 1.0, 1.8, 3.2), n=50)  # a coarse grid, to be quick
        combined[name, label] = id_average(suite, se.add(theta_0, tau_m, lam), "test", N)
        se.show(f"06.pipe.{name}.{label}", combined[name, label], f"{name} {label}, lam = {lam:g}", slack=3.0)

# %%
figure, axis = plt.subplots(figsize=(7, 2.6))
for i, label in enumerate(("alone", "after SA")):
    places = [n + 0.4 * i - 0.2 for n in range(len(pairs))]
    heights = [combined[name, label] for name in pairs]
    axis.bar(places, heights, 0.4, label=label, hatch=plots.HATCHES[i], edgecolor="white")
    for place, height in zip(places, heights, strict=True):
        axis.text(place, height + 1, f"{height:.1f}", ha="center", fontsize=8)
axis.axhline(zero_shot, color="black", linewidth=1, linestyle=":")
axis.set_xticks(range(len(pairs)), list(pairs))
axis.set(ylabel="test accuracy (%)", ylim=(0, 100))
axis.grid(axis="x", visible=False)
axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
changes = {name: combined[name, "after SA"] - combined[name, "alone"] for name in pairs}
sentence = "SA-Merging in front changes " + ", ".join(f"{name} by {c:+.1f}" for name, c in changes.items()) + " points."
se.figure(plots.titled(figure, sentence), sentence)

# %% [markdown]
# In front of TIES and DARE the change is of the size of sampling error (two standard errors of one number are about three
# points; the leaderboard has the whole test split). In front of WUDI it costs much more: WUDI solves for
# directions, and a mask that is blind to directions destroys what it solves with.

# %% [markdown]
# ## When not to use it
#
# * When your task vectors have no large entries that stand out (measure the largest tenth against noise): any mask will do.
# * At lam = 1 without a look at validation data. If you have none at all, compare the effective scale with the one that suits
#   Task Arithmetic on a suite you know.
# * In front of methods that work in singular directions or solve least squares.
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
# | Retention after T rounds is $(1-p)^T$ | holds, if the quota is taken among survivors; measured here |
# | Accuracy rises with T, for every p, at the plain sum | holds here, and so does a simpler reason: the sum gets shorter. At equal density one shot does as well |
# | Pruning in rounds resolves sign conflict | holds for `agreement`, not for the formula read literally; measured here |
# | Structural sensitivity is better than magnitude | not visible here: without it the result is the same, since G hardly varies within a tensor (notebook 04) |
# | Modulation by the aggregate is better than none | not visible here, at equal effective scale (`own size` has neither modulation nor sensitivity) |
# | Saliency-guided removal is better than random removal | **does not hold here**: ten random and ten shuffled masks do as well, within a point or two; at lower densities three random masks do better |
# | The plain sum, lam = 1, beats other data-free merges | does not hold here: the sum is so long that the merge is below the base |
# | SA-Merging helps other merges | not visible here; it harms WUDI |
# | At equal effective scale, all masks are one curve | measured here, one seed of each, eight experts |
# | With large experts, whose updates are more redundant or have outliers, the mask matters | open: `samerge-edu ablate sa-merging --suite vit-b-32` (this notebook would need much memory there: it keeps every variant) |
