"""Exercises of notebook 03: sums over paths, SynFlow's score, its schedule, pruning, surviving paths."""

from itertools import product

import torch

from ..exercise import SHAPES, Exercise, OpenTask, Quiz


def _layers(*matrices: list) -> list[torch.Tensor]:
    return [torch.tensor(m) for m in matrices]


# Small networks, first layer first, each matrix (out, in), none square.
ONE = _layers([[1.0, -2.0, 0.5]])
TWO = _layers([[1.0, -2.0]], [[-3.0], [0.5]])  # 2 inputs, 1 hidden unit, 2 outputs
THREE = _layers([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.0]], [[2.0, -1.0, 4.0], [-0.5, 1.0, 1.0]], [[1.0, -2.0]])
WIDE = _layers([[1.0, 2.0, -1.0], [-3.0, 0.5, 1.0]], [[2.0, -1.0], [0.25, 1.0], [-2.0, 0.0], [1.0, 3.0]])


def _paths(Ws):
    """Every path as the list of its entries, (layer, out, in), and the product of the |weights| on it."""
    widths = [Ws[0].shape[1], *(len(W) for W in Ws)]
    for units in product(*map(range, widths)):
        entries = [(layer, units[layer + 1], units[layer]) for layer in range(len(Ws))]
        strength = 1.0
        for layer, i, j in entries:
            strength *= abs(Ws[layer][i, j].item())
        yield entries, strength


# ---------------------------------------------------------------------------- 03.1

strength = Exercise(
    id="03.1",
    title="The sum over all paths",
    goal="Add up the strength of all paths, without walking along each of them: a few products of a matrix and a "
    "vector "
    "are enough, however many paths there are.",
    errors={
        SHAPES: "A matrix is (out, in): it takes a vector of `in` numbers from its right, `W @ x`, first layer first."
    },
    minutes=10,
    difficulty=2,
    importance=5,
    hints=[
        "A network of one layer has one path for each weight. What is R then?",
        "Absolute values first, products afterwards: `|W_2| @ (|W_1| @ ones)`, not `|W_2 @ W_1|`.",
        "Start with `x` = ones, one for each input; in each layer `x = W.abs() @ x`; at the end `x.sum()`.",
    ],
)


@strength.solution
def path_strength(Ws):
    """R, the strength of all paths together.  Ws: list of matrices (out, in), the first layer first -> float"""
    x = Ws[0].new_ones(Ws[0].shape[1])
    for W in Ws:
        x = W.abs() @ x
    return x.sum().item()


@strength.law("one layer: every weight is a path, so R is the sum of the absolute weights")
def _(path_strength):
    return path_strength(ONE), 3.5


@strength.law("two layers, four paths, by hand: 3 + 6 + 0.5 + 1")
def _(path_strength):
    return path_strength(TWO), 10.5


@strength.law("three layers: the twelve paths added up one by one")
def _(path_strength):
    return path_strength(THREE), sum(s for _, s in _paths(THREE))


@strength.law("the sign of a weight does not matter")
def _(path_strength):
    return path_strength(WIDE), path_strength([W.abs() for W in WIDE])


@strength.law("each path has one weight of each layer: a layer times -3 makes R three times as large")
def _(path_strength):
    return path_strength([WIDE[0], -3.0 * WIDE[1]]), 3.0 * path_strength(WIDE)


@strength.mistake("You multiply the signed weights: paths of opposite sign cancel. Take `W.abs()` of each layer.")
def signs_kept(Ws):
    x = Ws[0].new_ones(Ws[0].shape[1])
    for W in Ws:
        x = W @ x
    return x.sum().item()


@strength.mistake(
    "Signed weights flow in your network, and only its outputs lose their sign. Paths to one output have cancelled by "
    "then: `W.abs()` in each layer."
)
def absolute_outputs(Ws):
    x = Ws[0].new_ones(Ws[0].shape[1])
    for W in Ws:
        x = W @ x
    return x.abs().sum().item()


@strength.mistake(
    "You take absolute values at the end. By then paths of opposite sign have cancelled: `abs` belongs to each layer."
)
def absolute_too_late(Ws):
    x = torch.eye(Ws[0].shape[1])
    for W in Ws:
        x = W @ x
    return x.abs().sum().item()


@strength.mistake(
    "You multiply the sums of the layers. That pairs weights that meet in no unit, and so lie on no common path."
)
def product_of_layer_sums(Ws):
    R = 1.0
    for W in Ws:
        R *= W.abs().sum().item()
    return R


@strength.mistake("You add up the weights of the network. The weights *on* a path are multiplied, the paths are added.")
def sum_of_weights(Ws):
    return sum(W.abs().sum().item() for W in Ws)


@strength.mistake("You square the weights. That is the l2 path norm; R takes absolute values.")
def squares(Ws):
    x = Ws[0].new_ones(Ws[0].shape[1])
    for W in Ws:
        x = W**2 @ x
    return x.sum().item()


@strength.mistake("You return the strongest path. R adds all of them: replace the maximum by a sum.")
def strongest_path(Ws):
    x = Ws[0].new_ones(Ws[0].shape[1])
    for W in Ws:
        x = (W.abs() * x).max(dim=1).values
    return x.max().item()


@strength.mistake("You average over the outputs. R is their sum: the last vector of ones adds them up.")
def mean_over_outputs(Ws):
    x = Ws[0].new_ones(Ws[0].shape[1])
    for W in Ws:
        x = W.abs() @ x
    return x.mean().item()


# ---------------------------------------------------------------------------- 03.2

score = Exercise(
    id="03.2",
    title="SynFlow's score",
    kind="design",
    goal=(
        "Give each weight the strength of all paths that use it. Two vectors a layer are enough: what flows into it, "
        "and what flows on from its outputs. No autograd needed, though it would do."
    ),
    errors={
        SHAPES: "Rows of W_l are its outputs, columns its inputs: what flows on has one entry a row (`u[:, "
        "None]`), "
        "what flows in one entry a column (`x`)."
    },
    minutes=15,
    difficulty=3,
    importance=5,
    hints=[
        "Split a path at the entry (i, j): what comes before it, the entry itself, what comes after it.",
        "Before layer l: `x = |W_(l-1)| ... |W_1| 1`. Behind it, going backwards: `u = |W_(l+1)|^T ... |W_L|^T 1`.",
        "`S_l = u[:, None] * W_l.abs() * x[None, :]`",
    ],
)


@score.solution
def synflow_scores(Ws):
    """How much of R runs through each weight.

    Ws: list of matrices (out, in), the first layer first -> list of tensors of the same shapes
    """
    x, u = [Ws[0].new_ones(Ws[0].shape[1])], [Ws[-1].new_ones(Ws[-1].shape[0])]
    for W in Ws[:-1]:
        x.append(W.abs() @ x[-1])  # what flows into the next layer
    for W in reversed(Ws[1:]):
        u.insert(0, W.abs().T @ u[0])  # what flows on from the layer before
    return [u_l[:, None] * W.abs() * x_l for W, x_l, u_l in zip(Ws, x, u, strict=True)]


@score.law("one layer: nothing before, nothing behind, so the score is |w|")
def _(synflow_scores):
    return synflow_scores(ONE), _layers([[1.0, 2.0, 0.5]])


@score.law("two layers by hand: a weight of the first layer lies on two paths")
def _(synflow_scores):
    return synflow_scores(TWO), _layers([[3.5, 7.0]], [[9.0], [1.5]])


@score.law("three layers: the paths through each entry added up one by one")
def _(synflow_scores):
    expected = [torch.zeros_like(W) for W in THREE]
    for entries, s in _paths(THREE):
        for layer, i, j in entries:
            expected[layer][i, j] += s
    return synflow_scores(THREE), expected


@score.law("conservation: the scores of every layer add up to the same R")
def _(synflow_scores):
    R = strength.reference(WIDE)
    return [S.sum().item() for S in synflow_scores(WIDE)], [R, R]


@score.law("the signs of the weights do not matter")
def _(synflow_scores):
    return synflow_scores([-WIDE[0], WIDE[1]]), synflow_scores(WIDE)


@score.law("weights into a hidden unit times 4, weights out of it divided by 4: no score changes")
def _(synflow_scores):
    stretch = torch.tensor([4.0, 1.0])
    return synflow_scores([stretch[:, None] * WIDE[0], WIDE[1] / stretch]), synflow_scores(WIDE)


def _vectors(Ws):
    x, u = [Ws[0].new_ones(Ws[0].shape[1])], [Ws[-1].new_ones(Ws[-1].shape[0])]
    for W in Ws[:-1]:
        x.append(W.abs() @ x[-1])
    for W in reversed(Ws[1:]):
        u.insert(0, W.abs().T @ u[0])
    return zip(Ws, x, u, strict=True)


@score.mistake("That is the gradient dR/d|w|. The score is |dR/dw * w|: multiply by the absolute weight.")
def gradient_only(Ws):
    return [u[:, None] * x * torch.ones_like(W) for W, x, u in _vectors(Ws)]


@score.mistake("That is the magnitude |w|. Multiply by what flows in at column j and what flows on from row i.")
def magnitude_only(Ws):
    return [W.abs() for W in Ws]


@score.mistake(
    "You look forward only. Multiply row i by what flows on from it, through the layers *after* this one, as well."
)
def forward_only(Ws):
    return [W.abs() * x for W, x, _ in _vectors(Ws)]


@score.mistake("You look backward only. Multiply column j by what flows *into* the layer as well.")
def backward_only(Ws):
    return [u[:, None] * W.abs() for W, _, u in _vectors(Ws)]


@score.mistake(
    "You take absolute values of the score, but let signed weights flow: paths cancel. "
    "Every W becomes |W| before anything flows."
)
def signed_flow(Ws):
    x, u = [Ws[0].new_ones(Ws[0].shape[1])], [Ws[-1].new_ones(Ws[-1].shape[0])]
    for W in Ws[:-1]:
        x.append(W @ x[-1])
    for W in reversed(Ws[1:]):
        u.insert(0, W.T @ u[0])
    return [(u_l[:, None] * W * x_l).abs() for W, x_l, u_l in zip(Ws, x, u, strict=True)]


@score.mistake("The right scores, but the last layer comes first in your list. Keep the order of Ws.")
def last_layer_first(Ws):
    return [u[:, None] * W.abs() * x for W, x, u in _vectors(Ws)][::-1]


@score.mistake(
    "You swap the two sides: what flows in belongs to the columns of W_l, its inputs, what flows on to its rows. "
    "Between layers of unlike size this cannot even be multiplied."
)
def sides_swapped(Ws):
    return [x[:, None] * W.abs() * u for W, x, u in _vectors(Ws)]


@score.mistake(
    "What flows in and what flows on are summed to one number each. Every input and every unit has its own: two "
    "vectors."
)
def sums_not_vectors(Ws):
    return [u.sum() * W.abs() * x.sum() for W, x, u in _vectors(Ws)]


@score.mistake("You divide by R. These are shares of the path strength; the score is the strength itself.")
def shares(Ws):
    return [u[:, None] * W.abs() * x / strength.reference(Ws) for W, x, u in _vectors(Ws)]


@score.mistake("You take squared weights as the last factor: `|dR/dw * w|` has the weight once, not twice.")
def weight_twice(Ws):
    return [u[:, None] * W**2 * x for W, x, u in _vectors(Ws)]


# ---------------------------------------------------------------------------- 03.3

schedule = Exercise(
    id="03.3",
    title="The exponential schedule",
    kind="design",
    goal=(
        "How many of `numel` weights are left after round t, if every round keeps the same *share* of what it finds, "
        "and the last round ends at `density`? Round to the nearest whole number: a count is an `int`."
    ),
    minutes=5,
    difficulty=2,
    importance=4,
    hints=[
        "What must be left after round 0? And after the last one?",
        "From 1 to 0.01 in two rounds: 0.1 after the first, 0.1 of that after the second. Which power of 0.01 is 0.1?",
        "`round(density ** (t / rounds) * numel)`",
    ],
)


@schedule.solution
def weights_left(t, rounds, density, numel):
    """What is left of numel weights after round t.  t: 0..rounds, density: share kept at the end, in (0, 1] -> int"""
    return round(density ** (t / rounds) * numel)


@schedule.law("one round goes there at once")
def _(weights_left):
    return weights_left(1, 1, 0.25, 1000), 250


@schedule.law("after round 0 nothing is pruned yet")
def _(weights_left):
    return weights_left(0, 4, 0.1, 500), 500


@schedule.law("from 1000 to 10 in two rounds: 100 after the first, 10 after the second")
def _(weights_left):
    return [weights_left(1, 2, 0.01, 1000), weights_left(2, 2, 0.01, 1000)], [100, 10]


@schedule.law("density 1/16 in four rounds halves what is left each time")
def _(weights_left):
    return [weights_left(t, 4, 0.0625, 320) for t in (1, 2, 3, 4)], [160, 80, 40, 20]


@schedule.law("a number that is not whole is rounded to the nearest")
def _(weights_left):
    return [weights_left(1, 2, 0.5, 31), weights_left(1, 2, 0.5, 30)], [22, 21]  # 21.9 and 21.2


@schedule.mistake("That is a linear schedule: every round prunes the same *number*. Keep the same *share*: a power.")
def linear(t, rounds, density, numel):
    return round((1 - (1 - density) * t / rounds) * numel)


@schedule.mistake("You are at the final density after the first round: one-shot pruning. The exponent is t / rounds.")
def one_shot(t, rounds, density, numel):
    return round(density * numel) if t else numel


@schedule.mistake("You keep the share `density` in each round, so you end at density^rounds. Divide t by rounds.")
def density_in_each_round(t, rounds, density, numel):
    return round(density**t * numel)


@schedule.mistake("You count what is pruned. The number that is left is asked for.")
def pruned_not_left(t, rounds, density, numel):
    return numel - round(density ** (t / rounds) * numel)


@schedule.mistake("You are one round behind: after round t, the t-th step is done. The exponent is t / rounds.")
def one_round_behind(t, rounds, density, numel):
    return round(density ** (max(t - 1, 0) / rounds) * numel)


@schedule.mistake("You round up. Round to the nearest whole number.")
def rounded_up(t, rounds, density, numel):
    import math

    return math.ceil(density ** (t / rounds) * numel - 1e-9)


@schedule.mistake("`t // rounds` is 0 until the last round: nothing is pruned before it. Divide with `/`.")
def whole_division(t, rounds, density, numel):
    return round(density ** (t // rounds) * numel)


@schedule.mistake("You cut off the decimals. Round to the nearest whole number.")
def cut_off(t, rounds, density, numel):
    return int(density ** (t / rounds) * numel)


# ---------------------------------------------------------------------------- 03.4

keep = Exercise(
    id="03.4",
    title="Keep the best of the whole network",
    kind="decide",
    goal="One ranking over all layers: mark exactly the k largest scores, wherever they are, also at a tie (then it "
    "does "
    "not matter which). A mask is bool: the notebook goes on with `~m`. Scores may be negative: -3 is smaller than 1.",
    minutes=10,
    difficulty=3,
    importance=4,
    hints=[
        "Two layers with scores [1, 2] and [3, 4], k = 2. Which layer is left with nothing?",
        "Make one long vector of all scores (`flatten`, `torch.cat`), find its k largest, cut it up again (`split`).",
        "`best = torch.cat([S.flatten() for S in scores]).topk(k).indices`; put True there; `split`; `view_as`.",
    ],
)


@keep.solution
def keep_best(scores, k):
    """True on exactly the k largest scores of all layers together.

    scores: list of tensors, k: int -> list of bool tensors of the same shapes
    """
    ranked = torch.cat([S.flatten() for S in scores])
    mask = torch.zeros_like(ranked, dtype=torch.bool)
    mask[ranked.topk(k).indices] = True
    return [m.view_as(S) for m, S in zip(mask.split([S.numel() for S in scores]), scores, strict=True)]


SCORES = _layers([[1.0, 6.0, 2.0]], [[5.0], [7.0], [0.5], [3.0]])


def _masks(*matrices: list) -> list[torch.Tensor]:
    return [torch.tensor(m, dtype=torch.bool) for m in matrices]


@keep.law("a single layer: the two largest of three")
def _(keep_best):
    return keep_best(_layers([[3.0, 1.0, 2.0]]), 2), _masks([[1, 0, 1]])


@keep.law("one ranking: a layer of small scores may lose everything")
def _(keep_best):
    return keep_best(_layers([[1.0, 2.0]], [[3.0], [4.0], [5.0]]), 2), _masks([[0, 0]], [[0], [1], [1]])


@keep.law("k = 4 of seven, from both layers")
def _(keep_best):
    return keep_best(SCORES, 4), _masks([[0, 1, 0]], [[1], [1], [0], [1]])


@keep.law("k = 6 of seven: only the smallest goes")
def _(keep_best):
    return keep_best(SCORES, 6), _masks([[1, 1, 1]], [[1], [1], [0], [1]])


@keep.law("equal scores do not change the count: exactly k are kept")
def _(keep_best):
    kept = keep_best(_layers([[2.0, 2.0, 2.0]], [[5.0], [2.0]]), 3)
    return sum(int(torch.as_tensor(m).sum()) for m in kept), 3


@keep.law("a score of -9 is the smallest, not the largest")
def _(keep_best):
    return keep_best(_layers([[-9.0, 1.0]], [[2.0], [-4.0]]), 2), _masks([[0, 1]], [[1], [0]])


@keep.law("the masks can be turned round and counted: with k = 1, six of seven are pruned")
def _(keep_best):
    return sum(int((~m).sum()) for m in keep_best(SCORES, 1)), 6


def _threshold(scores, k):
    return torch.cat([S.flatten() for S in scores]).sort(descending=True).values[k - 1]


@keep.mistake("You rank each layer on its own. One ranking over all layers is asked for: `torch.cat` them first.")
def layer_by_layer(scores, k):
    share = k / sum(S.numel() for S in scores)
    masks = []
    for S in scores:
        mask = torch.zeros(S.numel(), dtype=torch.bool)
        mask[S.flatten().topk(round(share * S.numel())).indices] = True
        masks.append(mask.view_as(S))
    return masks


@keep.mistake("You keep the k *smallest*. A high score means that much path strength runs through the weight: keep it.")
def smallest_kept(scores, k):
    ranked = torch.cat([S.flatten() for S in scores])
    mask = torch.zeros_like(ranked, dtype=torch.bool)
    mask[ranked.topk(k, largest=False).indices] = True
    return [m.view_as(S) for m, S in zip(mask.split([S.numel() for S in scores]), scores, strict=True)]


@keep.mistake(
    "You rank the sizes of the scores. What was pruned may be marked by a large negative score: it would come back."
)
def sizes_ranked(scores, k):
    return keep.reference([S.abs() for S in scores], k)


@keep.mistake("You mark what is pruned. True means kept, as in `W * mask`.")
def mask_upside_down(scores, k):
    return [~m for m in keep.reference(scores, k)]


@keep.mistake("Your threshold keeps every entry that equals it, so ties give more than k. `topk` gives exactly k.")
def ties_kept_all(scores, k):
    return [_threshold(scores, k) <= S for S in scores]


@keep.mistake("Your comparison is strict, so the k-th best itself is lost. `topk` gives exactly k.")
def ties_dropped_all(scores, k):
    return [_threshold(scores, k) < S for S in scores]


@keep.mistake("You return scores. A mask is asked for: True where an entry is kept, False elsewhere.")
def scores_not_masks(scores, k):
    return [S * m for S, m in zip(scores, keep.reference(scores, k), strict=True)]


# ---------------------------------------------------------------------------- 03.5

alive = Exercise(
    id="03.5",
    title="Is there still a way through?",
    kind="design",
    goal=(
        "Count the paths from an input to an output that use kept weights only. A pruned network without any computes "
        "zero for every image, even if every layer still has some weights."
    ),
    minutes=5,
    difficulty=2,
    importance=3,
    hints=[
        "How many paths has a network in which every weight is kept?",
        "You have a function that adds up a product over every path. With which weights is each product 1 or 0?",
        "Start with ones and multiply by each mask, as a matrix of 0 and 1; at the end, sum.",
    ],
)


@alive.solution
def paths_left(masks):
    """Number of paths whose every weight is kept.  masks: list of bool (out, in), first layer first -> int"""
    x = torch.ones(masks[0].shape[1], dtype=torch.float64)
    for mask in masks:
        x = mask.double() @ x
    return int(x.sum())


FULL = _masks([[1, 1], [1, 1], [1, 1]], [[1, 1, 1]])
BROKEN = _masks([[1, 0], [0, 1], [0, 0]], [[0, 0, 1]])  # every layer has weights, no path gets through
SOME = _masks([[1, 1], [0, 1], [1, 0]], [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1]])


@alive.law("one layer: a path for each weight that is kept")
def _(paths_left):
    return paths_left(_masks([[1, 0, 1]])), 2


@alive.law("nothing pruned: 2 inputs * 3 hidden units * 1 output")
def _(paths_left):
    return paths_left(FULL), 6


@alive.law("no layer is empty, but what enters hidden units 0 and 1 does not go on")
def _(paths_left):
    return paths_left(BROKEN), 0


@alive.law("two layers, by hand")
def _(paths_left):
    return paths_left(SOME), 2 + 3 + 0 + 2


@alive.law("an output that is cut off takes its paths with it")
def _(paths_left):
    return paths_left([*SOME[:1], SOME[1][1:]]), 5


@alive.mistake(
    "You multiply the numbers of weights left in the layers. Two weights make a path only if they share a unit."
)
def product_of_counts(masks):
    count = 1
    for mask in masks:
        count *= int(mask.sum())
    return count


@alive.mistake("You count the weights that are kept. Paths are asked for: one weight of each layer, joined at units.")
def weights_not_paths(masks):
    return sum(int(mask.sum()) for mask in masks)


@alive.mistake("You take the emptiest layer for the answer. A layer with weights left may still lead nowhere.")
def emptiest_layer(masks):
    return min(int(mask.sum()) for mask in masks)


@alive.mistake("You answer whether there is a path. Their number is asked for.")
def yes_or_no(masks):
    return int(alive.reference(masks) > 0)


@alive.mistake("You count the outputs that are reached. Each may be reached on many paths: add their numbers.")
def outputs_reached(masks):
    x = torch.ones(masks[0].shape[1])
    for mask in masks:
        x = mask.float() @ x
    return int((x > 0).sum())


@alive.mistake("You do not sum over the outputs: only paths that end at the first one are counted.")
def first_output_only(masks):
    x = torch.ones(masks[0].shape[1])
    for mask in masks:
        x = mask.float() @ x
    return int(x[0])


EXERCISES = [strength, score, schedule, keep, alive]

QUIZZES = [
    Quiz(
        "03.q1",
        "A network has one layer of 1000 weights and one of 10. What does the conservation law say of their scores?",
        right="b",
        a=(
            "A weight of either layer has the same score on average.",
            "Both have the same *sum*, R. A sum shared by 1000 is thinner than one shared by 10.",
        ),
        b=(
            "A weight of the small layer has 100 times the score on average.",
            "R / 10 against R / 1000. So a global ranking reaches the small layer last.",
        ),
        c=(
            "The large layer has 100 times the sum, for it has more of the paths.",
            "Every path uses exactly one weight of each layer, so all layers carry all paths.",
        ),
    ),
    Quiz(
        "03.q2",
        "SynFlow in one shot empties the largest layer at a density where SynFlow in 100 rounds does not. Why?",
        right="c",
        a=(
            "In 100 rounds fewer weights of that layer are pruned, since each round prunes so little of it.",
            "Both end at the same density. Only the way there differs.",
        ),
        b=(
            "In 100 rounds the network is trained in between, and what is left grows until it is worth keeping.",
            "Nothing is trained while SynFlow prunes: it never sees an image.",
        ),
        c=(
            "In 100 rounds the scores are taken anew, and the few weights left in a layer share all of R.",
            "Yes: the layer's sum stays R, which protects its last weights. One shot uses the scores of the start.",
        ),
    ),
    Quiz(
        "03.q3",
        "Two paths from the same input to the same output have strengths 5 and 5, one positive and one negative. "
        "What does SynFlow see?",
        right="a",
        a=(
            "R = 10: two paths, and both are worth keeping.",
            "Yes, although together they pass nothing on. It knows neither signs nor images: its price for no data.",
        ),
        b=(
            "R = 0: the two paths cancel, neither is worth keeping.",
            "In the network they do. In R every weight is replaced by its absolute value.",
        ),
        c=(
            "R depends on the image that is sent through the network.",
            "SynFlow's input is all ones, whatever the data.",
        ),
    ),
]

OPEN = [
    OpenTask(
        "03.open",
        "break SynFlow",
        "Build a small network (matrices of at most 6 x 6) that computes something useful and that SynFlow ruins at a "
        "density where pruning by magnitude does not. Explain in three sentences which property of R you used.",
        [
            "The network is printed, with what it computes, and both pruned versions are run on the same inputs.",
            "The two methods are compared at the same number of weights.",
            "The explanation names the property: signs that cancel, inputs that are always 0, scale between units.",
            "It says whether the trick would survive in a trained network, and how one would find out.",
        ],
    )
]
