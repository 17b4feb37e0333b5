# %% [markdown]
# # 02 Interference: why task vectors cannot simply be added
#
# **You will be able to**
#
# * measure how redundant a task vector is, and how much eight of them contradict each other, compared with chance;
# * say by experiment, and not by story, what a sum does to each expert;
# * build TIES from its three steps, and ask the right questions when a table says "TIES";
# * read DARE, DELLA, Breadcrumbs, PCB, consensus masks and LiNeS as *edit each task vector, then combine*.
#
# **Needs** notebook 01. **Minutes** 40 to read, 55 for the exercises; runs in about a minute on two cores (pocket
# suite). On Colab: File, Save a copy in Drive, before you start.

# %%
import inspect
from functools import cache
from statistics import mean

import matplotlib.pyplot as plt

from samerge_edu import plots
from samerge_edu.evaluate import accuracy, choose_lam, h_score, id_average, scores

suite = se.load_suite(lab.suite)
theta_0, tasks = suite.theta_0, suite.id_tasks
taus = se.task_vectors(theta_0, list(suite.experts.values()))  # N dictionaries of tensors
tau = torch.stack([se.flatten(t) for t in taus])  # the same numbers as one matrix (N, d), a row for each expert
N, d = tau.shape
print(f"{N} experts: {', '.join(tasks)}\n{d:,} entries each")

# %% [markdown]
# ## One weight, three opinions
#
# Task Arithmetic adds: $\theta = \theta_0 + \lambda \sum_n \tau_n$. Take three experts and five weights, and look at
# one column at a time.

# %%
toy = torch.tensor(
    [
        [4.0, 1.0, -3.0, 0.5, 0.0],  # expert 1
        [2.0, -1.5, 5.0, 0.0, 0.0],  # expert 2
        [-1.0, 0.5, 2.0, 0.0, 6.0],  # expert 3
    ]
)
print("sum :", toy.sum(dim=0).tolist())
print("mean:", [round(v, 2) for v in toy.mean(dim=0).tolist()])

# %% [markdown]
# Check by hand what became of each expert:
#
# * **Cancelled.** In column 2 the wishes are +1, -1.5 and +0.5; the sum is 0. Nobody gets anything.
# * **Overruled.** In column 3 expert 1 wanted -3 and gets +4.
# * **Diluted.** In column 5 only expert 3 wanted a change. The sum leaves it alone, the mean cuts it to a third.
# * **Carried along.** Expert 1 never asked for column 5 and gets +6 there as well. A sum gives everybody's changes to
#   everybody.
#
# The papers of this notebook draw two conclusions: many entries are **redundant** (0.5 in column 4: who would miss
# it?), so leave them out; and where **signs conflict**, take a decision. Both are claims about real task vectors, so
# measure them first.

# %% [markdown]
# ## Redundancy: how much of a task vector can go?
#
# Take one expert, keep a share of its entries (the **density**) and look at its accuracy on its own task. Two ways to
# choose what stays: the largest changes, or any entries, by a coin. And each of them twice: as it is, and rescaled.
# What a coin keeps is divided by the density, so that the *expected* update is the whole one; what is largest is
# multiplied until the sum of magnitudes is what it was.

# %%
from samerge_edu.transforms.dare import dare
from samerge_edu.transforms.trim import trim as trim_experts  # the exercise below is called trim


def coin(seed=0):
    return torch.Generator().manual_seed(seed)


def own_accuracy(edited, n=50):
    """Mean over the experts of the accuracy of theta_0 + tau_n on task n, on n validation images."""
    pairs = zip(tasks, edited, strict=True)
    return mean(accuracy(suite, se.add(theta_0, t), task, "val", n) for task, t in pairs)


def resized(taus, factors):
    return [{k: c * v for k, v in t.items()} for t, c in zip(taus, factors, strict=True)]


def size(t):
    return sum(v.abs().sum().item() for v in t.values())


# %%
zero_shot, expert = id_average(suite, theta_0, "val", 50), own_accuracy(taus)
densities = [0.05, 0.1, 0.2, 0.5]
kept = {"largest": [], "largest, rescaled": [], "coin": [], "coin, rescaled": []}
for p in densities:
    largest, any_of_them = trim_experts(taus, density=p), dare(taus, density=p, generator=coin())
    old_size = [size(t) / size(t_hat) for t, t_hat in zip(taus, largest, strict=True)]
    kept["largest"].append(own_accuracy(largest))
    kept["largest, rescaled"].append(own_accuracy(resized(largest, old_size)))
    kept["coin"].append(own_accuracy(resized(any_of_them, N * [p])))
    kept["coin, rescaled"].append(own_accuracy(any_of_them))

# %%
fig, ax = plt.subplots(figsize=(6.5, 3.6))
for name, line in kept.items():
    ax.plot([*densities, 1.0], [*line, expert], label=name)
ax.axhline(zero_shot, color="0.4", linestyle=":", marker="")
ax.text(1.0, zero_shot + 1, "zero-shot", ha="right", fontsize=9)
ax.set(xscale="log", xlabel="density (share of entries kept)", ylabel="accuracy on the own task (%)")
ax.set_xticks([*densities, 1.0], [*densities, 1.0])
ax.legend()
share = 100 * (kept["largest"][2] - zero_shot) / (expert - zero_shot)
sentence = f"The largest 20 % of the entries carry {share:.0f} % of what an expert gains over the base."
se.figure(plots.titled(fig, sentence), sentence)
se.show("02.redundancy", share, "share of the gain kept at density 0.2", slack=4)
gain = kept["coin, rescaled"][2] - kept["coin"][2]
se.show("02.rescaling", gain, "at density 0.2, what dividing by the density adds", unit="points", slack=4)
versus = kept["coin, rescaled"][0] - kept["largest, rescaled"][0]
se.show("02.coin_wins", versus, "at density 0.05, coin against largest, both rescaled", unit="points", slack=4)

# %% [markdown]
# So there is redundancy, and it is not that the small entries are useless: a coin that keeps *any* fifth of them and
# makes up for the loss does well too. Compare the two rescaled lines. If the coin's is not below, then what a trim
# costs is not the entries it drops but the length it loses, and "keep the largest" is a way to be sparse, not a way
# to find what matters. (The published ViT-B/32 experts keep nearly all of their gain at 20 %, trimmed and not
# rescaled; ours are smaller models with fewer entries to spare.)

# %% [markdown]
# ## Sign conflict, against chance
#
# Now the second claim. On how many entries do two experts pull in opposite directions?

# %%
# EXERCISE 02.1

# %%
print("toy:", sign_conflict(toy))

# %% [markdown]
# Columns 4 and 5 of the toy are changed by one expert only; the other three are shared, and all three are contested.
#
# A share like that is easy to be impressed by. Give $N$ experts *random* signs: an entry is free of conflict only if
# all $N$ coins fall alike, so the conflict is $1 - 2 \cdot 2^{-N}$, and that is 99 % for eight experts. The honest
# question is: **more than chance, or less?** So we keep every magnitude where it is and toss a coin for each sign.
#
# And conflict is not yet damage: +5 against -0.001 is a conflict that nobody notices. So measure also how much
# **cancels**: $1 - \sum_p |\sum_n \tau_n^p| \,/\, \sum_p \sum_n |\tau_n^p|$.


# %%
def cancelled(tau):
    """Share of all change that is lost in the sum. 0: all agree; 1: the sum is zero."""
    return float(1 - tau.sum(dim=0).abs().sum() / tau.abs().sum())


print(f"toy: {cancelled(toy):.3f} is lost, by hand 1 - (5 + 0 + 4 + 0.5 + 6) / (7 + 3 + 10 + 0.5 + 6)")

signs = torch.randint(0, 2, tau.shape, generator=coin()) * 2 - 1
rows = {"conflict": [], "conflict by chance": [], "cancelled": [], "cancelled by chance": []}
for p in [*densities, 1.0]:
    tau_hat = torch.stack([se.flatten(t) for t in trim_experts(taus, density=p)])
    by_chance = tau_hat.abs() * signs  # the same sizes in the same places
    for name, value in zip(rows, [f(v) for f in (sign_conflict, cancelled) for v in (tau_hat, by_chance)], strict=True):
        rows[name].append(100 * value)

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 3.3), sharex=True)
for ax, what in zip(axes, ("conflict", "cancelled"), strict=True):
    ax.plot([*densities, 1.0], rows[what], label="these experts")
    ax.plot([*densities, 1.0], rows[what + " by chance"], label="same sizes, signs by coin")
    ax.set(xscale="log", xlabel="density after the trim", ylabel=f"{what} (%)", ylim=(0, 102))
    ax.set_xticks([*densities, 1.0], [*densities, 1.0])
axes[0].legend(loc="lower right", fontsize=8)
real, chance = rows["cancelled"][-1], rows["cancelled by chance"][-1]
sentence = f"{real:.0f} % of all change cancels in the sum; with signs by coin it would be {chance:.0f} %."
se.figure(plots.titled(fig, sentence), sentence)
se.show("02.conflict", rows["conflict"][-1], "entries with both signs among them", slack=0.5)
se.show("02.cancelled", real, "change lost in the sum of all experts", slack=1)
se.show("02.cancelled_by_chance", chance, "... with signs by coin", slack=1)
se.show("02.cancelled_trimmed", rows["cancelled"][2], "... after a trim to 20 %", slack=1)

# %%
# QUIZ 02.q1

# %% [markdown]
# Read the two curves against each other, not against 0. Where *these experts* lie on the coin's curve, there is no
# quarrel in the data: eight directions in a space of this size are nearly orthogonal, and orthogonal vectors have
# opposite signs on half of their entries. Where they lie below, the experts agree more than strangers would: part of
# what they learned is common to all. Trimming lowers both curves, for the simple reason that fewer experts meet.

# %% [markdown]
# ## What does the sum do to an expert?
#
# Conflict is a count. Is it the *cause* of the damage? Ask by experiment. Take expert $n$ and add what the others
# want, $o_n = \lambda \sum_{m \ne n} \tau_m$, but only a part of it:
#
# * **against**: the entries where $o_n$ has the opposite sign of $\tau_n$;
# * **along**: the entries where it has the same sign, about as many;
# * **all** of it;
# * **shuffled**: all of it, but within each tensor in random places: the same numbers, no meaning.
#
# If sign conflict is the damage, *against* must hurt much more than *along*.

# %%
parts = {
    "all": lambda others, own: others,
    "against": lambda others, own: others.where(others * own < 0, 0),
    "along": lambda others, own: others.where(others * own > 0, 0),
    "shuffled": lambda others, own: others.flatten()[torch.randperm(others.numel(), generator=coin())].view_as(others),
}
tau_sum = {k: sum(t[k] for t in taus) for k in theta_0}
lams = [0.1, 0.2, 0.3, 0.5]


def disturbed(part, lam):
    """Each expert with the others' changes added, or a part of them."""
    return [{k: t[k] + lam * part(tau_sum[k] - t[k], t[k]) for k in t} for t in taus]


hurt = {name: [own_accuracy(disturbed(part, lam)) for lam in lams] for name, part in parts.items()}

# %%
alone = own_accuracy(taus)
fig, ax = plt.subplots(figsize=(6.5, 3.6))
for name, line in hurt.items():
    ax.plot([0, *lams], [alone, *line], label=name)
ax.set(xlabel="lam: how much of the other experts is added", ylabel="accuracy on the own task (%)")
ax.legend()
lost = {name: alone - line[2] for name, line in hurt.items()}
sentence = f"At lam = 0.3 an expert loses {lost['all']:.0f} points to all others; the half that opposes it takes "
sentence += f"{lost['against']:.0f}, the half that agrees with it {lost['along']:.0f}, shuffled {lost['shuffled']:.0f}."
se.figure(plots.titled(fig, sentence), sentence)
for name, points in lost.items():
    se.show(f"02.lost_{name}", points, f"points lost at lam = 0.3, {name}", unit="points", slack=4)

# %% [markdown]
# Two comparisons decide. *Against* and *along* are about as many entries and about as long: if contradiction were the
# damage, the first line would fall and the second would not. *Shuffled* is exactly as long as *all*: what it costs is
# the price of a push of that size; what *all* costs beyond that is interference.

# %%
if lost["against"] < 0.5 * lost["along"]:
    print("Here being contradicted is not what hurts: being pushed further along is.")
else:
    print("Here being contradicted hurts at least half as much as being pushed further along.")
overlap = [sum(((tau_sum[k] - t[k]) * t[k]).sum() for k in t) / sum(v.square().sum() for v in t.values()) for t in taus]
se.show("02.overlap", 100 * mean(map(float, overlap)), "of an expert's own update, the others bring along", slack=1)

# %% [markdown]
# So the sign rule is not the whole truth on this suite, and you have seen an experiment that could have confirmed it.
# A network computes with directions, not with single entries: two updates can agree in sign on most entries of a row
# and still send the same input to different places. Notebook 09 takes that up. Here we follow the entry-wise road: it
# is short, it needs no data, and most papers take it.

# %% [markdown]
# ## TIES: trim, elect, merge
#
# TIES (Yadav et al., 2023) in the paper's letters, $\hat\tau_n$ the trimmed vector and $p$ an entry:
#
# $$\hat\tau_n = \tau_n \text{ on its } k \text{ largest } |\cdot|,\ 0 \text{ elsewhere}
# \qquad \gamma^p = \mathrm{sgn}\Big(\sum_n \hat\tau_n^p\Big)
# \qquad \tau_m^p = \operatorname*{mean}_{n:\ \mathrm{sgn}(\hat\tau_n^p) = \gamma^p} \hat\tau_n^p$$
#
# You write all three steps, on the matrix $(N, d)$.

# %%
# EXERCISE 02.2

# %%
# EXERCISE 02.3

# %%
# EXERCISE 02.4

# %% [markdown]
# The three steps on the toy, each line small enough to check by hand (density 0.6 keeps 3 of 5 entries):

# %%
tau_hat = trim(toy, density=0.6)
gamma = elect(tau_hat)
print("trimmed:", *[row.tolist() for row in tau_hat], sep="\n  ")
print("elected:", gamma.tolist())
print("merged :", disjoint_mean(tau_hat, gamma).tolist())

# %% [markdown]
# Column 3: expert 1 is outvoted and the two others keep the mean of 5 and 2. Column 5: the mean is over one expert, so
# nothing is diluted. That is the point of a *disjoint* mean, and why TIES is used at $\lambda = 1$.
#
# The library's version does the same, piece by piece, so that a large model never has to be one matrix:

# %%
from samerge_edu.merges.ties import ties

source = inspect.getsource(ties)
print(source[source.rindex('"""') + 4 :])
tau_hat = trim(tau, density=0.2)
apart = (se.flatten(ties(taus, density=0.2)) - disjoint_mean(tau_hat, elect(tau_hat))).abs() > 1e-7
se.show("02.same", 1e6 * apart.double().mean(), "where your TIES and the library's differ, of a million entries",
        unit="", digits=0, slack=300)  # fmt: skip

# %% [markdown]
# Nearly the same, but not quite, and for a reason that bites every method with a threshold. These experts are stored in
# 16 bits, so many changes are *exactly* equally large. Which of the equal ones does a top-k keep? PyTorch promises
# nothing; the library keeps the first ones, in the order of the tensors' names, so that its result can be repeated.

# %% [markdown]
# ### Play with density and scale
#
# Each point is a merged model on validation images. Look for two things: does a smaller density *need* a larger scale?
# And does less conflict mean more accuracy?

# %%
DENSITIES, SCALES = [0.05, 0.1, 0.2, 0.5, 1.0], [0.3, 0.6, 1.0, 1.5, 2.2]


@cache
def ties_accuracy(density):
    """ID validation accuracy of TIES at every scale."""
    tau_m = ties(taus, density=density)
    return [id_average(suite, se.add(theta_0, tau_m, lam), "val", 50) for lam in SCALES]


@cache
def conflict_after(density):
    return 100 * sign_conflict(trim(tau, density))


# %%
def draw(density, lam):
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2))
    for p in DENSITIES:
        mine = {"color": plots.COLOURS[0], "linewidth": 2.5} if p == density else {"color": "0.75"}
        left.plot(SCALES, ties_accuracy(p), linestyle="-", marker="", **mine)
    reached = ties_accuracy(density)[SCALES.index(lam)]
    left.plot([lam], [reached], color=plots.COLOURS[2], markersize=9)
    left.set(xlabel="scale lam", ylabel="ID accuracy (%), validation", title="grey: the other densities")
    right.plot(DENSITIES, [conflict_after(p) for p in DENSITIES], color="0.6")
    right.plot([density], [conflict_after(density)], color=plots.COLOURS[2], markersize=9)
    right.set(xscale="log", xlabel="density", ylabel="sign conflict after the trim (%)", ylim=(0, 102))
    right.set_xticks(DENSITIES, DENSITIES)
    sentence = f"TIES at density {density} and lam {lam}: {reached:.1f} %, with conflict on "
    sentence += f"{conflict_after(density):.0f} % of the shared entries; the best lam at this density is "
    sentence += f"{SCALES[max(range(len(SCALES)), key=ties_accuracy(density).__getitem__)]}."
    return plots.titled(fig, sentence), sentence


se.explore(draw, [{"density": 0.2, "lam": 1.0}, {"density": 1.0, "lam": 1.0}], density=DENSITIES, lam=SCALES)

# %% [markdown]
# ## Compare fairly: every method at its own best scale
#
# A smaller density makes a smaller update, and a mean a smaller one than a sum. At one common $\lambda$ you would
# compare *lengths*, not methods. So from here on each candidate gets $\lambda$ from the validation split, and is
# reported on test images, at that scale and at the one its paper fixes. We use 50 validation and 100 test images a
# task to stay under a minute: **differences of two points are noise here**; the leaderboard of notebook 00 uses all
# images.

# %%
GRID = [0.1, 0.18, 0.32, 0.56, 1.0, 1.8, 3.2]
results = {}


def enter(name, tau_m, lam_paper):
    """Test accuracy (ID, OOD) of a merge at the scale chosen on validation, and ID at the paper's scale."""
    lam, _ = choose_lam(suite, tau_m, GRID, n=50)
    chosen = scores(suite, se.add(theta_0, tau_m, lam), n=100)
    at_home, abroad = mean(chosen[t] for t in tasks), mean(chosen[t] for t in suite.ood_tasks)
    published = id_average(suite, se.add(theta_0, tau_m, lam_paper), "test", 100)
    results[name] = {"lam": lam, "ID": at_home, "OOD": abroad, "paper lam": lam_paper, "paper ID": published}
    slug = "".join(c if c.isalnum() else "_" for c in name)
    se.show(f"02.{slug}", at_home, f"{name}: ID on test, lam from validation", slack=3)
    se.show(f"02.{slug}.paper", published, f"{'':{len(name)}}  ... at the published lam {lam_paper}", slack=3)


enter("sum", tau_sum, 0.3)
enter("TIES", ties(taus, density=0.2), 1.0)

# %% [markdown]
# ### Which step of TIES does the work?
#
# Take the steps away one by one, and replace the election by something that cannot be right: a coin, and the *losing*
# sign. If the election matters, the coin must lose against TIES.


# %%
def enter_flat(name, vector, lam_paper):
    enter(name, se.unflatten(vector, like=taus[0]), lam_paper)


tau_hat = trim(tau, density=0.2)
gamma = elect(tau_hat)
by_coin = torch.randint(0, 2, (d,), generator=coin()) * 2.0 - 1
enter_flat("trim and sum", tau_hat.sum(dim=0), 0.3)
enter_flat("TIES untrimmed", disjoint_mean(tau, elect(tau)), 1.0)
enter_flat("TIES by coin", disjoint_mean(tau_hat, by_coin), 1.0)
enter_flat("TIES by loser", disjoint_mean(tau_hat, -gamma), 1.0)

# %%
steps = ["sum", "trim and sum", "TIES untrimmed", "TIES", "TIES by coin", "TIES by loser"]


def bars(names):
    """ID test accuracy of some rows, hollow at the published scale and filled at the validated one."""
    fig, ax = plt.subplots(figsize=(6.5, 0.4 * len(names) + 1.2))
    for y, name in enumerate(reversed(names)):
        row = results[name]
        ax.barh(y, row["ID"], color=plots.COLOURS[0], height=0.6)
        ax.plot(row["paper ID"], y, marker="D", color="black", markerfacecolor="white", linestyle="")
        ax.text(max(row["ID"], row["paper ID"]) + 1.5, y - 0.1, f"lam {row['lam']}", fontsize=9)
    ax.set(xlabel="ID accuracy on test (%); diamond: at the published scale")
    ax.set_yticks(range(len(names)), list(reversed(names)))
    ax.grid(axis="y", visible=False)
    return fig


apart = results["TIES"]["ID"] - results["TIES by coin"]["ID"]
sentence = f"TIES has {results['TIES']['ID']:.1f} %, the sum {results['sum']['ID']:.1f} %; electing by coin instead "
sentence += f"changes TIES by {-apart:+.1f} points, electing the loser by "
sentence += f"{results['TIES by loser']['ID'] - results['TIES']['ID']:+.1f}."
se.figure(plots.titled(bars(steps), sentence), sentence)

# %% [markdown]
# First the sanity check: the loser's sign has to be far below, or the experiment could not tell anything. Then the
# question: what does TIES lose with a coin, and is it more than the two points of noise? And is any row above the
# plain sum at *its* best scale? Where a diamond lies to the right of its bar, 50 validation images have chosen a
# scale that the test set would not have chosen: that is noise too, and you see its size.

# %% [markdown]
# ## Box: five algorithms named TIES
#
# Public code has at least five. They share the name and the three steps, and differ in
#
# * **scope**: is the trim over the whole model, or 20 % of every tensor?
# * **reduce**: mean of those that agree, or their sum?
# * **scale**: $\lambda = 1$, 0.3, or tuned on validation data?
# * **where**: on the update, or on the two factors of a LoRA?
# * **weights** (all 1 here): applied before the election or after it?
# * **zeros**: who wins an exact tie?
#
# | | scope | reduce | lam | tie goes to | elected by |
# |---|---|---|---|---|---|
# | the authors' notebook | model | mean | 1 | the majority sign of all entries | values |
# | AdaMerging, FusionBench (the CLIP tables) | model | **sum** | **0.3** | the majority sign | values |
# | tall_masks, LiNeS | model | mean or sum | **validation** | the majority sign | values |
# | mergekit | **tensor** | mean, weights before the election | 1 | **+** | values |
# | PEFT | **tensor, A and B apart** | mean, weights after the election | weights | **+** | values or **counts** |
#
# The first four run on the same experts; the fifth needs LoRA experts. (Read in the public repositories named in the
# project's notes; `tests/test_golden.py` compares ours with the installed packages.)


# %%
def ties_by_count(taus, density=0.2):
    """PEFT's "frequency" election, per tensor: each expert one vote, whatever its size; a tie elects +."""
    tau_hat = torch.stack([se.flatten(t) for t in trim_experts(taus, density, scope="tensor")])
    gamma = torch.where(tau_hat.sign().sum(dim=0) >= 0, 1.0, -1.0)
    return se.unflatten(disjoint_mean(tau_hat, gamma), like=taus[0])


enter("TIES, CLIP tables", ties(taus, density=0.2, reduce="sum"), 0.3)
enter("TIES, mergekit", ties(taus, density=0.2, scope="tensor"), 1.0)
enter("TIES, by count", ties_by_count(taus), 1.0)

# %%
five = ["TIES", "TIES, CLIP tables", "TIES, mergekit", "TIES, by count"]
results["TIES, tuned (tall_masks, LiNeS)"] = results["TIES"] | {"paper ID": results["TIES"]["ID"]}
five.insert(2, "TIES, tuned (tall_masks, LiNeS)")
published = [results[name]["paper ID"] for name in five]
sentence = f"Algorithms called TIES, each as its code runs it: {min(published):.1f} to {max(published):.1f} %."
se.figure(plots.titled(bars(five), sentence), sentence)
se.show("02.five_ties", max(published) - min(published), "from the lowest to the highest", unit="points", slack=3)
ties_exactly = int(((tau_hat.sum(dim=0) == 0) & (tau_hat != 0).any(dim=0)).sum())
se.show("02.exact_ties", 1e6 * ties_exactly / d, "exact ties, of a million entries", unit="", digits=0, slack=50)

# %% [markdown]
# Compare the diamonds (each at its published scale) with the bars (each at its own best one): how much of what
# separates "the TIES of two papers" is only the scale? Exact ties exist because the experts are stored in 16 bits;
# the number above says how many entries the fifth column of the table decides.
#
# And PEFT's, with LoRA experts. It trims and elects on A and on B. The product of the two merged factors is a mixture
# that no expert ever had, because every A is multiplied with every B. Beside it, the same TIES on the updates $s B A$:

# %%
from samerge_edu.lora import LoRA, dense

lora_suite = se.load_suite(lab.suite if "lora" in lab.suite else f"{lab.suite}-lora")
adapters = list(lora_suite.adapters.values())
factors = [
    {f"{k}.{side}": layer.scale**0.5 * getattr(layer, side) for k, layer in adapter.items() for side in "AB"}
    for adapter in adapters
]
merged = ties(factors, density=0.2, scope="tensor")
on_factors = {k: LoRA(merged[f"{k}.A"], merged[f"{k}.B"], 1.0) for k in adapters[0]}
both = {
    "on s B A": ties([dense(adapter, like=lora_suite.theta_0) for adapter in adapters], density=0.2, scope="tensor"),
    "on A and B": dense(on_factors, like=lora_suite.theta_0),
}
for name, tau_m in both.items():
    lam, _ = choose_lam(lora_suite, tau_m, GRID, n=50)
    reached = id_average(lora_suite, se.add(lora_suite.theta_0, tau_m, lam), "test", 100)
    slug = name.replace(" ", "_")
    se.show(f"02.lora_{slug}", reached, f"LoRA experts, TIES {name}: ID on test, lam from validation", slack=3)
se.show("02.lora_zero_shot", id_average(lora_suite, lora_suite.theta_0, "test", 100), "zero-shot", slack=1)

# %%
# QUIZ 02.q2

# %% [markdown]
# ## Drop by coin: DARE and DELLA
#
# DARE (Yu et al., 2024) does not rank at all: $\hat\tau = m \odot \tau / (1 - p)$, where each entry of the mask $m$ is
# 1 with probability $1 - p$. In our words: density $= 1 - p$.

# %%
# EXERCISE 02.5

# %% [markdown]
# The expected value stays, and the noise around it grows: an entry has variance $\tau^2 (1/\text{density} - 1)$. DELLA
# (Deep et al., 2024) reduces that noise: in each row of a matrix the largest entries get a higher chance to stay, the
# smallest a lower one, and every survivor is divided by *its own* chance, so the expected value still holds.
#
# Model Breadcrumbs (Davari and Belilovsky, 2024) rank row by row too, and drop **both ends**: the smallest, because
# they are noise, and the very largest, because they are outliers. Who survives where? Draw the chance to stay against
# the rank within the row, measured on one real matrix.

# %%
from samerge_edu.transforms.breadcrumbs import breadcrumbs
from samerge_edu.transforms.della import della

key = next(k for k in theta_0 if k.endswith("mlp.c_fc.weight"))
one = [{key: taus[0][key]}]  # one matrix of one expert; rows run along the inputs of a neuron
edits = {
    "TIES' trim, per tensor": trim_experts(one, density=0.3, scope="tensor"),
    "DARE": dare(one, density=0.3, generator=coin()),
    "DELLA": della(one, density=0.3, epsilon=0.25, generator=coin()),
    "Breadcrumbs": breadcrumbs(one, density=0.3, outliers=0.1),
}
order = one[0][key].abs().argsort(dim=1, descending=True)
survives = {name: (edited[0][key] != 0).float().gather(1, order).mean(dim=0) for name, edited in edits.items()}

# %%
fig, ax = plt.subplots(figsize=(6.5, 3.4))
width = len(survives["DARE"])
for name, chance in survives.items():
    smooth = chance.unfold(0, width // 16, width // 16).mean(dim=1)
    ax.plot([100 * (i + 0.5) / len(smooth) for i in range(len(smooth))], 100 * smooth, label=name)
ax.set(xlabel="rank within the row: 0 = largest change, 100 = smallest", ylabel="entries that survive (%)")
ax.legend()
tenth = {name: 100 * chance[: width // 10].mean().item() for name, chance in survives.items()}
words = ", ".join(f"{name} keeps {share:.0f} %" for name, share in tenth.items())
sentence = f"At density 0.3, of the largest tenth of each row {words}."
se.figure(plots.titled(fig, sentence), sentence)

# %%
# QUIZ 02.q3

# %% [markdown]
# Exaggerated settings, so that one sees it; the papers' own are milder: DELLA's example has density 0.7 and
# probabilities 0.63 to 0.77, Breadcrumbs start at density 0.15 and drop the largest 0.6 %.
#
# All of these are *edits*: a list of task vectors in, a list of task vectors out. What combines them is a second
# choice, and so the papers' methods are pipes. The order is the reading order: first edit, then combine.

# %%
from functools import partial

from samerge_edu.merges.task_arithmetic import task_arithmetic

recipes = {  # name -> (edit, combine, the scale that was published)
    "DARE + sum": (partial(dare, density=0.5, generator=coin()), task_arithmetic, 0.3),
    "DARE + TIES": (partial(dare, density=0.5, generator=coin()), partial(ties, density=0.2, reduce="sum"), 0.5),
    "DELLA + elect": (partial(della, generator=coin()), partial(ties, density=1.0), 1.1),
    "Breadcrumbs + sum": (breadcrumbs, task_arithmetic, 0.2),
}
for name, (edit, combine, lam_paper) in recipes.items():
    enter(name, se.pipe(edit, combine)(taus), lam_paper)

# %% [markdown]
# Why is "DARE + sum" so near to the plain sum? Because it *is* the sum, plus noise: its expected value is the sum
# itself. Dropping by coin can only help a combination that is not linear, such as an election, or a model that has to
# be stored small.

# %% [markdown]
# ## Let the parameters compete: PCB
#
# Trimming asks "is this entry large?", electing "is it on the winning side?". PCB-Merging (Du et al., 2024) multiplies
# both questions into one score and keeps the best 5 %:
#
# $$a_n = \exp(N u_n^2) \qquad b_n = \tanh\Big(\tau_n \odot \sum_j \mathrm{sgn}(\tau_j)\, u_j\Big)
# \qquad c_n = a_n \odot b_n$$
#
# with $u_n$ the magnitudes $|\tau_n|$ of expert $n$, brought to 0..1. Summaries of the paper write a soft-max for $a$;
# the authors' program has only the exponential, and so has our default (`form="softmax"` is the other).

# %%
# EXERCISE 02.6

# %%
print("toy, c_n:", *[[round(v, 2) for v in row] for row in balance(toy).tolist()], sep="\n  ")

# %% [markdown]
# Column 3: expert 1 is against the others and scores below zero; it cannot win there, however large its change.
# Column 5: nobody else cares, expert 3 wins with its own vote.
#
# One more thing the formula hides: tanh sees the raw $\tau_n$. Real entries are about a thousandth, where tanh(x) = x,
# so the tanh does nothing; on the toy, with entries of 5, it saturates. A method should not depend on the unit of the
# weights, but this one does.

# %%
from samerge_edu.merges.pcb import pcb

enter("PCB", pcb(taus), 1.2)
enter("PCB, soft-max form", pcb(taus, form="softmax"), 1.2)
largest = max(t[k].abs().max().item() for t in taus for k in t)
se.show("02.largest_entry", largest, "largest entry of all task vectors", unit="", digits=3, slack=0.01)

# %% [markdown]
# ## Ask who needs an entry: consensus masks
#
# Consensus Task Arithmetic (Wang et al., 2024) turns the question round. Given the sum, which of its entries does
# expert $n$ *need*? Those where its own change is large against what the others add:
# $m_n = 1$ where $|\tau_n| > \lambda\, |\tau_{sum} - \tau_n|$.
# An entry that nobody needs is noise; an entry that one expert alone needs is
# "selfish": it serves one task and is added to all. Keep the entries that at least two need.

# %%
from samerge_edu.merges.consensus import consensus, tall_masks

enter("Consensus", consensus(taus, min_tasks=2), 0.3)
need = torch.stack([torch.cat([m[k].flatten() for k in sorted(m)]) for m in tall_masks(taus)]).sum(dim=0)
share = [100 * (need == n).double().mean().item() for n in range(N + 1)]

# %%
fig, ax = plt.subplots(figsize=(6.5, 3))
ax.bar(range(N + 1), share, color=[plots.COLOURS[3]] * 2 + [plots.COLOURS[0]] * (N - 1))
ax.set(xlabel="number of experts that need an entry (grey: dropped)", ylabel="entries (%)")
sentence = f"{share[0]:.0f} % of the entries are needed by no expert, {share[1]:.0f} % by one alone: "
sentence += f"the consensus keeps {sum(share[2:]):.0f} %."
se.figure(plots.titled(fig, sentence), sentence)

# %% [markdown]
# The published scale is tuned on validation data (0.1 to 1.0); the 0.3 above stands in for it. The masks have a
# second use, as compression: $\theta_0 + m_n \odot \tau_{sum}$ gives expert $n$ back from the sum and one bit an
# entry. Try it:

# %%
recovered = [{k: tau_sum[k] * m[k] for k in m} for m in tall_masks(taus, mask_lam=0.4)]
se.show("02.tall", own_accuracy(recovered), "experts rebuilt from the sum and one bit an entry, own task", slack=2)
se.show("02.experts", own_accuracy(taus), "the experts themselves", slack=2)

# %% [markdown]
# If that number is near the experts', then nothing was *destroyed* in the sum: it is all still there, and only nobody
# can tell whose it is.

# %% [markdown]
# ## Spare the shallow layers: LiNeS
#
# LiNeS (Wang et al., 2025) does not look at entries at all. Early blocks hold general features that every task (and
# every unseen task) needs; late blocks hold what is special. So scale the update of block $l$ of $L$ by
# $\alpha + \beta\, l / (L - 1)$: little in front, more towards the output. It edits the merged vector of *any* method.
#
# Two traps. In the authors' code everything outside the blocks gets $\alpha$, also `ln_post` and `proj`, which are the
# *last* layers. And a method that shrinks the update must be compared at its own best scale, otherwise you measure the
# shrinking. As a control we turn it upside down: much in front, little at the end.

# %%
from samerge_edu.transforms.lines import lines

deep = lines(taus, merge=task_arithmetic, beta=0.5)
alpha, beta = 1 / N, 0.5
upside_down = {k: (2 * alpha + beta) * tau_sum[k] - deep[k] for k in deep}  # alpha + beta * (1 - l / (L - 1))
enter("LiNeS + sum", deep, 1.0)
enter("LiNeS, proj as last layer", lines(taus, merge=task_arithmetic, beta=0.5, outside="position"), 1.0)
enter("LiNeS upside down", upside_down, 1.0)

# %% [markdown]
# ## All of them on one page

# %% tags=["nbval-ignore-output"]
for row in results.values():
    row["H"] = h_score(row["ID"], row["OOD"])
ranked = sorted((name for name in results if "tuned" not in name), key=lambda name: -results[name]["ID"])
fig, axes = plt.subplots(1, 2, figsize=(7, 0.27 * len(ranked) + 1.2), sharey=True)
for ax, what, look in zip(axes, ("ID", "OOD"), ("o", "s"), strict=True):
    ax.plot([results[name][what] for name in ranked], range(len(ranked)), look, linestyle="", color=plots.COLOURS[0])
    ax.set(xlabel=f"{what} accuracy on test (%)")
axes[0].plot([results[name]["paper ID"] for name in ranked], range(len(ranked)), "D", linestyle="",
             color="black", markerfacecolor="white", zorder=0)  # fmt: skip
axes[0].set_yticks(range(len(ranked)), ranked, fontsize=9)
axes[0].invert_yaxis()
base = scores(suite, theta_0, n=100)
for ax, what in zip(axes, (tasks, suite.ood_tasks), strict=True):
    ax.axvline(mean(base[t] for t in what), color="0.5", linestyle=":", marker="")
best, plain = results[ranked[0]], results["sum"]
close = sum(best["ID"] - results[name]["ID"] <= 2 for name in ranked)
abroad = sum(results[name]["OOD"] - plain["OOD"] >= 1 for name in ranked)
sentence = f"{ranked[0]} leads at home with {best['ID']:.1f} %; {close} of {len(ranked)} rows lie within 2 points of "
sentence += f"it, the sum has {plain['ID']:.1f} %. Abroad {abroad} rows are at least a point better than the sum."
se.figure(plots.titled(fig, sentence), sentence)

# %% tags=["nbval-ignore-output"]
print(f"{'':28}  lam    ID   OOD     H   ID at the published lam")
for name in ranked:
    row = results[name]
    numbers = f"{row['ID']:4.1f}  {row['OOD']:4.1f}  {row['H']:4.1f}   {row['paper ID']:4.1f} ({row['paper lam']})"
    print(f"{name:28} {row['lam']:4}  {numbers}")

# %% [markdown]
# Diamonds are the published scales, dotted lines the base. Read three things from it: how much of the distance
# between two methods is only their scale; whether what they win over a well-scaled sum is won at home (ID) or abroad
# (OOD); and how far even the best is from the experts, who stand at the top of the redundancy figure. In the
# published tables TIES and PCB beat Task Arithmetic by 3 and 7 points at home. If they do not here, look at the scale
# of the sum: those tables fix it at 0.3, and the diamond in the sum's row shows what 0.3 does to it on this suite.
#
# None of these methods asked what a weight is *connected* to: that begins in notebook 03.

# %%
# OPEN 02.open

# %% [markdown]
# ## What to remember
#
# * Task vectors are redundant: measure it with the own-task accuracy at density 0.2 before you trust a sparse method,
#   and ask whether the *largest* entries are the ones that matter, or whether any will do at the old length.
# * Both signs meet on nearly every entry of eight dense task vectors; so they do in random ones. Compare with chance.
# * Whether opposing entries are what hurts is a question for an experiment: add them alone, and see.
# * TIES = trim, elect, disjoint mean. "TIES, density 0.2" leaves scope, mean or sum, election, scale and checkpoints
#   open.
# * Edit and combine are separate choices: `pipe(edit, combine)`. And every method gets its own scale, from validation.
# * DARE's expected value is the plain sum; LiNeS and PCB look at depth and at competition instead of size alone.
#
# ## Further reading
#
# * Ilharco et al., *Editing models with task arithmetic*, arXiv:2212.04089
# * Yadav et al., *TIES-Merging*, arXiv:2306.01708 (Algorithm 1)
# * Yu et al., *Language models are super Mario* (DARE), arXiv:2311.03099
# * Deep et al., *DELLA-Merging*, arXiv:2406.11617
# * Davari and Belilovsky, *Model Breadcrumbs*, arXiv:2312.06795
# * Du et al., *Parameter competition balancing* (PCB), arXiv:2410.02396
# * Wang et al., *Localizing task information* (TALL masks, consensus), arXiv:2405.07813
# * Wang et al., *LiNeS*, arXiv:2410.17146
#
# ## Claims
#
# | claim | status |
# |---|---|
# | The largest 20 % of an expert's entries carry most of its gain | measured here, pocket; paper, arXiv:2306.01708 |
# | Sign conflict of dense task vectors is that of random signs, or below | measured here, pocket suite |
# | Sign conflict is the main cause of interference | paper, arXiv:2306.01708; here tested by the opposing half alone |
# | Electing by value beats electing by coin | measured here, "Which step of TIES does the work?" |
# | Algorithms named TIES differ on the same experts | measured here; published tables differ in checkpoints too |
# | DARE keeps accuracy with 90 % dropped | paper, arXiv:2311.03099, for large language models |
# | Shallow blocks little, deep blocks more: better at home and abroad | paper, arXiv:2410.17146; control above |
# | PCB 76.3 %, TIES 72.4 % on ViT-B/32, experts of Task Arithmetic | table in WUDI's repository |
# | The order of these methods is the same on every suite | open |
