"""Exercises of notebook 08: Eq. 5 of LwPTV, the shared mask, the shuffle test and what chance gives."""

import torch

from ..exercise import Exercise, OpenTask, Quiz


def _tau(**layers: list) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(values) for name, values in layers.items()}


# Three experts that differ, three layers of different sizes, none square.
A = _tau(front=[1.0, 1.0], middle=[[3.0, 0.0, -1.0], [2.0, 2.0, 0.0]], end=[0.0, 4.0])
B = _tau(front=[1.0, 1.2], middle=[[1.0, 0.5, -1.0], [2.0, -2.0, 3.0]], end=[4.0, 0.0])
C = _tau(front=[0.7, 1.1], middle=[[-2.0, 0.0, 1.0], [0.5, 0.0, 0.0]], end=[1.0, 1.0])


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------------------- 08.1

saliency = Exercise(
    id="08.1",
    title="How much of a layer is a task's own",
    goal="Compute S of Eq. 5: for each layer and task, the L1 distance between the task vector and the mean task "
    "vector, summed over the layer's entries or averaged over them.",
    minutes=10,
    difficulty=2,
    importance=5,
    hints=[
        "Two tasks that change a layer in exactly the same way: what is their mean there, and what is left of each?",
        "For each layer: stack the N tensors, take their mean over the tasks, subtract it, absolute values, and then "
        "a sum or a mean over everything but the tasks.",
        "`tau = torch.stack([t[key] for t in taus])`; `distance = (tau - tau.mean(dim=0)).abs().flatten(1)`.",
    ],
)


@saliency.solution
def layer_saliency(taus, norm="mean"):
    """S of Eq. 5, one number for each layer and task.

    taus: list of N dicts of tensors; norm: "mean" or "sum" -> dict: layer -> (N,)
    """
    S = {}
    for key in taus[0]:
        tau = torch.stack([t[key] for t in taus])  # (N, *shape)
        distance = (tau - tau.mean(dim=0)).abs().flatten(1)  # (N, entries)
        S[key] = distance.mean(dim=1) if norm == "mean" else distance.sum(dim=1)
    return S


@saliency.law("a layer that all tasks change in the same way says nothing of any of them")
def _(layer_saliency):
    return layer_saliency([_tau(w=[2.0, -1.0])] * 2)["w"], torch.zeros(2)


@saliency.law("two tasks, by hand: the mean is (2, 1), each is at distance 1 from it in both entries")
def _(layer_saliency):
    return layer_saliency([_tau(w=[3.0, 0.0]), _tau(w=[1.0, 2.0])], norm="sum")["w"], torch.tensor([2.0, 2.0])


@saliency.law("the same, averaged over the two entries")
def _(layer_saliency):
    return layer_saliency([_tau(w=[3.0, 0.0]), _tau(w=[1.0, 2.0])])["w"], torch.tensor([1.0, 1.0])


@saliency.law("three tasks, one of which goes its own way: its distance is the largest")
def _(layer_saliency):
    taus = [_tau(w=[[0.0, 0.0, 3.0]]), _tau(w=[[0.0, 0.0, 0.0]]), _tau(w=[[0.0, 0.0, 0.0]])]
    return layer_saliency(taus, norm="sum")["w"], torch.tensor([2.0, 1.0, 1.0])


@saliency.law("an update that is added to every task changes no distance")
def _(layer_saliency):
    shift = {"front": 5.0, "middle": -2.0, "end": 1.0}
    moved = [{key: t[key] + shift[key] for key in t} for t in (A, B, C)]
    return layer_saliency(moved), layer_saliency([A, B, C])


@saliency.law("every layer, and every task in its place")
def _(layer_saliency):
    S = layer_saliency([A, B, C], norm="sum")
    by_hand = [sum((t["end"] - (A["end"] + B["end"] + C["end"]) / 3).abs().tolist()) for t in (A, B, C)]
    return [sorted(S), S["end"]], [["end", "front", "middle"], torch.tensor(by_hand)]


@saliency.law("a layer that is a matrix: one number for each task, over all six entries, both ways")
def _(layer_saliency):
    bar = (A["middle"] + B["middle"] + C["middle"]) / 3
    total = torch.tensor([sum(abs(x) for row in (t["middle"] - bar).tolist() for x in row) for t in (A, B, C)])
    got = [layer_saliency([A, B, C], norm)["middle"] for norm in ("sum", "mean")]
    return got, [total, total / 6]


@saliency.mistake(
    "You compare each task with the mean of the *others*. In Eq. 5 the mean is over all tasks, its own included."
)
def mean_of_the_others(taus, norm="mean"):
    S = {}
    for key in taus[0]:
        tau = torch.stack([t[key] for t in taus])
        others = (tau.sum(dim=0) - tau) / max(1, len(taus) - 1)
        distance = (tau - others).abs().flatten(1)
        S[key] = distance.mean(dim=1) if norm == "mean" else distance.sum(dim=1)
    return S


@saliency.mistake("That is the Euclidean distance, L2. Eq. 5 has L1: the sum of absolute values.")
def euclidean(taus, norm="mean"):
    S = {}
    for key in taus[0]:
        tau = torch.stack([t[key] for t in taus])
        distance = (tau - tau.mean(dim=0)).flatten(1)
        S[key] = distance.norm(dim=1) / (distance.shape[1] if norm == "mean" else 1)
    return S


@saliency.mistake(
    "You average the rows first and sum only over the rest of a matrix. All its entries count alike: flatten it."
)
def matrix_half_averaged(taus, norm="mean"):
    S = {}
    for key in taus[0]:
        tau = torch.stack([t[key] for t in taus])
        distance = (tau - tau.mean(dim=0)).abs()
        distance = distance.mean(dim=-1) if distance.dim() > 2 else distance
        distance = distance.flatten(1)
        S[key] = distance.mean(dim=1) if norm == "mean" else distance.sum(dim=1)
    return S


@saliency.mistake(
    "This is the size of the task vector. Subtract the mean task vector first: a large update that all tasks share "
    "counts as redundant here."
)
def size_not_distance(taus, norm="mean"):
    return {
        key: torch.stack([t[key].abs().mean() if norm == "mean" else t[key].abs().sum() for t in taus])
        for key in taus[0]
    }


@saliency.mistake("You square the deviations. Eq. 5 is an L1 distance: absolute values.")
def squared(taus, norm="mean"):
    S = {}
    for key in taus[0]:
        tau = torch.stack([t[key] for t in taus])
        distance = ((tau - tau.mean(dim=0)) ** 2).flatten(1)
        S[key] = distance.mean(dim=1) if norm == "mean" else distance.sum(dim=1)
    return S


@saliency.mistake("Without absolute values, deviations in opposite directions cancel: `.abs()` before the sum.")
def signed(taus, norm="mean"):
    S = {}
    for key in taus[0]:
        tau = torch.stack([t[key] for t in taus])
        distance = (tau - tau.mean(dim=0)).flatten(1)
        S[key] = distance.mean(dim=1) if norm == "mean" else distance.sum(dim=1)
    return S


@saliency.mistake("You subtract the sum of the task vectors. Divide it by N: the reference is their mean.")
def distance_to_sum(taus, norm="mean"):
    S = {}
    for key in taus[0]:
        tau = torch.stack([t[key] for t in taus])
        distance = (tau - tau.sum(dim=0)).abs().flatten(1)
        S[key] = distance.mean(dim=1) if norm == "mean" else distance.sum(dim=1)
    return S


@saliency.mistake("`norm` is ignored: you always average over the entries.")
def always_mean(taus, norm="mean"):
    return layer_saliency(taus, norm="mean")


@saliency.mistake("`norm` is ignored: you always sum. Then large layers score high because they are large.")
def always_sum(taus, norm="mean"):
    return layer_saliency(taus, norm="sum")


@saliency.mistake("You average over the tasks too. Each task has its own S: one number for each task and layer.")
def one_for_all_tasks(taus, norm="mean"):
    return {key: s.mean().expand(len(taus)) for key, s in layer_saliency(taus, norm).items()}


# ---------------------------------------------------------------------------- 08.2

S_TOY = torch.tensor([[5.0, 1.0, 2.0, 0.5, 0.1], [0.2, 4.0, 3.0, 0.4, 0.1], [6.0, 0.3, 0.4, 0.2, 0.1]])  # (N, L)

mask = Exercise(
    id="08.2",
    title="The shared mask",
    kind="decide",
    goal="Each task gives up `round(eta * L)` of the L layers, those in which it deviates least; exactly as many also "
    "where scores are equal. A layer stays for *all* tasks if any of them keeps it.",
    minutes=10,
    difficulty=2,
    importance=5,
    hints=[
        "With eta = 0.6 and 5 layers, how many does each task keep? How many may stay at most with 2 tasks?",
        "Keep `L - round(eta * L)` layers a task, those with the largest S; then OR over the tasks.",
        "`kept = S.topk(k, dim=1).indices`; `own = torch.zeros_like(S, dtype=torch.bool).scatter(1, kept, True)`; "
        "`own.any(dim=0)`.",
    ],
)


@mask.solution
def shared_mask(S, eta=0.7):
    """M^l = 1 if any task keeps layer l.  S: (N, L) scores; eta: share pruned per task, in [0, 1] -> (L,) bool"""
    L = S.shape[1]
    kept = S.topk(L - round(eta * L), dim=1).indices
    own = torch.zeros_like(S, dtype=torch.bool).scatter(1, kept, True)
    return own.any(dim=0)


def _bools(text: str) -> torch.Tensor:
    return torch.tensor([c == "1" for c in text])


@mask.law("eta = 0 keeps every layer")
def _(shared_mask):
    return shared_mask(S_TOY[:1], eta=0.0), _bools("11111")


@mask.law("eta = 1 keeps none")
def _(shared_mask):
    return shared_mask(S_TOY[:1], eta=1.0), _bools("00000")


@mask.law("one row, eta = 0.6: the 2 largest of 5 stay")
def _(shared_mask):
    return shared_mask(S_TOY[:1], eta=0.6), _bools("10100")


@mask.law("eight layers, eta = 0.7: 5.6 is rounded to 6, so 2 stay")
def _(shared_mask):
    return shared_mask(torch.arange(8.0)[None]), _bools("00000011")


@mask.law("equal scores: of five layers exactly two stay")
def _(shared_mask):
    return int(shared_mask(torch.ones(1, 5), eta=0.6).sum()), 2


@mask.law("two tasks, eta = 0.8: each keeps one layer, and both stay")
def _(shared_mask):
    return shared_mask(S_TOY[:2], eta=0.8), _bools("11000")


@mask.law("two tasks that agree keep no more than one of them does")
def _(shared_mask):
    return shared_mask(S_TOY[[0, 2]], eta=0.8), _bools("10000")


@mask.law("three tasks, the default: eta = 0.7 of 10 layers leaves each task 3 of its own")
def _(shared_mask):
    S = torch.full((3, 10), 0.1)
    S[0, :3], S[1, 2:5], S[2, 7:] = torch.tensor([3.0, 2.0, 4.0]), 5.0, 1.0
    return shared_mask(S), _bools("1111100111")


@mask.law("a task whose scores are all larger has no more to say: each ranks its own layers")
def _(shared_mask):
    louder = torch.stack([S_TOY[0], 100 * S_TOY[1]])
    return shared_mask(louder, eta=0.8), _bools("11000")


@mask.mistake("You keep the layers with the *lowest* scores. Those are the redundant ones; keep the highest.")
def lowest_kept(S, eta=0.7):
    return shared_mask(-S, eta)


@mask.mistake("This is AND: a layer stays if all tasks keep it. The shared mask is OR: `any` over the tasks.")
def all_instead_of_any(S, eta=0.7):
    L = S.shape[1]
    kept = S.topk(L - round(eta * L), dim=1).indices
    return torch.zeros_like(S, dtype=torch.bool).scatter(1, kept, True).all(dim=0)


@mask.mistake("eta is the share *pruned*. You keep the share eta: `L - round(eta * L)` layers should stay.")
def eta_kept(S, eta=0.7):
    return shared_mask(S, 1 - eta)


@mask.mistake(
    "Your threshold keeps or drops equal scores together. Exactly L - round(eta * L) layers of a task stay: `topk`."
)
def above_the_kth(S, eta=0.7):
    drop = round(eta * S.shape[1])
    if drop == S.shape[1]:
        return torch.zeros(S.shape[1], dtype=torch.bool)
    return (S >= S.sort(dim=1).values[:, drop : drop + 1]).any(dim=0)


@mask.mistake(
    "A quantile lies between two scores, and `>` loses those that equal it. Count: L - round(eta * L) layers stay."
)
def above_the_quantile(S, eta=0.7):
    return (S > S.quantile(eta, dim=1, keepdim=True)).any(dim=0)


@mask.mistake("You cut off the decimals of eta * L. Round to the nearest whole number.")
def cut_off(S, eta=0.7):
    L = S.shape[1]
    kept = S.topk(L - int(eta * L), dim=1).indices
    return torch.zeros_like(S, dtype=torch.bool).scatter(1, kept, True).any(dim=0)


@mask.mistake("You average the scores over the tasks and rank once. Rank for each task, then join the masks.")
def mean_score(S, eta=0.7):
    return shared_mask(S.mean(dim=0, keepdim=True), eta)


@mask.mistake("You rank all scores of all tasks together. Then the task with the largest updates takes all the places.")
def one_ranking(S, eta=0.7):
    N, L = S.shape
    kept = S.flatten().topk(N * (L - round(eta * L))).indices
    return torch.zeros(N * L, dtype=torch.bool).scatter(0, kept, True).view(N, L).any(dim=0)


@mask.mistake("This is the mask of the pruned layers. True should mean: keep.")
def pruned_marked(S, eta=0.7):
    return ~shared_mask(S, eta)


# ---------------------------------------------------------------------------- 08.3

shuffle = Exercise(
    id="08.3",
    title="The shuffle test: same mask size, no information",
    kind="design",
    goal="Hand the scores of each layer to another layer at random, **the same way for all tasks**, so that the "
    "shared mask keeps as many layers as before.",
    minutes=10,
    difficulty=3,
    importance=4,
    hints=[
        "The OR mask is small when the tasks name the same layers. What happens to it if you shuffle each task alone?",
        "Draw one order of the L layers with the generator, and use it for every row.",
        "`S[:, torch.randperm(S.shape[1], generator=generator)]`",
    ],
)


@shuffle.solution
def shuffled(S, generator):
    """The columns of S in random order.  S: (N, L) scores; generator: torch.Generator -> (N, L)"""
    return S[:, torch.randperm(S.shape[1], generator=generator)]


@shuffle.law("one task: the same scores, in some order")
def _(shuffled):
    return shuffled(S_TOY[:1], _generator(0)).sort(dim=1).values, S_TOY[:1].sort(dim=1).values


@shuffle.law("the scores of a layer stay together: sorted by the first task, all tasks are as before")
def _(shuffled):
    out = shuffled(S_TOY, _generator(1))
    return out[:, out[0].argsort()], S_TOY[:, S_TOY[0].argsort()]


@shuffle.law("the shared mask keeps as many layers as before, for 20 draws")
def _(shuffled):
    sizes = [int(shared_mask(shuffled(S_TOY, _generator(seed)), eta=0.8).sum()) for seed in range(20)]
    return sizes, [2] * 20


@shuffle.law("the generator's seed fixes the draw")
def _(shuffled):
    S = torch.arange(24.0).view(2, 12)
    return shuffled(S, _generator(3)), shuffled(S, _generator(3))


@shuffle.law("with 3 layers, 100 draws show all 6 orders")
def _(shuffled):
    S = S_TOY[:2, :3]
    return len({tuple(shuffled(S, _generator(seed))[0].tolist()) for seed in range(100)}), 6


@shuffle.mistake(
    "You shuffle each task on its own. Tasks that named the same layers now name different ones, so the OR keeps more "
    "layers and the comparison is unfair. One order for all tasks."
)
def each_task_alone(S, generator):
    return torch.stack([row[torch.randperm(len(row), generator=generator)] for row in S])


@shuffle.mistake("You hand the scores to other *tasks*. Shuffle the layers, which are the columns (dim 1).")
def tasks_shuffled(S, generator):
    return S[torch.randperm(len(S), generator=generator)]


@shuffle.mistake("These are new random scores. Keep the real ones and only hand them to other layers.")
def scores_redrawn(S, generator):
    return torch.rand(S.shape, generator=generator)


@shuffle.mistake("You do not use the generator: another call gives another order, and nobody can repeat your test.")
def generator_ignored(S, generator):
    return S[:, torch.randperm(S.shape[1])]


@shuffle.mistake("Rolling the layers gives only L of the L! orders, and neighbours stay neighbours: use `randperm`.")
def rolled(S, generator):
    return S.roll(int(torch.randint(S.shape[1], (1,), generator=generator)), dims=1)


@shuffle.mistake("You turn the order round: that is one fixed order, not a random one.")
def turned_round(S, generator):
    return S.flip(1)


# ---------------------------------------------------------------------------- 08.4

chance = Exercise(
    id="08.4",
    title="Predict what a shuffle does",
    kind="predict",
    goal="The shared mask gives `pruned` of L layers back to the base; a shuffle gives back as many, every set of them "
    "equally likely. How likely is it that **all** of `named` layers that you have in mind are given back? Predict, "
    "before "
    "the next cell counts.",
    errors={"ZeroDivisionError": "More layers are named than there are: stop as soon as nothing is left to give back."},
    minutes=10,
    difficulty=3,
    importance=4,
    hints=[
        "Three layers of five are given back. How likely is it for the first one? And, if it is among them, for the "
        "second?",
        "One layer: pruned / L. Given that, pruned - 1 of the L - 1 others are given back. And so on.",
        "Multiply `(pruned - i) / (L - i)` for i = 0, 1, ... named - 1; it is 0 if more are named than given back.",
    ],
)


@chance.solution
def chance_given_back(pruned, L, named=1):
    """How likely a shuffle gives all named layers back.  pruned: 0..L, named: 0..L, three ints -> float in [0, 1]"""
    p = 1.0
    for i in range(named):
        p *= max(0, pruned - i) / (L - i)
    return p


@chance.law("one layer, 28 of 68 are given back")
def _(chance_given_back):
    return chance_given_back(28, 68), 28 / 68


@chance.law("nothing named: certain. One named, nothing given back: impossible")
def _(chance_given_back):
    return [chance_given_back(2, 5, 0), chance_given_back(0, 5, 1)], [1.0, 0.0]


@chance.law("two of two named, one given back: impossible")
def _(chance_given_back):
    return chance_given_back(1, 2, 2), 0.0


@chance.law("three of four given back, three named: one set in four")
def _(chance_given_back):
    return chance_given_back(3, 4, 3), 1 / 4


@chance.law("five of seven given back, two named: all 21 sets counted")
def _(chance_given_back):
    from itertools import combinations

    sets = list(combinations(range(7), 5))
    return chance_given_back(5, 7, 2), sum({0, 1} <= set(s) for s in sets) / len(sets)


@chance.law("all are given back: certain, however many are named")
def _(chance_given_back):
    return chance_given_back(6, 6, 4), 1.0


@chance.law("two given back, four of five named: not all of them can be")
def _(chance_given_back):
    return chance_given_back(2, 5, 4), 0.0


@chance.mistake(
    "You draw with replacement. A layer that is given back is not drawn again: pruned - 1 of L - 1 are left."
)
def with_replacement(pruned, L, named=1):
    return (pruned / L) ** named


@chance.mistake("`named` is ignored: that is the chance of a single layer.")
def one_layer_only(pruned, L, named=1):
    return pruned / L


@chance.mistake("That is how many of the named layers are given back on average. Asked is the chance that all are.")
def expected_number(pruned, L, named=1):
    return named * pruned / L


@chance.mistake("That is the chance that the named layers all *stay*. `pruned` are given back; L - pruned stay.")
def all_stay(pruned, L, named=1):
    return chance.reference(L - pruned, L, named)


@chance.mistake("That is the chance that at least one is given back. All of them have to be.")
def at_least_one(pruned, L, named=1):
    return 1 - chance.reference(L - pruned, L, named)


@chance.mistake("The number of layers left shrinks, too: after i draws there are L - i.")
def layers_do_not_shrink(pruned, L, named=1):
    p = 1.0
    for i in range(named):
        p *= max(0, pruned - i) / L
    return p


@chance.mistake("You count sets, but divide by nothing: a chance is a share of all sets.")
def number_of_sets(pruned, L, named=1):
    import math

    return math.comb(L - named, pruned - named) if pruned >= named else 0


EXERCISES = [saliency, mask, shuffle, chance]

QUIZZES = [
    Quiz(
        "08.q1",
        "Eight experts change a layer strongly and in exactly the same way. What does LwPTV do with the layer?",
        right="b",
        a=(
            "Keeps it for all: the update is large, so it matters.",
            "LwPTV does not ask for size. The distance to the mean task vector is 0 here.",
        ),
        b=(
            "Prunes it for all: no task has anything there of its own.",
            "Yes, S = 0. Whether that is right is another question: what all tasks share may be what they all need.",
        ),
        c=(
            "Keeps it for all: the eight updates do not cancel there.",
            "They do not cancel, that is true; but S measures what a task has that the others do not have.",
        ),
        d=(
            "Keeps it for one task, and prunes it for the seven others.",
            "The mask is shared: a layer stays for all tasks or for none.",
        ),
    ),
    Quiz(
        "08.q2",
        "Two experts have tau_1 = (4, 0) and tau_2 = (-4, 0) in a layer. What is S there, and what does the merge by "
        "Task "
        "Arithmetic contain if the layer is kept?",
        right="c",
        a=(
            "S is 0, and the merge would contain nothing of either.",
            "The *sum* cancels. The distances to the mean do not.",
        ),
        b=(
            "S is large, and the merge contains both of the updates.",
            "S is large indeed. But a mask only multiplies by 0 or 1: the sum of what is kept is still 0.",
        ),
        c=(
            "S is large, and the merge contains nothing of either.",
            "Yes. LwPTV says where tasks differ; resolving the conflict there is left to the merge, such as TIES.",
        ),
    ),
    Quiz(
        "08.q3",
        "One study finds that giving back single weights (`by weight` above) gains more abroad than giving back whole "
        "layers, another finds the opposite. What would a fair comparison of the two have to hold equal?",
        right="a",
        a=(
            "How far the merged model is from the base.",
            "Yes: whoever gives back more of the length gains abroad for that alone, whatever was chosen.",
        ),
        b=(
            "How many tensors the two methods touch.",
            "By weight touches all of them by construction, and that says nothing about how much was given back.",
        ),
        c=(
            "How many tasks keep a layer or a weight.",
            "The rule that joins the tasks is the same in both; what it yields is part of the method.",
        ),
    ),
]

OPEN = [
    OpenTask(
        "08.open",
        "what would convince you?",
        "Suppose you referee a paper with LwPTV's claim: pruning redundant *layers* helps out of domain. List the "
        "three "
        "experiments that would change your mind most, in either direction, run the cheapest of them here, and write "
        "the "
        "paragraph of your review that it supports.",
        [
            "Each experiment has an outcome that would speak for the claim and one that would speak against it.",
            "A random counterpart with the same number of layers, or of weights, is among them.",
            "The paragraph gives the number, its spread, and what it does not show.",
            "It tells the effect of one tensor from the effect of the score.",
        ],
    )
]
