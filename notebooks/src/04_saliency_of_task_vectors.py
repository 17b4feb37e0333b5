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
# **Needs** notebooks 01 (task vectors) and 03 (SynFlow). **Minutes** 30 to read, 50 for the exercises; runs in about half
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
# single weight, so its slope is the same with and without the update. To first order the update adds $G\,\tau$; exactly,
# it adds slope times change of size. Here is a network of one hidden layer.

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
# $G = \mathrm{sign}(\theta_n) \cdot |G|$. Keep this in mind, it decides what notebook 05 finds. In the exercise G stands
# for the size, $|G|$.

# %%
# EXERCISE 04.1

# %%
added = strength_added(G.abs(), theta_0["W_1"], tau)
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
import matplotlib.pyplot as plt

from samerge_edu import plots

entries = (tau != 0).nonzero().tolist()
names = [f"tau[{i},{j}]" for i, j in entries]
figure, axes = plt.subplots(1, 2, figsize=(7, 2.6))
for axis, score, title in zip(axes, (tau.abs(), (G * tau).abs()), ("size |tau|", "saliency |G tau|"), strict=True):
    axis.barh(names, [score[i, j].item() for i, j in entries], hatch="//", edgecolor="white")
    axis.set(title=title)
    axis.invert_yaxis()
largest = max(entries, key=lambda e: tau[tuple(e)].abs())
place = 1 + sum(((G * tau).abs() > (G * tau).abs()[tuple(largest)]).flatten().tolist())
sentence = f"The largest update, tau{largest}, is number {place} of {len(entries)} by saliency."
se.figure(plots.titled(figure, sentence), sentence)

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
# class token. The SA-Merging preprint that we could read says nothing about any of them, and there is no public code. So
# **what follows is our decision**, and you may decide otherwise (it is one function, `clip_flow`). We want a forward pass
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
# | q and k | a gate per head of value 1, whose gradient is the relative change of the logit q k | else they would get no score at all |
# | biases, class token, positions | value 0, gradient of an offset | no path begins in them, but what they add flows on |
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
    se.show(f"04.lnR.{task}", flows[task].log_R - base_flow.log_R, f"  {task}: difference", unit="", digits=3, slack=0.01)
flips = sum(int((theta_0[k] * thetas[names[0]][k] < 0).sum()) for k in theta_0) / sum(v.numel() for v in theta_0.values())
se.show("04.flips", 100 * flips, f"weights whose sign fine-tuning on {names[0]} turned")

# %% [markdown]
# Is our hand-made block the same as the package's? Take the first block, send the vector through both, and compare the
# *relative* sizes of what comes out behind it with the gradient that `clip_flow` keeps for the next layer's input.


# %%
def block_of(theta, i):
    """The seven tensors that block_flow asks for."""
    p, w = f"transformer.resblocks.{i}.", len(theta["class_embedding"])
    W_v = theta[p + "attn.in_proj_weight"][2 * w :]  # rows of q, of k, of v
    rest = [theta[p + name] for name in ("attn.out_proj.weight", "ln_2.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")]
    return theta[p + "ln_1.weight"], W_v, *rest


x = theta_0["ln_pre.weight"].abs() * theta_0["conv1.weight"].flatten(1).abs().sum(dim=1)
x = block_flow(x, *block_of(theta_0, 0))
gain = theta_0["transformer.resblocks.1.ln_1.weight"].abs()
_, package = base_flow.factors["transformer.resblocks.1.attn.in_proj_weight"]  # what flows into block 1's q, k, v
mine = gain * x
package = package.flatten()
print("equal up to a constant:", torch.allclose(mine / mine.mean(), package / package.mean(), rtol=1e-3))

# %% [markdown]
# ## What G looks like
#
# For a matrix, G is what flows on from row i times what flows in at column j: an **outer product**. A layer of out x in
# entries has an importance of only out + in numbers. So within a tensor G can favour whole rows and whole columns, and
# nothing finer. How different are they?

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
for label, numbers in (("rows of G", rows), ("columns of G", columns), ("|tau|", updates)):
    se.show(f"04.spread.{label}", sum(numbers) / len(numbers), f"spread of {label}, mean over matrices", slack=2.0)
width = len(theta_0["class_embedding"])
print(f"a sum of {width} sizes of normal numbers would have a spread of {75.5 / width**0.5:.1f} %")

# %% [markdown]
# The rows and columns of G differ by a few per cent only, while the updates differ by nearly their own size. The last
# line explains it. What flows into a unit is a sum over hundreds of absolute weights; sizes of normally distributed numbers
# have a spread of 75.5 % around their mean, and a sum of n of them $75.5 / \sqrt n$. The law of large numbers evens the flow
# out. There are hardly any blocked units in a dense network of this kind.
#
# Before you go on: what does this mean for the ranking by $|G\tau|$?

# %%
# QUIZ 04.q1

# %%
# EXERCISE 04.4

# %%
both = [rank_correlation(tau[k].abs(), flow.gradient(k) * tau[k].abs()) for k in matrices]
alone = [rank_correlation(tau[k].abs(), flow.gradient(k)) for k in matrices]
se.show("04.rank.both", sum(both) / len(both), "rank correlation of |tau| with |G tau|", unit="", digits=2, slack=0.05)
se.show("04.rank.alone", sum(alone) / len(alone), "rank correlation of |tau| with G alone", unit="", digits=2, slack=0.05)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), width_ratios=(1, 1.3))
key = matrices[2]
pick = torch.arange(0, tau[key].numel(), 37)  # some of the entries, or the picture is a blot
size, G = tau[key].abs().flatten()[pick], flow.gradient(key).flatten()[pick]
left.loglog(size, G / G.mean(), linestyle="", marker=".", markersize=3)
left.set(xlabel="|tau|", ylabel="G / mean(G)", title=key.removeprefix("transformer.resblocks."), ylim=(0.1, 10))
left.set_xlim(size.max() / 1e4, size.max() * 2)
places = range(len(matrices))
right.plot(places, both, label="|tau| with |G tau|")
right.plot(places, alone, label="|tau| with G alone")
labels = [k.removeprefix("transformer.resblocks.").removesuffix(".weight").removesuffix("_weight") for k in matrices]
right.set_xticks(places, labels, rotation=90, fontsize=7)
right.set(ylabel="rank correlation", ylim=(-0.3, 1.05))
right.legend()
sentence = f"{task}: |tau| spans decades, G hardly varies; so |G tau| ranks as |tau| does, with correlation "
sentence += f"{min(both):.2f} or more in every matrix."
se.figure(plots.titled(figure, sentence), sentence)

# %% [markdown]
# This is a finding, and not the one we expected from the paper, whose summary says that sensitivity ranks differently from
# magnitude. Both can be true: *G alone* has nothing to do with $|\tau|$, as the other line shows. But as a factor beside
# $|\tau|$ it changes next to nothing in this suite. Models with a few outlier channels, as large pre-trained
# transformers have, should show a larger spread: run this notebook with `SAMERGE_SUITE=vit-b-32` to see theirs.

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
        "G alone": lambda k: flow.gradient(k).expand_as(tau[k]),
        "random": lambda k: torch.rand(tau[k].shape, generator=generator),
    }


# %%
table = {}
for task in names:
    table[task, "base"] = accuracy(suite, theta_0, task, "test", N)
    table[task, "expert"] = accuracy(suite, thetas[task], task, "test", N)
    for way, score in ways(taus[task], flows[task]).items():
        table[task, way] = accuracy(suite, se.add(theta_0, trimmed(taus[task], score)), task, "test", N)
for column in ("base", "expert", "size", "saliency", "G alone", "random"):
    mean = sum(table[task, column] for task in names) / len(names)
    se.show(f"04.keep.{column}", mean, f"mean test accuracy, {column}", slack=2.0)

# %% [markdown]
# Size and saliency are about equal, as their rankings are. G alone and random are about equal too: rows and columns that
# differ by a few per cent pick entries more or less blindly, and a blindly kept 5 % does carry something of the task.

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

images = suite.images(names[0], "test", 20)[0].cpu()
before, after = (functional_call(suite.visual.cpu().eval(), theta, (images,)) for theta in (theta_0, rewritten(theta_0)))
print("features of 20 images equal up to rounding:", torch.allclose(before, after, atol=1e-3))

# %%
base_2 = rewritten(theta_0)
for task in names:
    theta_2 = rewritten(thetas[task])
    (tau_2,), flow_2 = se.task_vectors(base_2, [theta_2]), clip_flow(theta_2, heads=suite.attention_heads)
    for way in ("size", "saliency"):
        kept = se.add(base_2, trimmed(tau_2, ways(tau_2, flow_2)[way]))
        table[task, way + ", rewritten"] = accuracy(suite, kept, task, "test", N)
for way in ("size", "size, rewritten", "saliency", "saliency, rewritten"):
    mean = sum(table[task, way] for task in names) / len(names)
    se.show(f"04.rewritten.{way}", mean, f"mean test accuracy, {way}", slack=2.0)

# %%
figure, axis = plt.subplots(figsize=(7, 3))
shown = ["base", "expert", "size", "size, rewritten", "saliency", "saliency, rewritten", "G alone", "random"]
for n, task in enumerate(names):
    heights = [table[task, way] for way in shown]
    axis.bar([i + 0.27 * (n - 1) for i in range(len(shown))], heights, 0.27, label=task, hatch=plots.HATCHES[n], edgecolor="white")
axis.set_xticks(range(len(shown)), shown, rotation=20, ha="right", fontsize=9)
axis.set(ylabel="test accuracy (%)", ylim=(0, 100))
axis.grid(axis="x", visible=False)
axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
means = {way: sum(table[task, way] for task in names) / len(names) for way in shown}
sentence = f"5 % kept: by size {means['size']:.1f} %, by saliency {means['saliency']:.1f} %; after rewriting "
sentence += f"the same models {means['size, rewritten']:.1f} % and {means['saliency, rewritten']:.1f} %."
se.figure(plots.titled(figure, sentence), sentence)

# %%
# QUIZ 04.q2

# %% [markdown]
# That is what saliency buys, independently of how large the effect is on one checkpoint: **its ranking belongs to the
# function and not to the way its numbers are written**. Ordinary training happens to write networks in a balanced way, so
# that sizes are a fair guess.

# %%
# QUIZ 04.q3

# %%
# OPEN 04.open

# %% [markdown]
# ## What to remember
#
# * $R_n$ is the path strength of the whole expert $\theta_0 + \tau_n$; an update adds $|G|\,(|\theta_0 + \tau| -
#   |\theta_0|)$ to it, to first order $G\,\tau$ with $G = \mathrm{sign}(\theta_n)\,|G|$.
# * A large update into a unit that leads nowhere is blocked; a small one in front of a large weight matters.
# * For a ViT, R needs a stand-in. Ours: one vector, absolute weights, residual additions kept. No source prescribes it.
# * G of a matrix is an outer product. In a wide, dense network its rows and columns average out, so $|G\tau|$ ranks nearly
#   as $|\tau|$ does.
# * Saliency does not change when the model is rewritten; magnitude does.
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
# | Rows and columns of G differ by a few per cent, so size and saliency rank alike | measured here, one suite, our stand-in for R |
# | Ranking by sensitivity correlates weakly with ranking by magnitude | from the paper, as summarised in public notes on arXiv:2606.00511; here true of G alone, not of the product with the update |
# | Keeping 5 % by saliency is as good as by size, and both beat random | measured here, three experts |
# | After rewriting the model, magnitude loses accuracy and saliency does not | measured here, one draw of factors; the invariance of saliency is exact |
# | In models with outlier channels saliency differs more from magnitude | open: run with `SAMERGE_SUITE=vit-b-32` |
