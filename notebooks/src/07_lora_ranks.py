# %% [markdown]
# # 07 LoRA ranks: merging and pruning thin updates
#
# **You will be able to**
#
# * turn a LoRA file into a task vector, and say why adding the factors A and B is not adding the updates;
# * score a rank by $|\gamma\,\eta|$ without ever forming the update, and prune ranks without breaking the adapter;
# * show that a score of ranks depends on the gauge, and measure how much that moves a result;
# * put a pruning rule beside random ranks at the same count before you believe it.
#
# **Needs** notebooks 01 (task vectors), 02 (TIES) and 04 (saliency). **Minutes** {reading} to read, {exercises} for the exercises; runs in
# about a minute on two cores (pocket suite). On Colab: File, Save a copy in Drive, before you start.

# %% [markdown]
# ## A thin update
#
# A LoRA expert (Hu et al., 2022) does not store $\tau$. It stores two thin factors for each adapted weight, trained with
# the base frozen:
#
# $$\tau = \Delta W = s\, B A = s \sum_{k=1}^{r} b_k\, a_k^T
#   \qquad A: (r, \text{in}),\quad B: (\text{out}, r),\quad s = \alpha / r$$
#
# $b_k$ is column k of B and $a_k$ row k of A. Each of the r terms is a **rank-1 component**: it reads one number from the
# input, $a_k^T x$, and writes it along one direction, $b_k$.

# %%
A = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]])
B = torch.tensor([[1.0, 0.0], [2.0, -1.0]])
for k in range(2):
    print(f"component {k}: b_{k} a_{k}^T =", torch.outer(B[:, k], A[k]).tolist())
print("their sum:             B A =", (B @ A).tolist())

# %%
# EXERCISE 07.1

# %% [markdown]
# The pocket suite has its eight tasks a second time as LoRA experts of rank 16, in the files that PEFT writes. Nothing
# outside the attention and MLP matrices was trained.

# %%
from functools import partial

from samerge_edu.course.drawings import d07
from samerge_edu.evaluate import accuracy, choose_lam, id_average
from samerge_edu.lora import LoRA, dense, read_peft, write_peft
from samerge_edu.merges.peft_lora import cat, linear, svd
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.saliency import clip_flow
from samerge_edu.transforms.sa_lora import sa_lora

suite = se.load_suite({"pocket": "pocket-lora", "vit-b-32": "vit-b-32-lora"}.get(lab.suite, lab.suite))
N_VAL, N = 50, 100  # images a task: for choosing lam, and for a report (test)
adapters = [  # the files hold half precision; we compute in float32
    {key: LoRA(A.float(), B.float(), s) for key, (A, B, s) in suite.adapters[task].items()} for task in suite.id_tasks
]

# %%
layer = next(key for key in adapters[0] if key.endswith("c_fc.weight"))
A_1, B_1, s = adapters[0][layer]
r = len(A_1)
print(f"{layer}: A {tuple(A_1.shape)}, B {tuple(B_1.shape)}, s = {s:g}")
same = torch.allclose(lora_update(A_1, B_1, alpha=s * r), dense(adapters[0])[layer], atol=1e-6)
print("your update is the package's:", same)
thin = sum(A.numel() + B.numel() for A, B, _ in adapters[0].values())
thick = sum(tau.numel() for tau in dense(adapters[0]).values())
print(f"numbers in one expert: {thin} in its factors, {thick} in the matrices they stand for")
own = [accuracy(suite, suite.experts[task], task, n=N) for task in suite.id_tasks]
base = id_average(suite, suite.theta_0, "test", N)
se.show("07.experts", sum(own) / len(own), "experts, each on its own task", slack=1.5)
se.show("07.base", base, "base on the same tasks", slack=1.5)

# %% [markdown]
# From `dense(adapter)` on, **every method of this course works unchanged**: a LoRA expert is a task vector that happens
# to have low rank. Keep this in mind; whatever follows must be better than that.
#
# ## The factors are no coordinates
#
# Take any invertible matrix M of shape (r, r). $(B M^{-1})(M A) = B A$: other factors, the same expert. Such a choice is
# called a **gauge**. The simplest one, M = -1, changes both signs. Here is one that mixes the ranks.

# %%
M = torch.tensor([[2.0, 1.0], [1.0, 1.0]])
A_M, B_M = M @ A, B @ M.inverse()
print("same product:", (B_M @ A_M).tolist())
for k in range(2):
    print(f"component {k}:", torch.outer(B[:, k], A[k]).tolist(), " became", torch.outer(B_M[:, k], A_M[k]).tolist())

# %% [markdown]
# So what is computed from B A does not depend on M. What is computed from A and B one by one does, unless somebody has
# taken care. Two ideas that look natural fall at this fence: *add the factors*, and *prune the ranks*. Adding first.
#
# ## Why merging A and B separately is not the merge
#
# PEFT's `add_weighted_adapter` knows, among others, three ways to merge adapters. `linear` adds up the factors (here with
# all weights 1 and s = 1):
#
# $$\Big(\sum_n B_n\Big)\Big(\sum_m A_m\Big) = \underbrace{\sum_n B_n A_n}_{\text{wanted}}
#   + \underbrace{\sum_{n \ne m} B_n A_m}_{\text{one expert writes what another one reads}}$$
#
# Eight terms are wanted, 56 are not. `cat` stacks the factors, so that each $B_n$ meets its own $A_n$: exact, but the ranks
# add up. `svd` cuts that sum back to rank r: the best approximation there is.

# %%
# QUIZ 07.q1

# %%
tau_sum = task_arithmetic([dense(adapter) for adapter in adapters])


def error(adapter):
    """|merged - sum of the updates| / |sum of the updates|, over all layers."""
    tau = dense(adapter)
    return ((se.flatten(tau) - se.flatten(tau_sum)).norm() / se.flatten(tau_sum).norm()).item()


results = {"cat": cat(adapters), "svd, rank 128": svd(adapters, rank=128)}
results |= {"svd": svd(adapters), "linear": linear(adapters)}
se.claim("07.cat_is_exact", by=-error(results["cat"]), at_least=-0.001, unit="")
se.claim("07.linear_is_not", by=error(results["linear"]), at_least=1, unit="times the sum")
for name, merged in results.items():
    what = f"{name}: result of rank {len(merged[layer].A)}, relative error"
    se.show(f"07.error.{name}", error(merged), what, unit="", digits=3, slack=0.02)

# %% [markdown]
# `svd` loses what does not fit into rank 16, and nothing if it may have all 128. The error of `linear` is larger than the
# update itself: if all cross terms were as long as the wanted ones and orthogonal to everything, it would be
# $\sqrt{56 / 8} = \sqrt 7 \approx 2.65$. And it is not even one number: change the signs of some experts' factors, which
# changes no expert, and see. (PEFT's weights $w_n$ scale the whole result, like our lam; for `linear` we also try scales far
# below the usual ones.)


# %%
def changed(adapters, change):
    """The same adapters with change(A, B) in place of each pair of factors."""
    return [{key: LoRA(*change(A, B), s) for key, (A, B, s) in adapter.items()} for adapter in adapters]


SMALL = (0.03, 0.056, 0.1, 0.18)
GRID = (0.1, 0.18, 0.3, 0.42, 0.56, 0.75, 1.0)  # denser than usual where the hills are narrow
zeros = {key: torch.zeros_like(weight) for key, weight in suite.theta_0.items()}


def tested(tau, lams=GRID):
    """(lam from validation, ID average on test) of theta_0 + lam * tau; tau has the adapted layers only."""
    lam, _ = choose_lam(suite, zeros | tau, lams, n=N_VAL)
    return lam, id_average(suite, se.add(suite.theta_0, zeros | tau, lam), "test", N)


# %%
flipped = changed(adapters[:4], lambda A, B: (-A, -B)) + adapters[4:]
same = max((dense(a)[layer] - dense(b)[layer]).abs().max().item() for a, b in zip(flipped, adapters, strict=True))
print("largest difference between the experts before and after:", same)
change = se.flatten(dense(linear(flipped))) - se.flatten(dense(linear(adapters)))
change = (change.norm() / se.flatten(dense(linear(adapters))).norm()).item()
se.claim("07.linear_depends_on_the_gauge", by=change, at_least=0.5, unit="times its result")
se.show("07.flipped", change, "linear, change of the result by the flip, relative", unit="", digits=2, slack=0.03)

# %%
board = {"sum of the updates (cat)": tested(tau_sum), "svd, rank 16": tested(dense(svd(adapters)))}
board["linear"] = tested(dense(linear(adapters)), SMALL)
board["linear, signs flipped"] = tested(dense(linear(flipped)), SMALL)


def show(board):
    for name, (_, result) in board.items():
        se.show(f"07.board.{name}", result, f"{name}: ID at its own lam", slack=3.0)


plain, best_linear = board["sum of the updates (cat)"][1], max(board["linear"][1], board["linear, signs flipped"][1])
se.claim("07.linear_loses", by=plain - best_linear, at_least=1.5)
se.claim("07.linear_keeps_some", by=min(board["linear"][1], board["linear, signs flipped"][1]) - base, at_least=2)
show(board)

# %% [markdown]
# Compare with the base above. At its best scale `linear` keeps a part of the gain, because the wanted terms are in it,
# among others. `cat` keeps more, at no cost but rank. `svd` pays for a rank as small as one expert's, though
# what it drops are the directions in which the sum of eight experts does least.

# %%
# QUIZ 07.q2

# %% [markdown]
# PEFT's `ties`, `dare_linear` and `magnitude_prune` also work on A and B one by one and share the fault; their variants
# with `_svd` at the end work on the updates.
#
# ## The saliency of a rank
#
# SA-Merging's LoRA variant (Park, Lee and Sohn, 2026) carries the idea of notebooks 04 to 06 from entries to components.
# G is the gradient of the path strength R with respect to the whole update of a layer, at $\theta_0 + \tau_n$:
#
# $$G_n = \frac{\partial R_n}{\partial \tau_n}, \qquad \gamma_k = b_k^T\, G_n\, a_k, \qquad
#   \eta_k = b_k^T \Big(\sum_i \tau_i\Big) a_k, \qquad S_k = |\gamma_k\, \eta_k|$$
#
# (Both letters are this paper's; the $\eta$ of LwPTV, in notebook 08, is another thing.)
#
# $\gamma_k$ says how much path strength the expert gains if component k grows, $\eta_k$ how far the component agrees with
# what all experts together do. In a LoRA of a large model, G and $\tau$ are what one does *not* want to form: r = 16 against
# thousands of rows and columns. Neither is needed.

# %%
# EXERCISE 07.2

# %% [markdown]
# Check it on a network of two layers, where autograd gives both $\partial R/\partial B$ and the large G.

# %%
W_0, W_2 = torch.tensor([[1.0, -1.0, 0.5], [0.5, 2.0, 1.0]]), torch.tensor([[2.0, -1.0]])
s_toy = 0.5
B_leaf = B.clone().requires_grad_()
R = (W_2.abs() @ (W_0 + s_toy * B_leaf @ A).abs()).sum()
(dR_dB,) = torch.autograd.grad(R, B_leaf)
print("gamma from dR/dB: ", gamma(B, dR_dB, s_toy).tolist())

tau = (s_toy * B @ A).requires_grad_()
(G,) = torch.autograd.grad((W_2.abs() @ (W_0 + tau).abs()).sum(), tau)
print("gamma by definition:", [(B[:, k] @ G @ A[k]).item() for k in range(2)])

# %% [markdown]
# And $\eta$: put $\tau_i = s_i B_i A_i$ in and move the brackets. Both brackets are small, (r, r), and only the diagonal of
# their product is wanted:
#
# $$\eta_k = \sum_i s_i\, (b_k^T B_i)\,(A_i\, a_k)$$


# %%
def eta(A, B, layers):
    """eta_k of each rank of (A, B); layers: the LoRA of every expert in this layer, itself included -> (r,)"""
    return sum(s_i * ((B.T @ B_i) * (A @ A_i.T)).sum(dim=1) for A_i, B_i, s_i in layers)


layers = [adapter[layer] for adapter in adapters]
explicit = torch.stack([B_1[:, k] @ tau_sum[layer] @ A_1[k] for k in range(r)])
print("eta without and with the updates agree:", torch.allclose(eta(A_1, B_1, layers), explicit, atol=1e-5))
out, fan_in = tau_sum[layer].shape
numbers = {"here": (out, fan_in), "in a model of width 4096": (4096, 4096)}
for where, (out, fan_in) in numbers.items():
    with_sum, without = (len(layers) + 1) * out * fan_in * r, len(layers) * r * r * (out + fan_in)
    print(f"multiplications for one layer {where}: {with_sum:,} with the sum formed, {without:,} without")

# %% [markdown]
# In the package nobody calls autograd on B either. R is a sum over paths, and its gradient in a layer is an outer product
# (notebook 03), so that $G = \mathrm{sign}(\theta) \odot (u\,x^T)$ with two vectors: what flows in, x, and what flows
# on, u. The package's whole score is these lines.

# %%
import inspect

from samerge_edu.transforms import sa_lora as module

print(inspect.getsource(module._saliency))

# %% [markdown]
# One thing no trick removes: sign(theta) and R itself need $|\theta_0 + s B A|$. It is formed, one layer of one expert at a
# time.
#
# ## Prune ranks, keep the adapter
#
# The mask has r entries a layer. Where it is 0, row k of A and column k of B become zero.

# %%
# EXERCISE 07.3

# %%
S = torch.arange(float(r))  # any score will do here
pruned = changed([adapters[0]], lambda A, B: prune_ranks(A, B, S, keep=2))[0]

import tempfile
from pathlib import Path

with tempfile.TemporaryDirectory() as folder:
    write_peft(folder, pruned)
    back = read_peft(folder)
    print("files:", sorted(path.name for path in Path(folder).iterdir()))
print("A and B as before:", back[layer].A.shape == A_1.shape, back[layer].B.shape == B_1.shape)
print("rank of the update:", int(torch.linalg.matrix_rank(dense(back)[layer])), "of", r)

# %% [markdown]
# The file is as large as before. To save space one may cut the zero ranks out *and* write the new r (and an alpha that
# keeps $s = \alpha/r$!) into the configuration; the paper keeps the shapes, so that the merged adapters can be stacked by
# anything that could stack the old ones.
#
# ## Ranks kept against accuracy
#
# `sa_lora` runs T rounds: score, prune the share p of what is left, score again. The paper gives no T and p for ranks; we
# take those for entries, T = 10 and p = 0.2, which leave 2 of 16. `progress` shows us every round, so that one run gives
# all counts.

# %%
flow = partial(clip_flow, heads=suite.attention_heads)
by_saliency = {r: tau_sum}  # ranks left -> sum of the pruned updates


def note(t, adapters):
    ranks = int(adapters[0][layer].A.any(dim=1).sum())
    by_saliency.setdefault(ranks, task_arithmetic([dense(adapter) for adapter in adapters]))


as_trained = sa_lora(adapters, theta_0=suite.theta_0, flow=flow, T=10, p=0.2, progress=note)
print("ranks left, round by round:", list(by_saliency))
RANKS = [16, 7, 4, 2]
KEEP = RANKS[-1]

# %% [markdown]
# Two rules beside it. *Size* keeps the components with the largest $|b_k|\,|a_k|$: no flow, no other experts. *Random*
# draws lots.


# %%
def size(A, B):
    return A.norm(dim=1) * B.norm(dim=0)  # (r,)


def kept_by(score, keep, adapters=adapters):
    """Sum of the updates after keeping `keep` ranks of each layer; score(A, B) -> (r,)."""
    pruned = changed(adapters, lambda A, B: prune_ranks(A, B, score(A, B), keep))
    return task_arithmetic([dense(adapter) for adapter in pruned])


def at_random(keep, seed):
    generator = torch.Generator().manual_seed(seed)
    return kept_by(lambda A, B: torch.rand(len(A), generator=generator), keep)


# %%
WAYS = {"saliency": by_saliency.get, "size": partial(kept_by, size), "one random draw": partial(at_random, seed=0)}
curves, kept = {}, {}  # on validation: the accuracy at each lam; on test: (lam, accuracy)
for way, rule in WAYS.items():
    for k in RANKS:
        if k == r and curves:  # all ranks: the three ways are one
            curves[way, r], kept[way, r] = curves["saliency", r], kept["saliency", r]
            continue
        tau = zeros | rule(k)
        lam, curve = choose_lam(suite, tau, GRID, n=N_VAL)
        curves[way, k] = list(curve.values())
        kept[way, k] = lam, id_average(suite, se.add(suite.theta_0, tau, lam), "test", N)
longer = kept["saliency", KEEP][0] / kept["saliency", r][0]
se.claim("07.scale_grows", by=longer, at_least=2, unit="times as large a lam for 2 ranks")
for k in (r, KEEP):
    se.show(f"07.lam.{k}", kept["saliency", k][0], f"lam for {k} ranks", unit="", digits=2, slack=0.3)

# %% [markdown]
# Before you look: a merge of 2 of 16 ranks is an eighth of each expert. How much of the gain over the base do you expect
# to be left, and at which scale?


# %%
def draw(ranks):
    """The curves of one count; they were computed above."""
    lines = {way: curves[way, ranks] for way in WAYS}
    return d07.scale_curves(GRID, lines, curves["saliency", r], f"{ranks} of {r} ranks")


se.explore(draw, presets=[{"ranks": k} for k in RANKS], ranks=RANKS)

# %% [markdown]
# Two readings. The fewer ranks are left, the larger the best scale: a sum of fewer components is shorter, so **compare only
# at scales chosen for each**. (At lam = 1, the scale that the paper's words imply, pruning looks like a miracle: it shortens
# an update that was far too long.) And saliency and size lie close together. What lots lose cannot be read from one draw.

# %%
fewer = min(kept[way, k][1] for way in ("saliency", "size") for k in (7, 4))
se.claim("07.few_ranks_do", by=fewer - plain, at_least=-3)
se.figure(*d07.ranks_kept(kept, r))

# %% [markdown]
# ## The control: random ranks
#
# One draw of lots says little. Here are ten, each at its own scale, at the count that the paper's T and p lead to; beside
# them size, and the score taken once: T = 1, all ranks that go in a single round.

# %%
once = sa_lora(adapters, theta_0=suite.theta_0, flow=flow, T=1, p=1 - KEEP / r)
one_round = tested(task_arithmetic([dense(adapter) for adapter in once]))
draws = [kept["one random draw", KEEP], *(tested(at_random(KEEP, seed)) for seed in range(1, 10))]
by_chance = [result for _, result in draws]
mean = sum(by_chance) / len(by_chance)
real = {"saliency": kept["saliency", KEEP], "saliency, T = 1": one_round, "size": kept["size", KEEP]}
real = {name: result for name, (_, result) in real.items()}
for what, value in (("mean", mean), ("worst", min(by_chance)), ("best", max(by_chance))):
    se.show(f"07.random.{what}", value, f"random ranks, {what} of {len(draws)} draws", slack=2.0)
for name, result in real.items():
    se.show(f"07.real.{name}", result, name, slack=2.0)

# %%
se.claim("07.saliency_beats_lots", by=real["saliency"] - mean, at_least=0.3)
se.claim("07.size_as_good", by=real["size"] - real["saliency"], at_least=-2.5)
se.claim("07.one_round_as_good", by=real["saliency, T = 1"] - real["saliency"], at_least=-2.5)
se.claim("07.lots_cost", by=plain - mean, at_least=1.5)
se.figure(*d07.against_lots(by_chance, real, plain, KEEP, r))

# %% [markdown]
# `samerge-edu ablate sa-lora --suite pocket-lora` repeats this for several counts, on subsets of the experts, with more
# images; its table is in `docs/ablations`. There and here the score is ahead of the mean of the draws, by a little: it is
# not blind. But *size*, which needs neither the flow nor the other experts, does as well up to the error of 800 images, and
# so does one round. So on this suite the experiment does not show what the score adds to size; and size is in it, for
# $\gamma_k\, \eta_k$ contains $|b_k|^2\, |a_k|^2$.

# %%
# QUIZ 07.q3

# %% [markdown]
# ## The score depends on the gauge
#
# Components belong to a gauge, so the ranking does. Only reordering and rescaling the ranks is harmless: what $b_k$ gains,
# $a_k$ loses. A gauge that mixes ranks makes other components, and nobody says that those are right which training
# happened to leave.

# %% [markdown]
# Is there a gauge on which everybody can agree?

# %%
# EXERCISE 07.4

# %% [markdown]
# How much of an expert do its k largest components hold? In the singular gauge as much as any k components can (Eckart and
# Young). In the gauge that training left, and in a random one? Guess which holds less.


# %%
def rotated(seed):
    """Another gauge of every layer: the ranks mixed by a random rotation Q, A -> Q A and B -> B Q^T."""
    generator = torch.Generator().manual_seed(seed)

    def turn(A, B):
        Q = torch.linalg.qr(torch.randn(len(A), len(A), generator=generator)).Q
        return Q @ A, B @ Q.T

    return turn


def left_out(adapter, keep):
    """|tau - its `keep` largest components| / |tau| of one expert."""
    (pruned,) = changed([adapter], lambda A, B: prune_ranks(A, B, size(A, B), keep))
    tau, part = se.flatten(dense(adapter)), se.flatten(dense(pruned))
    return ((tau - part).norm() / tau.norm()).item()


# %%
GAUGES = {"as trained": lambda A, B: (A, B), "rotated": rotated(0), "singular": singular_gauge}
same_experts = {name: changed(adapters, change) for name, change in GAUGES.items()}
for name, gauged in same_experts.items():
    spread = [(100 * size(A, B).std() / size(A, B).mean()).item() for A, B, _ in gauged[0].values()]
    what = f"{name}: spread of the sizes of an expert's components, in per cent of their mean"
    se.show(f"07.spread.{name}", sum(spread) / len(spread), what, slack=3.0)
errors = {name: [left_out(gauged[0], k) for k in range(1, r + 1)] for name, gauged in same_experts.items()}
less = errors["as trained"][KEEP - 1] - errors["rotated"][KEEP - 1]
se.claim("07.trained_holds_least", by=100 * less, at_least=3, unit="per cent of the update")
se.figure(*d07.left_out(errors, suite.id_tasks[0], KEEP))

# %% [markdown]
# Training left components of nearly equal size, so that no two of them stand out. A rotation makes some larger and others
# smaller; the singular gauge goes as far in this as can be.

# %% [markdown]
# So the singular gauge should make pruning cheap: for each expert alone, and for the merge? Write down what you expect
# of both. Then let the whole method run in each gauge. The experts are the same in all of them, and so would be the result
# of any method that works on the updates.

# %%
alone, merged, cosine = {}, {}, {}
for name, gauged in same_experts.items():
    first = name == "as trained"  # this one we have already
    pruned = as_trained if first else sa_lora(gauged, theta_0=suite.theta_0, flow=flow, T=10, p=0.2)
    thetas = [se.add(suite.theta_0, dense(adapter, like=suite.theta_0)) for adapter in pruned]
    hits = [accuracy(suite, theta, task, n=N) for theta, task in zip(thetas, suite.id_tasks, strict=True)]
    alone[name] = sum(hits) / len(hits)
    tau = task_arithmetic([dense(adapter) for adapter in pruned])
    _, merged[name] = kept["saliency", KEEP] if first else tested(tau)
    both = se.flatten(tau), se.flatten(by_saliency[KEEP])
    cosine[name] = torch.nn.functional.cosine_similarity(*both, dim=0).item()
    se.show(f"07.gauge.alone.{name}", alone[name], f"{name}: pruned experts, each on its own task", slack=2.5)
    se.show(f"07.gauge.merged.{name}", merged[name], "  merged: ID at its own lam", slack=3.0)
    se.show(f"07.gauge.cos.{name}", cosine[name], "  cosine with that as trained", unit="", digits=2, slack=0.05)

# %%
se.claim("07.gauge_decides_what_is_kept", by=1 - max(cosine["rotated"], cosine["singular"]), at_least=0.3, unit="")
se.claim("07.singular_keeps_experts", by=alone["singular"] - max(alone["as trained"], alone["rotated"]), at_least=6)
se.claim("07.no_gain_for_the_merge", by=max(merged["as trained"], merged["rotated"]) - merged["singular"], at_least=-2)
se.figure(*d07.gauges(alone, merged, mean, f"{KEEP} of {r}"))

# %% [markdown]
# Two lessons. A score of ranks answers a question about the *file*, not about the expert: after a rotation that changes no
# expert, other components are kept, and what is left of the sum points elsewhere (the cosines). Compare the accuracy of its
# merge with that of lots, in the figure: how much of what the score had won is left? (One rotation is one draw;
# `docs/ablations` has three.) Whoever uses such a score should fix the gauge first, or say which one was found. And what is
# good for each expert alone need not be good for their merge: the singular gauge keeps far more of every expert, and its
# merge gains nothing from that beyond the error.
#
# ## KnOTS: merge in a common basis
#
# The other way round: leave the ranks alone, work on the updates, but choose the *coordinates* in which they are merged.
# TIES compares entries. LoRA updates of different experts live in different low-dimensional spaces, and a single output
# coordinate means little to any of them. KnOTS (Stoica et al., 2025) puts them side by side, takes one SVD, and merges the
# coefficients in the directions U that the experts share.

# %%
# EXERCISE 07.5

# %%
from samerge_edu.masks import keep_largest
from samerge_edu.merges.knots import knots
from samerge_edu.merges.ties import ties
from samerge_edu.merges.tsv_m import tsv_m

taus = [dense(adapter) for adapter in adapters]
U, blocks = common_basis([tau[layer] for tau in taus])
print("one layer: U", tuple(U.shape), "blocks", tuple(blocks[0].shape))
print("nothing lost:", max((U @ b - tau[layer]).abs().max().item() for b, tau in zip(blocks, taus, strict=True)) < 1e-5)
in_basis = knots(taus, merge=task_arithmetic)
print("a plain sum comes out as it went in:", all((in_basis[k] - tau_sum[k]).abs().max() < 1e-5 for k in tau_sum))

# %% [markdown]
# The last line is a limit worth knowing: for a linear merge the basis is irrelevant. It can only matter to a merge that
# trims or elects, so look at what TIES finds: how many of the entries that survive its trim meet another expert there?

# %%
in_knots = []


def look(blocks):
    """TIES, and a glance at the blocks that it is given."""
    in_knots.extend(blocks)
    return ties(blocks)


def meeting(taus, density=0.2):
    """Of the places that any expert keeps after TIES' trim: the share (in percent) kept by two or more."""
    keep = keep_largest(taus, density)
    experts = torch.cat([keep(key).sum(dim=0).flatten() for key in taus[0]])
    return 100 * ((experts >= 2).sum() / (experts >= 1).sum()).item()


tau_knots = knots(taus, merge=look)
se.show("07.meet.plain", meeting(taus), "weights kept by any expert that two or more keep", slack=2.0)
se.show("07.meet.knots", meeting(in_knots), "the same in KnOTS' basis", slack=2.0)
board["TIES"] = tested(ties(taus))
board["KnOTS + TIES"] = tested(tau_knots)
se.claim("07.knots_meets", by=meeting(in_knots) - meeting(taus), at_least=8)
se.claim("07.knots_helps_ties", by=board["KnOTS + TIES"][1] - board["TIES"][1], at_least=1)
board["TSV-M"] = tested(tsv_m(taus))

# %% [markdown]
# ## Everything side by side
#
# Every row at the scale that validation chose. The last one, TSV-M (notebook 09), was not made for LoRA and knows nothing
# of ranks: it is here because a low-rank update is still a task vector.

# %%
for k in (7, 4, 2):
    board[f"SA-LoRA, {k} of 16 ranks"] = kept["saliency", k]
board["largest 4 of 16 ranks"] = kept["size", 4]
typical_lam = sorted(lam for lam, _ in draws)[len(draws) // 2]
board["random 2 of 16 ranks, mean"] = typical_lam, mean
se.claim("07.together_wins", by=board["TSV-M"][1] - plain, at_least=1.5)
show({name: board[name] for name in ("KnOTS + TIES", "TIES", "TSV-M")})
se.figure(*d07.side_by_side(board, "sum of the updates (cat)"))

# %% [markdown]
# How to read it: 800 images leave a standard error of 1.6 points in each row, less in differences, since all rows see the
# same images. What stands: adding the factors is wrong; KnOTS helps TIES; with 7 or 4 of 16 ranks, chosen by saliency or by
# size, the merge stays within a few points of that with all of them, and with 2 chosen by lots it does not. What does not
# follow: that saliency is *the* way to choose ranks. The plain sum at a well-chosen scale is hard to beat, and TSV-M, which
# beats it clearly here, works on the singular vectors of all experts *together*.

# %%
# OPEN 07.open

# %% [markdown]
# ## What to remember
#
# * A LoRA expert is a task vector $\tau = s B A$ of low rank. Form it once, and every merge works.
# * A and B are no coordinates: $(B M^{-1}, M A)$ is the same expert. Whatever treats them one by one depends on M.
# * The product of the sums is not the sum of the products: `linear` adds 56 cross terms to 8 wanted ones. `cat` is exact,
#   `svd` the best of its rank.
# * $\gamma_k = b_k \cdot (\partial R/\partial B)_k / s$ and $\eta_k = \sum_i s_i (b_k^T B_i)(A_i a_k)$ need no update.
# * Masking row k of A *and* column k of B prunes a rank and keeps the file's shapes.
# * Before you believe a pruning rule: random at the same count, a simple rule beside it, each at its own scale, another
#   gauge.
#
# ## Further reading
#
# * Hu et al.: *LoRA: Low-Rank Adaptation of Large Language Models*, 2022, arXiv:2106.09685.
# * Park, Lee, Sohn: *Saliency-Aware Model Merging*, 2026, arXiv:2606.00511: the rank-wise variant.
# * Stoica, Ramesh, Ecsedi, Choshen, Hoffman: *Model merging with SVD to tie the Knots*, 2025, arXiv:2410.19735.
# * Kalajdzievski: *A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA*, 2023, arXiv:2312.03732 (rsLoRA).
# * PEFT's documentation, "Model merging", and `add_weighted_adapter` in its source: `cat`, `svd`, `linear` and their kin.
#
# ## Claims
#
# | claim | status |
# |---|---|
# | `cat` is the sum of the updates, `linear` is not, and depends on the gauge | derived; measured here: `07.cat_is_exact`, `07.linear_is_not`, `07.linear_depends_on_the_gauge` |
# | Merged with `linear`, the experts are worse than with `cat`, each at its own scale | pocket suite, measured here: `07.linear_loses` |
# | $\gamma$ and $\eta$ can be had from the thin factors alone | derived; checked here against the explicit updates |
# | At 2 of 16 ranks the saliency score beats lots on average, by a little | pocket suite, ten draws, measured here: `07.saliency_beats_lots` |
# | It beats a choice by the size of the components | not seen: size is as good up to 2.5 points, measured here: `07.size_as_good` |
# | More rounds are better | not seen for ranks: one round is as good up to 2.5 points, measured here: `07.one_round_as_good`; `samerge-edu ablate sa-lora` |
# | With 7 or 4 of 16 ranks the merge is within 3 points of all ranks; with 2 by lots it is not | pocket suite, measured here: `07.few_ranks_do`, `07.lots_cost` |
# | The components that are kept depend on the gauge of the files | derived; in three gauges, measured here: `07.gauge_decides_what_is_kept` |
# | The singular gauge keeps more of each expert, and does not help the merge | in three gauges, measured here: `07.singular_keeps_experts`, `07.no_gain_for_the_merge` |
# | T and p for ranks | open: the paper gives none, we take those for entries |
# | KnOTS helps TIES on LoRA experts | from the paper, arXiv:2410.19735; pocket suite, measured here: `07.knots_helps_ties` |
# | Rank-wise SA-Merging beats other merges of LoRA experts | from the paper (language models); not seen here, TSV-M is ahead of the plain sum: measured here: `07.together_wins` |
