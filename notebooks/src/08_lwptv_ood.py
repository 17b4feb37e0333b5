# %% [markdown]
# # 08 LwPTV: what a merged model loses abroad, and how to get it back
#
# **You will be able to**
#
# * measure how fine-tuning and merging distort a model on tasks that no expert saw (OOD);
# * compute Eq. 5 of LwPTV and its shared mask by hand, and put LwPTV in front of any merge;
# * compare two methods as curves in the ID/OOD plane instead of as two lucky points;
# * run a shuffle test, and say from it what a saliency score contributes, and what it does not.
#
# **Needs** notebooks 01 and 02. **Minutes** {reading} to read, {exercises} for the exercises; runs in about 45 s on two cores (pocket
# suite). On Colab: File, Save a copy in Drive, before you start.

# %%
from dataclasses import replace
from functools import partial

from torch.nn import functional as F

from samerge_edu.course.drawings import d08
from samerge_edu.evaluate import choose_lam, h_score, scores
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.merges.ties import ties
from samerge_edu.transforms.lwptv import lwptv

suite = se.load_suite(lab.suite)
thetas = [dict(theta) for theta in suite.experts.values()]
taus = se.task_vectors(suite.theta_0, thetas)
IMAGES, IMAGES_VAL = 60, 100  # a task: for reporting (test), and for every choice (validation)


def mean(values):
    return sum(values) / len(values)


# %%
def id_ood(theta, suite=suite):
    """ID and OOD average on test, in percent."""
    per_task = scores(suite, theta, "test", [*suite.id_tasks, *suite.ood_tasks], n=IMAGES)
    return mean([per_task[t] for t in suite.id_tasks]), mean([per_task[t] for t in suite.ood_tasks])


# %% [markdown]
# ## Fine-tuning distorts
#
# An expert is trained on one task, and nobody watches the rest. Take images of the six tasks abroad, encode them with the
# base and with each expert, and compare: the cosine between the two features of the same image (1 = nothing moved) and
# the zero-shot accuracy that is left.

# %%
images, labels = zip(*(suite.images(task, "test", IMAGES) for task in suite.ood_tasks), strict=True)
z_base = suite.encode(suite.theta_0, torch.cat(images))


def abroad(theta):
    """On the OOD images: mean cosine between a model's features and the base's, and OOD average in percent."""
    z = suite.encode(theta, torch.cat(images))
    right = [
        (z_task @ suite.heads[task].T).argmax(dim=1) == y
        for task, z_task, y in zip(suite.ood_tasks, z.split([len(y) for y in labels]), labels, strict=True)
    ]
    return (z * z_base).sum(dim=1).mean().item(), mean([100 * r.double().mean().item() for r in right])


experts_abroad = {task: abroad(theta) for task, theta in zip(suite.id_tasks, thetas, strict=True)}
cosines = {task: cosine for task, (cosine, _) in experts_abroad.items()}
left = {task: accuracy for task, (_, accuracy) in experts_abroad.items()} | {"base": abroad(suite.theta_0)[1]}
se.show("08.base_ood", left["base"], "OOD average of the base", slack=1.5)
se.show("08.experts_ood", mean([left[t] for t in suite.id_tasks]), "OOD average of the experts", slack=2.0)
se.show("08.cosine", mean(list(cosines.values())), "cosine with the base's features", unit="", digits=2, slack=0.03)

# %%
se.figure(*d08.distorted(cosines, left))
se.claim("08.experts_lose_abroad", by=left["base"] - mean([left[t] for t in suite.id_tasks]), at_least=8)
se.claim("08.features_move", by=1 - mean(list(cosines.values())), at_least=0.1, unit="in cosine")

# %% [markdown]
# This is **feature distortion**. The text heads still stand where they stood; the image features have walked away from
# them. And merging *adds up* eight such walks. Notebook 01 has shown the price; here it is once more, as two numbers and
# their harmonic mean, which is high only if both are high:
#
# $$H = \frac{2 \cdot \mathrm{ID} \cdot \mathrm{OOD}}{\mathrm{ID} + \mathrm{OOD}}$$

# %%
tau_sum = task_arithmetic(taus)
by_lam = {lam: id_ood(se.add(suite.theta_0, tau_sum, lam)) for lam in (0.0, 0.18, 0.3)}
for lam, (home, out) in by_lam.items():
    se.show(f"08.ta_id.{lam}", home, f"Task Arithmetic, lam = {lam}: ID", slack=2.0)
    se.show(f"08.ta_ood.{lam}", out, f"Task Arithmetic, lam = {lam}: OOD", slack=2.5)
    se.show(f"08.ta_h.{lam}", h_score(home, out), f"Task Arithmetic, lam = {lam}: H", slack=2.0)
se.claim("08.sum_loses_abroad", by=by_lam[0.0][1] - by_lam[0.3][1], at_least=10)

# %% [markdown]
# ## The mean task vector
#
# LwPTV (Zhang et al., 2025) asks which *layers* of the task vectors are worth their price. Its yardstick is the mean over
# the tasks, and the L1 distance of each task from it:
#
# $$\bar\tau = \frac{1}{N}\sum_{n=1}^{N} \tau_n \qquad\qquad S_n^l = \left\| \tau_n^l - \bar\tau^l \right\|_1 \quad\text{(Eq. 5)}$$
#
# A layer that every task changes in the same way has S = 0: it says nothing of any *one* of them, and the paper calls it
# redundant. Two tasks, three layers, two numbers each:

# %%
tau_1 = {"front": torch.tensor([1.0, 1.0]), "middle": torch.tensor([3.0, 0.0]), "end": torch.tensor([0.0, 4.0])}
tau_2 = {"front": torch.tensor([1.0, 1.2]), "middle": torch.tensor([1.0, 0.0]), "end": torch.tensor([4.0, 0.0])}
for layer in tau_1:
    tau_bar = (tau_1[layer] + tau_2[layer]) / 2
    S_1, S_2 = ((tau[layer] - tau_bar).abs().sum().item() for tau in (tau_1, tau_2))
    print(f"{layer:<7} mean {[round(x, 1) for x in tau_bar.tolist()]}   S_1 = {S_1:.1f}   S_2 = {S_2:.1f}")

# %% [markdown]
# Check the middle layer by hand: the mean is (2, 0), the first task is 1 away in one entry. The end has the highest S,
# though the two updates there point in *different* directions: S measures difference, not agreement.
#
# The paper does not say whether the distance is summed or averaged over a layer's entries. A sum ranks layers by their
# size: a bias of 160 numbers would always lose against a matrix of 100,000. We take the mean, and make it an argument.

# %%
# EXERCISE 08.1

# %%
# QUIZ 08.q1

# %% [markdown]
# ## The shared mask
#
# Each task prunes the share $\eta$ of layers with the lowest S; $\eta = 0.7$ in the paper. Then the masks are joined: a
# layer stays for **all** tasks if **any** task keeps it.
#
# $$M^l = m_1^l \vee \dots \vee m_N^l \qquad\qquad \hat\tau_n^l = M^l\, \tau_n^l$$
#
# Three layers, $\eta = 2/3$: each task of the toy above keeps one layer, both name the end, and front and middle go back
# to the base.

# %%
# EXERCISE 08.2

# %% [markdown]
# On the suite's experts a layer is a tensor of the state dict. Our two functions against the package's:

# %%
from samerge_edu.transforms.lwptv import shared_mask as mask_of_the_package

S_by_name = layer_saliency(taus)
names = list(S_by_name)
S = torch.stack([S_by_name[name] for name in names], dim=1)  # (N, L)
M = dict(zip(names, shared_mask(S, eta=0.7).tolist(), strict=True))
theirs = mask_of_the_package(S_by_name, eta=0.7)
kept = sum(M.values())
print("our mask is the package's:", all(M[name] == bool(theirs[name][0]) for name in names))
se.show("08.layers", kept, f"of {len(names)} layers, the shared mask keeps", unit="", digits=0, slack=1.0)
share = sum(taus[0][k].numel() for k in names if M[k]) / sum(taus[0][k].numel() for k in names)
se.show("08.entries", 100 * share, "and of all numbers", slack=3.0)
se.claim("08.or_keeps_more", by=kept - 0.3 * len(names), at_least=10, unit="layers")

# %% [markdown]
# Each task keeps 30 % of the layers, but through the OR many more stay. Where? Rows are the kinds of tensors, columns the
# depth; the number says how many of the tasks want to keep the layer, and a grey cell is pruned for all. Below the line: tensors outside the blocks.

# %%
own = torch.stack([shared_mask(S_n[None], 0.7) for S_n in S])  # (N, L): each task's mask by itself
votes = dict(zip(names, own.sum(dim=0).tolist(), strict=True))
se.figure(*d08.mask_map(M, votes, len(taus)))

# %% [markdown]
# The pruned layers of the merged model *are* the base's, to the last bit:

# %%
merged = se.add(suite.theta_0, se.pipe(lwptv, task_arithmetic)(taus), 0.3)
print("bitwise the base:", all(torch.equal(merged[k], suite.theta_0[k]) for k in names if not M[k]))

# %% [markdown]
# ## At home against abroad, with and without
#
# A single pair of numbers at a single lam proves little: Task Arithmetic with a smaller lam also wins back something
# abroad. So draw the whole curve over lam for both, and ask which one lies further out. `grid` is computed once; for
# Task Arithmetic, masking the sum is the same as summing the masked, so that one sum serves all masks.

# %%
LAMS = [0.13, 0.18, 0.24, 0.3, 0.42]
ETAS = [0.0, 0.5, 0.7, 0.8, 0.9]


def masked(tau, M):
    """The layers with M = 0 set to zero."""
    return {name: tau[name] if M[name] else torch.zeros_like(tau[name]) for name in tau}


def lwptv_sum(eta):
    return masked(tau_sum, dict(zip(names, shared_mask(S, eta=eta).tolist(), strict=True)))


grid = {(eta, lam): id_ood(se.add(suite.theta_0, lwptv_sum(eta), lam)) for eta in ETAS for lam in LAMS}
grid |= {(1.0, lam): by_lam[0.0] for lam in LAMS}  # everything given back: the base
chosen = {}
for eta in (0.0, 0.7):
    lam, _ = choose_lam(suite, lwptv_sum(eta), LAMS, n=IMAGES_VAL)  # may lie between two of LAMS
    chosen[eta] = id_ood(se.add(suite.theta_0, lwptv_sum(eta), lam))
    se.show(f"08.lam.{eta}", lam, f"eta = {eta}: lam from validation", unit="", digits=2, slack=0.1)

# %%
both = {0.0: "Task Arithmetic", 0.7: "LwPTV + TA"}
lines = {name: {lam: grid[eta, lam] for lam in LAMS} for eta, name in both.items()}
se.figure(*d08.curves(lines, {name: chosen[eta] for eta, name in both.items()}, by_lam[0.0]))
for eta, name in both.items():
    for value, what in zip(chosen[eta], ("ID", "OOD"), strict=True):
        se.show(f"08.chosen.{eta}.{what}", value, f"{name} at its validated lam: {what}", slack=2.5)
se.claim("08.too_large_does_less_harm", by=grid[0.7, 0.42][1] - grid[0.0, 0.42][1], at_least=15)
by_lam_alone = max(out for _, out in lines["LwPTV + TA"].values()) - min(out for _, out in lines["LwPTV + TA"].values())
se.claim("08.scale_hardly_matters", by=grid[0.0, 0.13][1] - grid[0.0, 0.42][1] - by_lam_alone, at_least=15)

# %% [markdown]
# Two readings. **At the circles**, what a user would get: compare both coordinates, and remember that 60 images a task
# leave an uncertainty of one to two points. **Along the curves**: Task Arithmetic falls off a cliff abroad when lam is too
# large; with LwPTV the scale matters far less there. That is the larger effect of the two, and in practice the more useful
# one: who has no validation images for lam gets hurt less. The features say the same, at lam = 0.3:

# %%
for eta, name in both.items():
    cosine, _ = abroad(se.add(suite.theta_0, lwptv_sum(eta), 0.3))
    se.show(f"08.cosine.{eta}", cosine, f"cosine with the base's features, {name}", unit="", digits=2, slack=0.03)

# %% [markdown]
# ## Turn eta
#
# The paper: around $\eta = 0.3$ one has the plain merge, from 0.8 on the model moves towards the base: OOD high, ID low.
# Before you turn: do you expect a smooth slope between the two?


# %%
kept_at = {eta: int(shared_mask(S, eta=eta).sum()) for eta in (*ETAS, 1.0)}
presets = [{"eta": eta, "lam": 0.3} for eta in (0.0, 0.5, 0.7, 0.9)]
se.explore(partial(d08.turned, grid, kept_at, len(names)), presets=presets, eta=[*ETAS, 1.0], lam=LAMS)
se.claim("08.a_step", by=grid[0.7, 0.3][1] - grid[0.5, 0.3][1], at_least=10)

# %% [markdown]
# No slope, but a step, between two settings of $\eta$. At 0.5 many layers have been given back and OOD is where it was; then
# a few layers more change it. Which ones?
#
# ## Which layer did it?
#
# Between $\eta = 0.5$ and $0.7$ the mask loses a handful of layers. Give them back to the base **one at a time**, all
# other layers merged as before, at lam = 0.3.

# %%
before, after = lwptv_sum(0.5), lwptv_sum(0.7)
given_back = [name for name in names if before[name].any() and not after[name].any()]
alone = {}
for name in given_back:
    alone[name] = id_ood(se.add(suite.theta_0, masked(tau_sum, {k: k != name for k in names}), 0.3))
culprit = max(alone, key=lambda name: alone[name][1])
se.figure(*d08.one_at_a_time(grid[0.0, 0.3], alone, grid[0.7, 0.3], culprit))

# %% [markdown]
# And the counter-test: LwPTV's mask, but with that one layer merged.

# %%
spared = id_ood(se.add(suite.theta_0, masked(tau_sum, M | {culprit: True}), 0.3))
se.show("08.alone", alone[culprit][1], f"OOD, only {culprit} given back", slack=3.0)
se.show("08.spared", spared[1], f"OOD, all of LwPTV's layers but {culprit} given back", slack=3.0)
se.show("08.full", grid[0.7, 0.3][1], "OOD, all of LwPTV's layers given back", slack=3.0)
se.claim("08.one_tensor", by=alone[culprit][1] - spared[1], at_least=10)
se.claim("08.one_tensor_is_nearly_all", by=alone[culprit][1] - grid[0.7, 0.3][1], at_least=-4)


# %%
def growth(name):
    """|sum tau| / sqrt(sum |tau|^2): 1 if the tasks are orthogonal in this layer, sqrt(N) if they are equal."""
    return (tau_sum[name].norm() / torch.stack([tau[name].norm() for tau in taus]).norm()).item()


se.show("08.growth", growth(culprit), f"growth of the sum in {culprit}", unit="", digits=2, slack=0.05)
usual = torch.tensor([growth(name) for name in names]).median().item()
se.show("08.growth_median", usual, "median over all layers", unit="", digits=2, slack=0.05)
se.claim("08.bent_alike", by=growth(culprit) - usual, at_least=0.1, unit="")

# %% [markdown]
# On this suite the effect of LwPTV abroad is, nearly all of it, the effect of *one tensor*: `conv1.weight`, the patch
# embedding, through which every image enters. One possible reason: the tasks bend it in similar directions (its growth
# is above the usual one), so that the sum bends it further than any task wanted, and everything behind it sees distorted
# patches. That would fit the paper's argument that *what all tasks share is better left to the base*. But it is a reason
# found afterwards, for one layer of one small ViT. It leaves the question: did Eq. 5 **find** the layer, or did it just
# give back so many layers that this one was among them?
#
# ## The shuffle test
#
# If the scores carry information, then the same scores on the wrong layers must do worse. Keep everything: the numbers,
# the rule, the count of layers. Break only the link between score and layer.

# %%
# EXERCISE 08.3

# %% [markdown]
# How often will a shuffle give the patch embedding back by chance?

# %%
# EXERCISE 08.4

# %%
given_back = len(M) - sum(M.values())
predicted = chance_given_back(given_back, len(M))
se.show("08.chance", 100 * predicted, f"chance that a shuffle gives {culprit} back", slack=3.0)

# %% [markdown]
# **Before you run the next cell, write down:** in how many of eleven draws do you expect that? And what will the results
# look like then: one cloud, or two?

# %%
draws = []
for seed in range(11):
    S_wrong = shuffled(S, torch.Generator().manual_seed(seed))
    M_wrong = dict(zip(names, shared_mask(S_wrong, eta=0.7).tolist(), strict=True))
    result = id_ood(se.add(suite.theta_0, masked(tau_sum, M_wrong), 0.3))
    draws.append((*result, M_wrong[culprit], sum(M_wrong.values())))
print("layers kept by every draw as by LwPTV:", all(d[3] == sum(M.values()) for d in draws))

# %%
given, merged = ([d[:2] for d in draws if d[2] == is_merged] for is_merged in (False, True))
se.figure(*d08.shuffles(given, merged, grid[0.7, 0.3], grid[0.0, 0.3], culprit, predicted * len(draws)))
abroad_given = mean([out for _, out in given])
se.claim("08.two_clouds", by=abroad_given - mean([out for _, out in merged]), at_least=10)
se.claim("08.shuffled_as_good_abroad", by=abroad_given - grid[0.7, 0.3][1], at_least=-2)
se.claim("08.real_ahead_at_home", by=grid[0.7, 0.3][0] - mean([home for home, _ in given]), at_least=0.5)


# %%
def p_value(real, by_chance):
    """How often chance does as well, the real mask being one of the draws (exercise 06.5)."""
    return (1 + sum(x >= real for x in by_chance)) / (1 + len(by_chance))


real, by_chance = grid[0.7, 0.3], [d[:2] for d in draws]
for what, number in (
    ("ID", p_value(real[0], [d[0] for d in by_chance])),
    ("OOD", p_value(real[1], [d[1] for d in by_chance])),
    ("H", p_value(h_score(*real), [h_score(*d) for d in by_chance])),
):
    se.show(f"08.p.{what}", number, f"share of draws at least as good, {what}", unit="", digits=2, slack=0.17)
print(f"the smallest that {len(draws)} draws can show: {1 / (1 + len(draws)):.2f}")

# %% [markdown]
# ### A question to answer in writing
#
# In five sentences: *what does this test say about LwPTV's saliency score, and what would you need to say more?* Use the
# three numbers for ID, OOD and H, and the two clouds.
#
# <details><summary>One possible answer</summary>
#
# Abroad the shuffled masks form two clouds, and what separates them is one layer; the average gain of LwPTV over
# shuffles therefore mostly says that LwPTV gave that layer back and a part of the shuffles did not. Given the layer, a
# random mask does about as well *abroad*. At *home* the real mask is ahead of the draws' average, so the score may do something
# there: it prunes layers which the tasks need less. But a share of 1/12 is the smallest that eleven draws can give, and
# not as small as the usual 0.05: with nineteen draws "none was as good" would reach it. And each draw
# should get its own lam: lam = 0.3 suits LwPTV and is too large for the masks that keep the patch embedding, which makes
# them look worse than they are. `samerge-edu ablate lwptv` does both, with 19 draws: none is as good at home, 8 are as good
# abroad. To say more about the *score* one needs suites in which several layers matter, and a comparison with simpler
# scores. The next cell is one.
#
# </details>
#
# ## Distance from the mean, or simply size?
#
# Eight task vectors that are nearly orthogonal (notebook 01) have a mean that is small beside each of them. What is then
# the distance from the mean?

# %%
size = torch.stack([torch.stack([tau[name].abs().mean() for tau in taus]) for name in names], dim=1)  # (N, L)
same = (shared_mask(size, eta=0.7) == shared_mask(S, eta=0.7)).float().mean().item()
correlation = torch.corrcoef(torch.stack([S.flatten(), size.flatten()]))[0, 1]
se.show("08.size_corr", correlation, "correlation of S and mean |tau|", unit="", digits=2, slack=0.02)
se.show("08.size_mask", 100 * same, "layers on which a mask by size is LwPTV's mask", slack=3.0)

se.figure(*d08.own_or_size(size, S, 100 * same))
se.claim("08.mask_by_size", by=100 * same, at_least=90, unit="% of the layers")

# %% [markdown]
# So for many dissimilar tasks Eq. 5 is nearly magnitude pruning of whole layers under another name. The reference to the mean
# can only matter where the mean is *large*, that is, where tasks are similar.
#
# ## A similar pair and a dissimilar pair
#
# `pocket-similar` holds two experts of nearly the same task. Beside them, the two of our own experts with the lowest
# cosine. With two tasks something happens to the shared mask: the mean lies exactly half way, so both tasks are equally
# far from it in every layer, they name the same layers, and the OR adds nothing. Predict, before you run: how many of
# the layers stay?


# %%
def look_at(suite, label):
    """What the two task vectors share, and what that does to S and to the mask."""
    taus = se.task_vectors(suite.theta_0, [dict(theta) for theta in suite.experts.values()])
    together = F.cosine_similarity(*(se.flatten(tau) for tau in taus), dim=0)
    se.show(f"08.{label}.cos", together, f"{label}: cosine of the two task vectors", unit="", digits=2, slack=0.03)
    S = layer_saliency(taus)
    own = sum(s.sum() for s in S.values()) / sum(tau[k].abs().mean() for tau in taus for k in tau)
    se.show(f"08.{label}.own", own, f"{label}: S as a share of the size", unit="", digits=2, slack=0.03)
    kept = dict(zip(S, shared_mask(torch.stack(list(S.values()), dim=1), eta=0.7).tolist(), strict=True))
    print(f"{label}: {sum(kept.values())} of {len(S)} layers stay; {culprit} is given back:", not kept[culprit])


# %%
PAIR_LAMS = [0.3, 0.56, 1.0]


def compare(suite, label):
    """Task Arithmetic with and without LwPTV, at the lam chosen on validation and at lam = 1: (ID, OOD) of each."""
    results = {}
    taus = se.task_vectors(suite.theta_0, [dict(theta) for theta in suite.experts.values()])
    for name, method in (("TA", task_arithmetic), ("LwPTV + TA", se.pipe(lwptv, task_arithmetic))):
        lam, _ = choose_lam(suite, method(taus), PAIR_LAMS, n=IMAGES_VAL)
        for where, lam in (("validated", lam), ("full", 1.0)):
            results[name, where] = id_ood(se.add(suite.theta_0, method(taus), lam), suite)
            for value, what in zip(results[name, where], ("ID", "OOD"), strict=True):
                says = f"{label}, {name}, {where} lam: {what}"
                se.show(f"08.{label}.{name}.{where}.{what}", value, says, slack=3.0)
    return results


def gain(results, where, what=1):
    """What LwPTV changes abroad (what=1) or at home (what=0), in points."""
    return results["LwPTV + TA", where][what] - results["TA", where][what]


# %%
V = F.normalize(torch.stack([se.flatten(tau) for tau in taus]), dim=1)
n, m = divmod(int((V @ V.T).argmin()), len(taus))
print("the pair with the lowest cosine:", suite.id_tasks[n], "and", suite.id_tasks[m])
apart = replace(suite, experts={t: suite.experts[t] for t in (suite.id_tasks[n], suite.id_tasks[m])})
look_at(apart, "dissimilar")
dissimilar = compare(apart, "dissimilar")
se.claim("08.dissimilar_at_full_scale", by=gain(dissimilar, "full"), at_least=15)

# %%
if suite.name == "pocket":
    close = se.load_suite("pocket-similar")
    look_at(close, "similar")
    similar = compare(close, "similar")
    se.claim("08.similar_at_full_scale", by=gain(similar, "full"), at_least=15)
    se.claim("08.similar_gains", by=gain(similar, "validated"), at_least=5)
    others = max(gain(dissimilar, "validated"), chosen[0.7][1] - chosen[0.0][1])  # the other pair, and all eight
    se.claim("08.similar_gains_more", by=gain(similar, "validated") - others, at_least=3)
    se.claim("08.similar_at_home", by=-abs(gain(similar, "validated", 0)), at_least=-2)

# %% [markdown]
# In the similar pair S is a much smaller share of the size: the two share a good part of what they changed. At full scale,
# lam = 1, LwPTV wins back much abroad in *both* pairs, and in both the patch embedding is among the layers given back. At the
# validated lam the two part: **the similar pair gains abroad at an equal ID, the largest gain at a validated scale in this
# notebook**, the dissimilar one much less. A reason that fits: what two similar experts share points the same way, so their
# sum pushes it twice as far, and validation at home does not notice, for at home that direction is right. Two pairs are few;
# the study has three similar pairs (OOD +7.0, spread 0.8) and 28 others (+4.4, spread 8.2, and 4.4 points lost at home):
# `docs/ablations/lwptv.md`.
#
# So **eta does not mean the same thing for two tasks as for eight**: the share that really goes depends on how many
# tasks there are and how much they disagree. Report the number of layers kept beside eta.
#
# **A weak base.** LwPTV gives layers back to the base, and that helps abroad only as far as the base is any good there. The
# suite `pocket-weak` has a base that saw little of the web: in the study LwPTV raises H by 5.4 for a pair on the good base and
# lowers it by 5.2 for the same pair on the weak one. Before you use it: *how good is the base where I want to go, and
# how far below it is my merge?*
#
# ## Layer against weight, and in front of TIES
#
# The same score can rank single numbers instead of layers (`granularity="parameter"`, the paper's App. B.10), and the pruned
# task vectors can go into any merge.

# %%
VARIANTS = {
    "TA": task_arithmetic,
    "LwPTV + TA": se.pipe(lwptv, task_arithmetic),
    "by weight": se.pipe(partial(lwptv, granularity="parameter"), task_arithmetic),
    "TIES": ties,
    "LwPTV + TIES": se.pipe(lwptv, ties),
}
board = {}
for name, method in VARIANTS.items():
    tau_m = method(taus)
    lam, _ = choose_lam(suite, tau_m, [0.42, 0.75, 1.3] if "TIES" in name else LAMS[:4], n=IMAGES_VAL)
    board[name] = id_ood(se.add(suite.theta_0, tau_m, lam))
    for value, what in zip(board[name], ("ID", "OOD"), strict=True):
        se.show(f"08.board.{name}.{what}", value, f"{name}: {what}", slack=3.0)

# %%
se.figure(*d08.board(board))
se.claim("08.weights_not_behind_abroad", by=board["by weight"][1] - board["LwPTV + TA"][1], at_least=-1)
se.claim("08.costs_ties_at_home", by=board["TIES"][0] - board["LwPTV + TIES"][0], at_least=0.5)
h = {name: h_score(*point) for name, point in board.items()}
se.claim("08.small_in_h", by=-abs(h["LwPTV + TA"] - h["TA"]), at_least=-4)

# %% [markdown]
# In front of TIES, LwPTV pays at home: TIES has already trimmed and elected. Against Task Arithmetic at a *well chosen* lam the
# change in H is a few points at most, of the size of the sampling error of this notebook. `samerge-edu ablate lwptv` repeats all
# this on subsets of the experts, with the spread; its table is in `docs/ablations/lwptv.md`.

# %%
# QUIZ 08.q2

# %%
# QUIZ 08.q3

# %% [markdown]
# ## When it fails
#
# | what you see | what it usually is | where to look |
# |---|---|---|
# | ID collapses towards the base | eta too high, or AND (`mask_rule="and"`) in place of OR | how many layers stay: `sum(M.values())` |
# | no gain abroad | the score does not discriminate: a shuffled mask does as well | the shuffle test |
# | no gain abroad | the merge already sits close to the base, so there is nothing to win back | base OOD minus merged OOD |
# | no gain abroad | `norm="sum"`: the large matrices always stay, whatever the tasks did there | which layers are pruned |
# | an error with one expert | its mean is itself, S = 0 everywhere: LwPTV needs two | |
#
# **When not to use it.** When only the tasks at home count: at a validated lam there is little to gain there. When the merge's OOD is already
# that of the base. When the base is weak where you go. When a smaller lam does the same: *always draw Task Arithmetic's
# curve beside it.*
#
# **Open, by the paper's own account:** experts of different architectures; a guarantee for ID; tasks so dissimilar that the mean
# is no stable reference. **Open, from what we saw:** whether Eq. 5 beats the plain size of a layer anywhere; whether in
# large models too a few input layers carry the effect; how to choose eta without OOD data.

# %%
# OPEN 08.open

# %% [markdown]
# ## What to remember
#
# * Fine-tuning moves features of images it never saw; adding up task vectors adds up these walks. Measure OOD, always.
# * Eq. 5 measures how far a task is from the *mean task vector*, layer by layer; the OR mask keeps what any task needs;
#   the rest is bitwise the base.
# * Compare methods as curves over lam. LwPTV's clearest effect here is that a lam too large does less harm.
# * A gain of a method is not yet a gain of its *score*. Shuffle the score, and look for the one layer that does it all.
#
# ## Further reading
#
# * Zhang et al., 2025: *Merging Smarter, Generalizing Better: Enhancing Model Merging on OOD Data*, arXiv:2506.09093.
# * Kumar et al., 2022: *Fine-tuning can distort pretrained features and underperform out-of-distribution*, arXiv:2202.10054.
# * Wortsman et al., 2022: *Robust fine-tuning of zero-shot models*, arXiv:2109.01903: walk back towards the base.
#
# ## Claims
#
# | claim | status |
# |---|---|
# | Experts and their sum lose accuracy abroad, and features move | measured here: `08.experts_lose_abroad`, `08.features_move`, `08.sum_loses_abroad` |
# | LwPTV with eta = 0.7 raises OOD and keeps ID or raises it slightly | from the paper, arXiv:2506.09093; in our study, with lam chosen for both on validation, the gain abroad is inside its spread and the one at home small (docs/ablations/lwptv.md) |
# | With LwPTV, a lam that is too large does less harm abroad | measured here: `08.too_large_does_less_harm`, `08.scale_hardly_matters` |
# | The effect abroad is nearly all due to one tensor, the patch embedding | by giving back single layers, pocket suite only; measured here: `08.one_tensor`, `08.one_tensor_is_nearly_all` |
# | The score finds the right layers | open: a shuffled mask that happens to give back the patch embedding does about as well abroad, less well at home (eleven draws, one lam); measured here: `08.shuffled_as_good_abroad`, `08.real_ahead_at_home` |
# | For eight nearly orthogonal tasks a mask by size is almost the same as the mask by Eq. 5 | measured here: `08.mask_by_size` |
# | At a validated lam LwPTV gives a similar pair more abroad than a dissimilar one, or all eight | one pair of each; measured here: `08.similar_gains_more` |
# | Layers beat single weights abroad, single weights keep more at home | from the paper, App. B.10; on the last figure single weights are not behind abroad; measured here: `08.weights_not_behind_abroad` |
# | LwPTV helps in front of any merge | from the paper; not in front of TIES, which pays at home, nor of most others in the study; measured here: `08.costs_ties_at_home` |
# | eta = 0.7 keeps 30 % of the layers | only for two tasks; with eight the OR keeps many more; measured here: `08.or_keeps_more` |
