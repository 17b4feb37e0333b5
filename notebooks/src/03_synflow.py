# %% [markdown]
# # 03 SynFlow: score a weight by the paths that run through it
#
# **You will be able to**
#
# * write the path strength R of a network as a product of matrices, and derive SynFlow's score from it;
# * state its conservation law, and see it in a drawing of all paths;
# * explain layer collapse, and prune a trained network down to 1 % of its weights without it;
# * name what SynFlow cannot see.
#
# **Needs** nothing but matrix products; notebook 02 says why we want to drop weights at all.
# **Minutes** {reading} to read, {exercises} for the exercises; runs in under half a minute on two cores.
# This lesson needs no suite and no trained CLIP: it looks the same whatever `SAMERGE_SUITE` says.
# On Colab: File, Save a copy in Drive, before you start.

# %% [markdown]
# ## Why not simply the size of a weight?
#
# To shrink a network, or a task vector, one has to say which entries matter. The usual answer is *the large ones*.
# Here is a reason to doubt it. In a ReLU network, multiply everything that enters a hidden unit by 10 and divide
# everything that leaves it by 10. The function is the same for every input: ReLU(10 a) = 10 ReLU(a). But the ranking
# by size is not.

# %%
first, second = torch.tensor([[2.0, -1.0], [1.0, 3.0]]), torch.tensor([[1.0, 2.0]])
stretch = torch.tensor([10.0, 1.0])  # of hidden unit 0
first_10, second_10 = stretch[:, None] * first, second / stretch

x = torch.tensor([0.5, 2.0])
print("output before:", (second @ (first @ x).relu()).item(), " after:", (second_10 @ (first_10 @ x).relu()).item())
for when, W, V in (("before", first, second), ("after ", first_10, second_10)):
    print(f"sizes {when}:", [f"{w:g}" for w in torch.cat([W.flatten(), V.flatten()]).abs()])

# %% [markdown]
# Same function, other sizes: before, the weight -1 of the first layer is among the smallest of the network; after, it
# is -10 and beats all but one. So a
# score that is to say something about the *function* must look beyond a single weight, at what it is connected to.
# Dividing layer by layer does not help: the stretching can differ from unit to unit.

# %% [markdown]
# ## All paths of a small network
#
# Take the plainest network: layers of weights $W_1, \dots, W_L$, no biases, ReLU between them. A **path** goes from an
# input to an output through one unit of each layer. Its strength is the product of the absolute weights on it. SynFlow
# (Tanaka et al., 2020) adds up all of them:
#
# $$R = \sum_{\text{paths}} \prod_{l=1}^{L} |w_l| = \mathbb{1}^T\, |W_L| \cdots |W_2|\, |W_1|\, \mathbb{1}$$
#
# The right-hand side is what a matrix product *is*: it sums over every chain of indices. Our example has 2 inputs,
# two hidden layers of 3 and 2 units, and 1 output. Row i of a matrix holds the weights *into* unit i.

# %%
W_1 = torch.tensor([[2.0, 1.0], [-1.0, 1.0], [0.0, -3.0]])
W_2 = torch.tensor([[1.0, -2.0, 1.0], [0.0, 1.0, -1.0]])
W_3 = torch.tensor([[2.0, -1.0]])
Ws = [W_1, W_2, W_3]


def path_strengths(W_1, W_2, W_3):
    """(input, unit of hidden 1, unit of hidden 2) -> strength, for all 12 paths to the one output."""
    return {
        (i, j, k): abs(W_1[j, i] * W_2[k, j] * W_3[0, k]).item() for i in range(2) for j in range(3) for k in range(2)
    }


paths = path_strengths(*Ws)
for (i, j, k), strength in paths.items():
    print(f"input {i} -> unit {j} -> unit {k} -> output: {strength:g}")
print(f"{len(paths)} paths, {sum(s > 0 for s in paths.values())} of them alive, R = {sum(paths.values()):g}")

# %% [markdown]
# Twelve paths, four of them dead because a weight on them is zero. A network of five layers that is 100 units wide everywhere has
# $100^6 = 10^{12}$ paths: nobody walks along each of them. Write R the other way.

# %%
# EXERCISE 03.1

# %%
print("R by the product of matrices:", path_strength(Ws))
print("one layer times 10:          ", path_strength([10 * W_1, W_2, W_3]))
print("a hidden unit stretched:     ", path_strength([first, second]), "=", path_strength([first_10, second_10]))

# %% [markdown]
# The last line is what we wanted: R does not change when a unit is stretched, because every path that enters the unit
# also leaves it. R is also known as the **l1 path norm** (Neyshabur et al., 2015).

# %% [markdown]
# ## The score: paths through an entry
#
# How much of R would be lost without the weight $w = W_l[i, j]$? All the paths that use it. R is linear in each single
# $|w|$, so that loss is the derivative times the weight:
#
# $$S(w) = \left| \frac{\partial R}{\partial w}\, w \right| = \sum_{\text{paths through } w} \prod |w_l|
#   = \underbrace{u_i}_{\text{flows on}} |W_l[i, j]| \underbrace{x_j}_{\text{flows in}}$$
#
# with $x = |W_{l-1}| \cdots |W_1|\, \mathbb{1}$: what the layers *before* bring to unit j; and
# $u = |W_{l+1}|^T \cdots |W_L|^T\, \mathbb{1}$: what the layers *after* carry on from unit i. For the middle layer of our
# network, by hand: $x = |W_1| \mathbb{1} = (3, 2, 3)$ and $u = |W_3|^T \mathbb{1} = (2, 1)$. The weight -2 at row 0, column 1
# scores $2 \cdot 2 \cdot 2 = 8$.

# %%
x, u = W_1.abs().sum(dim=1), W_3.abs().sum(dim=0)
print("flows in:", x.tolist(), " flows on:", u.tolist())
print("scores of the middle layer:", (u[:, None] * W_2.abs() * x).tolist())

through = sum(s for (i, j, k), s in paths.items() if (j, k) == (1, 0))
print("paths through row 0, column 1, added up:", through)

# %%
# EXERCISE 03.2

# %% [markdown]
# The package computes the same for any torch module, with autograd, in float64: absolute values of everything, an
# all-ones input, one backward pass. Compare your function with it.

# %%
from torch import nn

from samerge_edu.saliency import synflow, synflow_prune


def as_module(Ws):
    """A bias-free ReLU network with these weights."""
    layers = []
    for W in Ws:
        layers += [nn.Linear(*W.T.shape, bias=False), nn.ReLU()]
        layers[-2].weight.data = W.clone()
    return nn.Sequential(*layers[:-1])  # no ReLU after the last layer


for mine, theirs in zip(synflow_scores(Ws), synflow(as_module(Ws), input_shape=(2,)).values(), strict=True):
    print("largest difference:", (mine - theirs).abs().max().item(), " scores:", mine.tolist())

# %% [markdown]
# And the network of the beginning, whose sizes changed when a unit was stretched: do its scores?

# %%
both = synflow_scores([first, second]), synflow_scores([first_10, second_10])
for when, scores in zip(("before", "after "), both, strict=True):
    print(f"scores {when}:", [f"{S:g}" for S in torch.cat([layer.flatten() for layer in scores])])

# %% [markdown]
# ## Conservation: what enters a unit leaves it
#
# Every path that enters a hidden unit leaves it. So the scores of the weights *into* the unit add up to the same number
# as the scores of the weights *out of* it. And every path uses exactly one weight of each layer, so **each layer's
# scores add up to R**:

# %%
S_1, S_2, S_3 = synflow_scores(Ws)
print("into the first hidden layer: ", S_1.sum(dim=1).tolist(), " out of it:", S_2.sum(dim=0).tolist())
print("into the second hidden layer:", S_2.sum(dim=1).tolist(), " out of it:", S_3.sum(dim=0).tolist())
print("sum over each layer:", [S.sum().item() for S in (S_1, S_2, S_3)])

# %% [markdown]
# Now play. The left picture has a line for every path that is alive, as thick as it is strong, in the colour of the unit
# of hidden layer 1 that it passes. The right one stacks the scores of each layer: the three columns always have the same
# height, R, whatever weight you move. Drag a weight to 0 and its paths vanish; drag it far out and it takes the
# largest part of R.

# %%
from samerge_edu.course.drawings import d03

PLACES = d03.entries(Ws)  # "W2[0,1]" -> (1, 0, 1): the second layer, row 0, column 1


def draw(entry, value):
    """The network with one weight changed."""
    net = [W.clone() for W in Ws]
    net[PLACES[entry][0]][PLACES[entry][1:]] = value
    figure, sentence = d03.paths_and_scores(path_strengths(*net), synflow_scores(net), entry)
    return figure, f"{entry} = {value:g}: {sentence}"


presets = [{"entry": "W2[0,1]", "value": -2.0}, {"entry": "W2[0,1]", "value": 0.0}]
presets += [{"entry": "W3[0,1]", "value": 4.0}, {"entry": "W1[2,1]", "value": -8.0}]
se.explore(draw, presets=presets, entry=list(PLACES), value=(-8.0, 8.0, 0.5))

# %%
# QUIZ 03.q1

# %% [markdown]
# ## A network to prune
#
# A small classifier of handwritten digits, drawn by the pocket suite's painter and shrunk to 16 x 16 grey pixels: five
# layers without biases, one of them four times as large as its neighbours, the last one very small. It trains in
# seconds.

# %%
from samerge_edu.suites.pocket.tasks import draw as draw_digits


def digits(split, n):
    """n digits as (n, 256) vectors, each of mean 0 and deviation 1, and their labels (n,)."""
    images, labels = draw_digits("digits", split, range(n))
    grey = torch.from_numpy(images).float().mean(dim=1, keepdim=True)
    flat = nn.functional.avg_pool2d(grey, 2).flatten(1)
    return (flat - flat.mean(dim=1, keepdim=True)) / flat.std(dim=1, keepdim=True), torch.from_numpy(labels)


train_x, train_y = digits("train", 2000)
test_x, test_y = digits("test", 500)
WIDTHS = [256, 64, 256, 256, 64, 10]


# %%
def train(Ws, steps, masks=None, seed=0):
    """Adam on random batches; where there is a mask, pruned weights stay zero. Returns new weights."""
    net, generator = as_module(Ws), torch.Generator().manual_seed(seed)
    weights = list(net.parameters())
    optimizer = torch.optim.Adam(weights, lr=0.002)
    for _ in range(steps):
        pick = torch.randint(len(train_x), (64,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(train_x[pick]), train_y[pick]).backward()
        optimizer.step()
        for W, mask in zip(weights, masks or [], strict=masks is not None):
            W.data *= mask
    return [W.detach() for W in weights]


def test_accuracy(Ws):
    with torch.no_grad():
        return 100 * (as_module(Ws)(test_x).argmax(dim=1) == test_y).double().mean().item()


# %%
generator = torch.Generator().manual_seed(0)
fresh = [torch.randn(b, a, generator=generator) * (2 / a) ** 0.5 for a, b in zip(WIDTHS, WIDTHS[1:], strict=False)]
trained = train(fresh, steps=200)
sizes = [W.numel() for W in trained]
print("weights in each layer:", sizes, " together:", sum(sizes))
se.show("03.trained", test_accuracy(trained), "test accuracy of the whole network")
means = [S.mean().item() for S in synflow_scores(trained)]
print("mean score of a weight, in units of layer 3:", [round(m / means[2]) for m in means])

# %% [markdown]
# The last line is the conservation law at work: all layers share the same R, so in a layer with few weights each of
# them carries more. The mean score is R divided by the number of weights, and nothing else.

# %% [markdown]
# ## Layer collapse
#
# Pruning a network to a few per cent with one ranking over all layers has a classic accident: some layer loses nearly
# *all* its weights, long before the others. Then nothing gets through the network any more, and no training repairs it:
# **layer collapse**. It happens where the scores are lowest. By magnitude that is the layer with the smallest weights;
# by SynFlow's scores of the whole network it is the largest layer, as the last line above shows. So a better score
# alone does not help. What helps is to prune a little and **score again**: the fewer weights a layer has left, the
# larger the share of R that each of them carries. The conservation law protects a layer that is nearly empty.
#
# SynFlow therefore prunes in many rounds, on an exponential schedule.

# %%
# EXERCISE 03.3

# %%
# EXERCISE 03.4

# %% [markdown]
# Together they are the whole method. `score` says how entries are rated, so that we can compare.


# %%
def prune(Ws, density, rounds, score):
    """Masks that keep the share `density` of all weights; scores are computed anew in each round."""
    numel = sum(W.numel() for W in Ws)
    masks = [torch.ones_like(W, dtype=torch.bool) for W in Ws]
    for t in range(1, rounds + 1):
        scores = score([W * m for W, m in zip(Ws, masks, strict=True)])
        scores = [S.masked_fill(~m, -1.0) for S, m in zip(scores, masks, strict=True)]  # pruned stays pruned
        masks = keep_best(scores, weights_left(t, rounds, density, numel))
    return masks


def by_magnitude(Ws):
    return [W.abs() for W in Ws]


masks = prune(trained, 0.02, rounds=100, score=synflow_scores)
package = synflow_prune(as_module(trained), (256,), density=0.02, rounds=100).values()
same = sum((m == theirs).sum().item() for m, theirs in zip(masks, package, strict=True)) / sum(sizes)
se.show("03.same", 100 * same, "entries on which our masks and the package's agree", slack=0.5)

# %% [markdown]
# An empty layer is the crude form of the accident. A network also computes nothing if every layer has some weights left,
# but no path gets through all of them. How do you see that without walking along the paths?

# %%
# EXERCISE 03.5

# %% [markdown]
# Now three ways to the same density: by magnitude, by SynFlow in one round, and by SynFlow in 100. Before you look: which
# layer does SynFlow empty first in one round? The cell that trained the network printed what decides it. And by
# magnitude, which layers are safe?

# %%
print("mean size of a weight in layers 1 to 5:", [f"{W.abs().mean():.2f}" for W in trained])
WAYS = {
    "magnitude": lambda density: prune(trained, density, 1, by_magnitude),
    "SynFlow, 1 round": lambda density: prune(trained, density, 1, synflow_scores),
    "SynFlow, 100 rounds": lambda density: prune(trained, density, 100, synflow_scores),
}
DENSITIES = [0.3, 0.1, 0.05, 0.02, 0.01]
masks = {(way, density): WAYS[way](density) for way in WAYS for density in DENSITIES}
paths = {which: paths_left(kept) for which, kept in masks.items()}

print("weights left at density 0.01, in layers of", sizes)
for way in WAYS:
    for n in range(5):
        left = int(masks[way, 0.01][n].sum())
        se.show(f"03.left.{way}.{n + 1}", left, f"  {way}, layer {n + 1}", unit="", digits=0, slack=2 + left // 4)

# %%
later = [d for d in DENSITIES if paths["SynFlow, 1 round", d] == 0 < paths["magnitude", d]]
se.claim("03.one_round_breaks_first", by=len(later), at_least=1, unit="densities")
fewest = min(paths["SynFlow, 100 rounds", density] for density in DENSITIES)
se.claim("03.many_rounds_keep_paths", by=fewest, at_least=100, unit="paths at least")
se.figure(*d03.weights_left(DENSITIES, masks, paths))

# %%
# QUIZ 03.q2

# %% [markdown]
# Did you guess? In one round SynFlow breaks first, although its score looks at paths and magnitude does not: it empties
# the layer with the lowest mean score, the largest one. Magnitude spares layers 2 and 5, whose weights are twice as large,
# and runs out in the others. Keep the first half in mind for SA-Merging: there, too, the score is computed anew in each of
# several rounds (notebook 06).

# %% [markdown]
# Finally the accuracy, right after pruning and after 100 steps of training in which the pruned weights stay zero.
# `random` keeps the same share of every layer, whichever entries: it shows how much training alone repairs. 10 % is
# guessing.


# %%
def random_masks(density, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(W.shape, generator=generator) < density for W in trained]


curves = {}
for way in [*WAYS, "random"]:
    for density in DENSITIES:
        kept = masks[way, density] if way in WAYS else random_masks(density)
        pruned = [W * m for W, m in zip(trained, kept, strict=True)]
        curves[way, density] = test_accuracy(pruned), test_accuracy(train(pruned, steps=100, masks=kept))
for way in [*WAYS, "random"]:
    for density in (0.05, 0.02):
        name = f"03.retrained.{way}.{density}"
        se.show(name, curves[way, density][1], f"{way}, density {density}, trained again", slack=8)

# %%
apart = curves["SynFlow, 100 rounds", 0.3][0] - curves["magnitude", 0.3][0]
se.claim("03.close_after_pruning", by=-abs(apart), at_least=-5)
again = {way: curves[way, 0.02][1] for way in [*WAYS, "random"]}
se.claim("03.only_one_trains", by=again.pop("SynFlow, 100 rounds") - max(again.values()), at_least=20)
se.figure(*d03.accuracies(DENSITIES, curves, high=0.3, low=0.02))

# %% [markdown]
# Read both panels. Right after pruning, at density 0.3, magnitude is about as good as SynFlow in 100 rounds: large weights
# of a *trained* network are where the training went, and SynFlow knows nothing of the data. At density 0.02 only one of the
# four still leaves a network that can be trained: the one in which the paths were kept together.

# %%
# QUIZ 03.q3

# %% [markdown]
# ## What SynFlow cannot see
#
# R replaces every weight by its size. Two paths that cancel in the network add up in R:

# %%
cancel = [torch.tensor([[1.0, 1.0], [1.0, 1.0]]), torch.tensor([[5.0, -5.0]])]
x = torch.tensor([0.3, 0.9])
print("output for this input, and for any other:", (cancel[1] @ (cancel[0] @ x).relu()).item())
print("R:", path_strength(cancel))

# %% [markdown]
# Nor does it see images: which units are active, which inputs are always dark. That is why it needs no data, which is
# the reason it is of use in model merging, where the data of the experts are not at hand. And in a transformer, softmax,
# GELU and LayerNorm are not ReLU: there R needs a stand-in. Both are the subject of notebook 04.

# %%
# OPEN 03.open

# %% [markdown]
# ## What to remember
#
# * $R = \mathbb{1}^T |W_L| \cdots |W_1| \mathbb{1}$ is the sum over all paths of the product of absolute weights.
# * SynFlow's score $|\partial R / \partial w \cdot w|$ is the part of R that runs through $w$: what flows in, times the
#   weight, times what flows on from there.
# * Conservation: into a hidden unit as much as out of it; each layer's scores sum to R. So the mean score of a layer is
#   R divided by its size.
# * One shot with any global score can empty a layer. Scoring again in each round prevents it: that is where conservation
#   is needed.
# * Neither signs nor data enter.
#
# ## Further reading
#
# * Tanaka, Kunin, Yamins, Ganguli: *Pruning neural networks without any data by iteratively conserving synaptic flow*,
#   2020, arXiv:2006.05467. Equation 1 is the score, Theorem 1 and 2 the conservation laws, Algorithm 1 the loop.
# * Neyshabur, Salakhutdinov, Srebro: *Path-SGD*, 2015, arXiv:1506.02617: the path norm and its invariance.
# * Lee, Ajanthan, Torr: *SNIP*, 2018, arXiv:1810.02340: a one-shot score that uses data.
#
# ## Claims
#
# | claim | status |
# |---|---|
# | R and SynFlow's scores do not change when a hidden unit is stretched; sizes do | derived; printed here for one network |
# | SynFlow in one round loses its last path at a higher density than magnitude does | one network of five layers, one seed, measured here: `03.one_round_breaks_first` |
# | SynFlow in 100 rounds keeps paths at every density tried | same network, measured here: `03.many_rounds_keep_paths` |
# | At density 0.02 only SynFlow in 100 rounds leaves a network that can be trained | same network, measured here: `03.only_one_trains` |
# | Any iterative, positive, conservative score reaches the highest possible compression without collapse | from the paper, arXiv:2006.05467, Theorem 3 |
# | Right after pruning, at density 0.3, magnitude and SynFlow in 100 rounds are within 5 points | the paper prunes before training and claims nothing about this; measured here: `03.close_after_pruning` |
# | SynFlow's scores say which entries of a *task vector* matter | open: notebooks 04 to 06 measure it |
