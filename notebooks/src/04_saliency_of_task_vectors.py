# %% [markdown]
# # 04 The saliency of task vectors
#
# **You will be able to**
#
# * say what a single update adds to an expert's path strength R, exactly and to first order;
# * show a large update that is blocked, and a small one that matters;
# * build a stand-in for R in a vision transformer, and name every choice in it that no paper prescribes;
# * compare saliency with magnitude on real task vectors, and explain why they agree or not.
#
# **Needs** notebooks 01 (task vectors) and 03 (SynFlow). **Minutes** {reading} to read, {exercises} for the exercises; runs in about half
# a minute on two cores (pocket suite). On Colab: File, Save a copy in Drive, before you start.

# %% [markdown]
# ## From a weight to an update
#
# SynFlow asks what is lost without a *weight*. Merging asks another question: what is lost without an *update*? Expert n
# is $\theta_n = \theta_0 + \tau_n$. SA-Merging (Park, Lee and Sohn, 2026) takes the path strength of the whole expert,
#
# $$R_n = \mathbb{1}^T \Big( \prod_{l=1}^{L} \big|\theta_0^l + \tau_n^l\big| \Big) \mathbb{1}, \qquad
#   G_n = \frac{\partial R_n}{\partial \tau_n}$$
#
# and scores the updates with $G_n$. How much of $R_n$ hangs on one entry of $\tau_n$? R is linear in the *size* of each
# single weight, so the **slope** $|G_n| = \partial R_n / \partial |\theta_n|$ is the same with and without the update. To
# first order the update adds $G\,\tau$; exactly, it adds slope times change of size. Here is a network of one hidden layer.

# %%
theta_0 = {"W_1": torch.tensor([[1.0, 2.0], [2.0, -1.0], [1.0, 1.0]]), "W_2": torch.tensor([[0.01, 4.0, -1.0]])}
tau = torch.tensor([[5.0, 0.0], [0.2, 0.3], [0.0, -3.0]])  # updates of W_1 only


def R(W_1, W_2):
    return (W_2.abs() @ W_1.abs()).sum()


theta = (theta_0["W_1"] + tau).requires_grad_()
(G,) = torch.autograd.grad(R(theta, theta_0["W_2"]), theta)
print("R of the base:", R(**theta_0).item(), " R of the expert:", round(R(theta, theta_0["W_2"]).item(), 2))
print("G = dR/dtau:", [[round(g, 2) for g in row] for row in G.tolist()])
print("tau:        ", [[round(t, 2) for t in row] for row in tau.tolist()])

# %% [markdown]
# Look at the signs of G. Where the weight is negative, a *positive* update makes it smaller, and so R: the derivative is
# $G = \mathrm{sign}(\theta_n) \cdot |G|$. Keep this in mind, it decides what notebook 05 finds. In this course G has its
# sign, as in the paper; what is never negative is called the slope, $|G|$.

# %%
# EXERCISE 04.1

# %%
added = strength_added(G.abs(), theta_0["W_1"], tau)  # the slope, without its sign
for (i, j) in (tau != 0).nonzero().tolist():
    first_order = (G * tau)[i, j].item()
    print(f"tau[{i},{j}] = {tau[i, j]:4.1f}   to first order {first_order:5.2f}   exactly {added[i, j].item():5.2f}")

# %% [markdown]
# They differ in the last line only: there the update turns the sign of the weight, from 1 to -2, and the size bends at
# zero. In fine-tuned models that is rare (we count it below), so $|G \tau|$ is a good measure of what an update adds.

# %% [markdown]
# ## A large update that is blocked, a small one that matters
#
# In the table above the largest update of all, 5.0, adds 0.05 to R, and an update of 0.2 adds 0.8. Why? The 5.0 goes into
# hidden unit 0, whose only way out has the weight 0.01: it is **blocked**. The 0.2 goes into unit 1, whose weight is 4.
# A ranking by size cannot know this; it looks at one number at a time.

# %%
from samerge_edu.course.drawings import d04

se.figure(*d04.two_rankings(tau, (G * tau).abs()))

# %% [markdown]
# The extreme case is a slope of exactly zero.

# %%
# EXERCISE 04.2

# %%
print(blocked(torch.tensor([1.0, 1.0]), torch.tensor([[0.0, 4.0, -1.0]])))

# %% [markdown]
# ## R for a vision transformer
#
# The formula above knows a chain of matrices. A transformer has attention, LayerNorm, GELU, residual additions, biases, a
# class token. What we could read of SA-Merging (its abstract and public notes on it, not the full text) says nothing about
# any of them, and there is no public code. So **what follows is our decision**, and you may decide otherwise (it is one
# function, `clip_flow`). We want a forward pass
# in which every weight enters in absolute value, which is linear in each of them, and which is the sum over paths where
# the network is a chain:
#
# | part | stand-in | reason |
# |---|---|---|
# | image | all ones | as in SynFlow |
# | attention | returns its token | all patches of an all-ones image are equal, and a weighted mean of equal tokens is the token |
# | GELU | identity | as ReLU on positive numbers |
# | LayerNorm | its gain | no mean, no variance: they would undo the path strength |
# | residual addition | kept | a path may go round a block |
# | q and k | a gate per head: a factor that is 1 now | else they would get no score at all |
# | biases, class token, positions | value 0, gradient of an offset | no path begins in them, but what they add flows on |
#
# The gate needs a word. Queries and keys decide only *where* a head looks, and among equal tokens that is all the same; so R
# would not depend on them, and a pruning rule would drop them first. We multiply what a head reads by
# $q \cdot k$, divided by the number that $q \cdot k$ has now. The factor is 1, R is what it was, but a derivative has
# appeared: by how many per cent the head's logit changes if an entry of $W_q$ or $W_k$ does.
#
# The line about attention can be checked: with equal tokens, queries and keys do not matter.

# %%
token = torch.tensor([1.0, 2.0, 0.5])
tokens = token.repeat(4, 1)  # four equal tokens
for seed in (0, 1):
    q, k = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(seed))
    q, k = q[:1].expand(4, 4), k[:1].expand(4, 4)  # equal tokens have equal queries and keys
    weights = (q @ k.T).softmax(dim=1)
    print("attention weights:", weights[0].tolist(), " out:", (weights @ tokens)[0].tolist())

# %% [markdown]
# So one block is, with all weights in absolute value and one vector x instead of a token sequence:
#
# $$x \leftarrow x + |W_{out}|\,|W_v|\,|g_1|\,x, \qquad x \leftarrow x + |W_{fc2}|\,|W_{fc1}|\,|g_2|\,x$$

# %%
# EXERCISE 04.3

# %% [markdown]
# After each addition the package divides x by its mean and notes the logarithm, because R itself leaves the range of
# float32 in a deep network: `clip_flow` returns $\ln R$ and its gradient. Since $d \ln R = dR / R$, that is one positive
# constant for the whole expert, and no ranking changes. One vector forward, one backward: no image, no data.
# `flow.gradient(key)` is the slope, $|G|$, of a tensor; the sign is that of the weight.

# %%
# QUIZ 04.q1

# %%
from samerge_edu.saliency import clip_flow

suite = se.load_suite(lab.suite)
theta_0 = {k: v.cpu() for k, v in suite.theta_0.items()}
names = suite.id_tasks[::3][:3]  # three experts are enough for this lesson
thetas = {task: {k: suite.experts[task][k].cpu() for k in theta_0} for task in names}
taus = {task: se.task_vectors(theta_0, [theta])[0] for task, theta in thetas.items()}
flows = {task: clip_flow(theta, heads=suite.attention_heads) for task, theta in thetas.items()}
base_flow = clip_flow(theta_0, heads=suite.attention_heads)
print("experts:", ", ".join(names))
se.show("04.lnR", base_flow.log_R, "ln R of the base", unit="", digits=2, slack=0.1)
for task in names:
    grown = flows[task].log_R - base_flow.log_R
    se.show(f"04.lnR.{task}", grown, f"  {task}: difference", unit="", digits=3, slack=0.01)
flips = se.flatten(theta_0) * se.flatten(thetas[names[0]]) < 0
se.show("04.flips", 100 * flips.double().mean().item(), f"weights whose sign fine-tuning on {names[0]} turned")

# %% [markdown]
# Is our hand-made block the same as the package's? Take the vector that enters the first block, send it through
# `block_flow`, and compare with what `clip_flow` has noted as *flowing into* the second block's q, k and v: the other half
# of the gradient there. The vector that enters: on an all-ones image each patch gives the same token,
# $|W_{patch}|\,\mathbb{1}$ (rows of `conv1`, added up), and the first LayerNorm, `ln_pre`, multiplies it by its gain. The two
# agree up to the constant by which the package divides.


# %%
def block_of(theta, i):
    """The seven tensors that block_flow asks for."""
    p, w = f"transformer.resblocks.{i}.", len(theta["class_embedding"])
    W_v = theta[p + "attn.in_proj_weight"][2 * w :]  # rows of q, of k, of v
    rest = [theta[p + name] for name in ("attn.out_proj.weight", "ln_2.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")]
    return theta[p + "ln_1.weight"], W_v, *rest


x = theta_0["ln_pre.weight"].abs() * theta_0["conv1.weight"].flatten(1).abs().sum(dim=1)
x = block_flow(x, *block_of(theta_0, 0))
mine = theta_0["transformer.resblocks.1.ln_1.weight"].abs() * x  # the second block's first LayerNorm
_, package = base_flow.factors["transformer.resblocks.1.attn.in_proj_weight"]  # (what flows on, what flows in)
package = package.flatten()
print("equal up to a constant:", torch.allclose(mine / mine.mean(), package / package.mean(), rtol=1e-3))

# %% [markdown]
# ## What the slope looks like
#
# For a matrix, $|G|$ is what flows on from row i times what flows in at column j: an **outer product**. A layer of
# out x in entries has an importance of only out + in numbers. So within a tensor $|G|$ can favour whole rows and whole
# columns, and nothing finer. How different are they?

# %%
task = names[0]
tau, flow = taus[task], flows[task]
matrices = [k for k in theta_0 if theta_0[k].ndim == 2 and k.startswith("transformer")]


def spread(v):
    """Standard deviation in per cent of the mean."""
    return (100 * v.std() / v.mean()).item()


rows = [spread(flow.factors[k][0]) for k in matrices]
columns = [spread(flow.factors[k][1]) for k in matrices]
updates = [spread(tau[k].abs()) for k in matrices]
spreads = {"rows of |G|": rows, "columns of |G|": columns, "|tau|": updates}
spreads = {label: sum(numbers) / len(numbers) for label, numbers in spreads.items()}
for label, value in spreads.items():
    se.show(f"04.spread.{label}", value, f"spread of {label}, mean over matrices", slack=2.0)
even = max(spreads["rows of |G|"], spreads["columns of |G|"])
se.claim("04.flow_is_even", by=spreads["|tau|"] - even, at_least=50)
width = len(theta_0["class_embedding"])
print(f"a sum of {width} sizes of normal numbers would have a spread of {75.5 / width**0.5:.1f} %")

# %% [markdown]
# The rows and columns of $|G|$ differ by a few per cent only, while the updates differ by nearly their own size. The last
# line explains it. What flows into a unit is a sum over many absolute weights; sizes of normally distributed numbers
# have a spread of 75.5 % around their mean, and a sum of n of them $75.5 / \sqrt n$. The law of large numbers evens the flow
# out: no unit of these matrices comes near to being blocked.
#
# Before you go on: what does this mean for the ranking by $|G\tau|$?

# %%
# QUIZ 04.q2

# %%
# EXERCISE 04.4

# %%
both = {k: rank_correlation(tau[k].abs(), flow.gradient(k) * tau[k].abs()) for k in matrices}
alone = {k: rank_correlation(tau[k].abs(), flow.gradient(k)) for k in matrices}
se.claim("04.rank_alike", by=min(both.values()), at_least=0.9, unit="at least, in every matrix")
se.claim("04.slope_alone_unrelated", by=-max(abs(r) for r in alone.values()), at_least=-0.3, unit="")
for what, numbers in (("|G tau|", both), ("|G| alone", alone)):
    mean = sum(numbers.values()) / len(numbers)
    se.show(f"04.rank.{what}", mean, f"rank correlation of |tau| with {what}, mean", unit="", digits=2, slack=0.05)

# %%
key = matrices[2]
se.figure(*d04.size_and_slope(tau[key].abs(), flow.gradient(key), key, both, alone))

# %% [markdown]
# This is a finding, and not the one we expected: the public notes on the paper say that sensitivity ranks differently from
# magnitude. Both can be true. $|G|$ *alone* has little to do with $|\tau|$, as the other line shows. But as a factor beside
# $|\tau|$ it changes next to nothing in this suite. Models with a few outlier channels, as large pre-trained
# transformers have, might show a larger spread: run this notebook with `SAMERGE_SUITE=vit-b-32` to see theirs.

# %% [markdown]
# ## Does the ranking matter for accuracy?
#
# Keep 5 % of each tensor of one expert's task vector, chosen in four ways, and evaluate on that expert's task. Nothing
# is merged here: the question is which updates carry a task.

# %%
from samerge_edu.evaluate import accuracy
from samerge_edu.masks import keep_count, topk_mask

N = 200  # test images a task


def trimmed(tau, score, density=0.05):
    """tau with the largest scores of each tensor only; score: name -> tensor."""
    kept = {}
    for k in tau:
        mask = topk_mask(score(k).flatten(), keep_count(density, tau[k].numel()))
        kept[k] = tau[k] * mask.view_as(tau[k])
    return kept


def ways(tau, flow):
    generator = torch.Generator().manual_seed(0)
    return {
        "size": lambda k: tau[k].abs(),
        "saliency": lambda k: flow.gradient(k) * tau[k].abs(),
        "|G| alone": lambda k: flow.gradient(k).expand_as(tau[k]),
        "random": lambda k: torch.rand(tau[k].shape, generator=generator),
    }


# %%
table = {}
for task in names:
    table[task, "base"] = accuracy(suite, theta_0, task, "test", N)
    table[task, "expert"] = accuracy(suite, thetas[task], task, "test", N)
    for way, score in ways(taus[task], flows[task]).items():
        table[task, way] = accuracy(suite, se.add(theta_0, trimmed(taus[task], score)), task, "test", N)
means = {way: sum(table[task, way] for task in names) / len(names) for _, way in table}
se.claim("04.saliency_as_good_as_size", by=-abs(means["saliency"] - means["size"]), at_least=-3)
blind = max(means["random"], means["|G| alone"])
se.claim("04.both_beat_random", by=min(means["saliency"], means["size"]) - blind, at_least=5)
for way, mean in means.items():
    se.show(f"04.keep.{way}", mean, f"mean test accuracy, {way}", slack=2.0)

# %% [markdown]
# Size and saliency are about equal, as their rankings are. $|G|$ alone does no better than lots: rows and columns that
# differ by a few per cent pick entries more or less blindly, and 5 % picked blindly end a few points above the base.

# %% [markdown]
# ## The same model, written differently
#
# So is saliency of no use? Remember how notebook 03 began: stretch a unit, and sizes change while the function does not.
# A transformer has such freedoms in every block. The values of attention enter `out_proj` linearly: multiply rows of $W_v$
# by s, divide columns of $W_{out}$ by s.

# %%
# EXERCISE 04.5

# %% [markdown]
# The same holds between a LayerNorm (its gain and bias are a first layer of one row per channel) and the matrix behind
# it. We rewrite base and experts with the *same* random factors. Nobody who only runs the models could tell.


# %%
def rewritten(theta, seed=0):
    """The same function with other numbers: a random factor for each channel of v and of each LayerNorm."""
    generator, width = torch.Generator().manual_seed(seed), len(theta["class_embedding"])
    theta = {k: v.clone() for k, v in theta.items()}

    def rescale(weight, bias, behind, rows=slice(None)):
        s = torch.randn(width, generator=generator).exp()
        first = torch.cat([theta[weight][rows].reshape(width, -1), theta[bias][rows, None]], dim=1)
        first, theta[behind] = stretch(first, theta[behind], s)
        theta[weight][rows] = first[:, :-1].view_as(theta[weight][rows])
        theta[bias][rows] = first[:, -1]

    for p in sorted({k[: k.index("ln_1")] for k in theta if k.endswith("ln_1.weight")}):
        rescale(p + "ln_1.weight", p + "ln_1.bias", p + "attn.in_proj_weight")
        rescale(p + "attn.in_proj_weight", p + "attn.in_proj_bias", p + "attn.out_proj.weight", slice(2 * width, None))
        rescale(p + "ln_2.weight", p + "ln_2.bias", p + "mlp.c_fc.weight")
    return theta


# %%
from torch.func import functional_call

images, tower = suite.images(names[0], "test", 20)[0].cpu(), suite.visual.cpu().eval()
before, after = (functional_call(tower, theta, (images,)) for theta in (theta_0, rewritten(theta_0)))
print("features of 20 images equal up to rounding:", torch.allclose(before, after, atol=1e-3))

# %%
base_2, moved = rewritten(theta_0), {}
for task in names:
    theta_2 = rewritten(thetas[task])
    (tau_2,), flow_2 = se.task_vectors(base_2, [theta_2]), clip_flow(theta_2, heads=suite.attention_heads)
    for way in ("size", "saliency"):
        kept = trimmed(tau_2, ways(tau_2, flow_2)[way])
        before = se.flatten(trimmed(taus[task], ways(taus[task], flows[task])[way])) != 0
        moved[task, way] = 100 * (1 - (before & (se.flatten(kept) != 0)).sum().item() / before.sum().item())
        table[task, way + ", rewritten"] = accuracy(suite, se.add(base_2, kept), task, "test", N)
means |= {way: sum(table[task, way] for task in names) / len(names) for _, way in table}
for way in ("size", "saliency"):
    exchanged = max(moved[task, way] for task in names)
    se.show(f"04.exchanged.{way}", exchanged, f"kept entries that rewriting exchanges, {way}", digits=2, slack=2.0)
    se.show(f"04.rewritten.{way}", means[way + ", rewritten"], f"mean test accuracy, {way}, rewritten", slack=2.0)

# %%
shown = ["base", "expert", "size", "size, rewritten", "saliency", "saliency, rewritten", "|G| alone", "random"]
se.claim("04.size_loses", by=means["size"] - means["size, rewritten"], at_least=2)
se.claim("04.saliency_stays", by=0 - abs(means["saliency"] - means["saliency, rewritten"]), at_least=-1)
se.figure(*d04.kept_accuracy(table, shown, means))

# %% [markdown]
# On paper the saliency of an entry does not change at all: a row of $|G|$ is divided by the s by which the same row of
# $\tau$ is multiplied. In float32 both are rounded, and an entry at the very threshold may change places with another; the
# shares printed above say how many did.

# %%
# QUIZ 04.q3

# %% [markdown]
# That is what saliency buys, however large the effect on one checkpoint: **its ranking belongs to the function, not to the
# way its numbers are written**. At least where R itself does not change: it knows this freedom, and no other. In the form in
# which training left these experts, size does as well.

# %%
# OPEN 04.open

# %% [markdown]
# ## What to remember
#
# * $R_n$ is the path strength of the whole expert $\theta_0 + \tau_n$; an update adds $|G|\,(|\theta_0 + \tau| -
#   |\theta_0|)$ to it, to first order $G\,\tau$ with $G = \mathrm{sign}(\theta_n)\,|G|$.
# * A large update into a unit that leads nowhere is blocked; a small one in front of a large weight matters.
# * For a ViT, R needs a stand-in. Ours: one vector, absolute weights, residual additions kept. No source prescribes it.
# * $|G|$ of a matrix is an outer product. In a wide, dense network its rows and columns average out, so $|G\tau|$ ranks
#   nearly as $|\tau|$ does.
# * Saliency ranks the same when units are stretched and the function stays; magnitude does not.
# * What one expert's saliency cannot know is the *other* experts: notebook 05.
#
# ## Further reading
#
# * Park, Lee, Sohn: *Saliency-Aware Model Merging*, 2026, arXiv:2606.00511: $R_n$ and $G_n$ are step 2 of Algorithm 1.
# * Tanaka et al.: *Pruning neural networks without any data*, 2020, arXiv:2006.05467: SynFlow.
# * Molchanov et al.: *Importance estimation for neural network pruning*, 2019, arXiv:1906.10771: gradient times weight,
#   with data.
# * Dettmers et al.: *LLM.int8()*, 2022, arXiv:2208.07339: outlier channels in large transformers.
#
# ## Claims
#
# | claim | status |
# |---|---|
# | R is linear in each single size; the first order is exact unless the sign turns | derived; checked here by exercise 04.1 |
# | Rows and columns of the slope differ by a few per cent, the updates by far more | one suite, our stand-in for R, measured here: `04.flow_is_even` |
# | So saliency and size rank alike, in every matrix | same suite, measured here: `04.rank_alike` |
# | Ranking by sensitivity correlates weakly with ranking by magnitude | from public notes on arXiv:2606.00511; true of the slope alone, not of its product with the update, measured here: `04.slope_alone_unrelated` |
# | Keeping 5 % by saliency is as good as by size, up to 3 points; both beat random | three experts, measured here: `04.saliency_as_good_as_size`, `04.both_beat_random` |
# | After rewriting the model, magnitude loses accuracy and saliency does not | one draw of factors, measured here: `04.size_loses`, `04.saliency_stays` |
# | The ranking by saliency does not change under that rewriting | derived, but for rounding |
# | In models with outlier channels saliency differs more from magnitude | open: run with `SAMERGE_SUITE=vit-b-32` |
