"""Exercises of notebook 08: Eq. 5 of LwPTV, the shared mask, the shuffle test and what it may say."""

import torch

from ..exercise import Exercise, Quiz


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
    """S_n^l = || tau_n^l - tau_bar^l ||_1, divided by the number of the layer's entries if norm is "mean".

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
    goal="Each task gives up the share eta of the layers in which it deviates least. A layer stays for *all* tasks "
    "if any of them keeps it.",
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

verdict = Exercise(
    id="08.4",
    title="How often does chance do as well",
    goal="Of all draws, the real one included, which share does at least as well as the real one?",
    minutes=5,
    difficulty=2,
    importance=4,
    hints=[
        "Five shuffles, none as good as the real mask. May you claim a chance of 0?",
        "The real order is one of the orders that chance could draw: count it in the numerator and the denominator.",
        "`(1 + sum(x >= real for x in by_chance)) / (1 + len(by_chance))`",
    ],
)


@verdict.solution
def p_value(real, by_chance):
    """(1 + how many by chance reach the real result) / (1 + how many draws).  float, list of floats -> float"""
    return (1 + sum(x >= real for x in by_chance)) / (1 + len(by_chance))


@verdict.law("no draw: nothing can be claimed")
def _(p_value):
    return p_value(90.0, []), 1.0


@verdict.law("four draws, all worse: one in five")
def _(p_value):
    return p_value(90.0, [80.0, 81.0, 85.0, 89.0]), 0.2


@verdict.law("a draw that is exactly as good counts as good")
def _(p_value):
    return p_value(90.0, [80.0, 90.0, 85.0]), 0.5


@verdict.law("one draw of four is better")
def _(p_value):
    return p_value(90.0, [80.0, 92.0, 85.0, 70.0]), 0.4


@verdict.mistake("You leave the real draw out: with four draws you would claim a chance of 0. Add 1 above and below.")
def without_the_real_one(real, by_chance):
    return sum(x >= real for x in by_chance) / max(1, len(by_chance))


@verdict.mistake("You count the draws that are *worse*. Count those that are at least as good.")
def counts_the_worse(real, by_chance):
    return (1 + sum(x < real for x in by_chance)) / (1 + len(by_chance))


@verdict.mistake("A draw that is exactly as good is evidence against you as well: `>=`, not `>`.")
def ties_dropped(real, by_chance):
    return (1 + sum(x > real for x in by_chance)) / (1 + len(by_chance))


@verdict.mistake("This is the gain over the mean of the draws. The share of draws that reach the real result is asked.")
def gain_over_mean(real, by_chance):
    return real - sum(by_chance) / max(1, len(by_chance))


@verdict.mistake("You add 1 below but not above: the real draw is one of those that reach the real result.")
def only_below(real, by_chance):
    return sum(x >= real for x in by_chance) / (1 + len(by_chance))


EXERCISES = [saliency, mask, shuffle, verdict]

QUIZZES = [
    Quiz(
        "08.q1",
        "Eight experts change a layer strongly and in exactly the same way. What does LwPTV do with the layer?",
        right="b",
        a=(
            "Keeps it: the update is large, so it matters.",
            "LwPTV does not ask for size. The distance to the mean task vector is 0 here.",
        ),
        b=(
            "Prunes it: S = 0 for every task, so no task calls it its own.",
            "Yes. Whether that is right is another question: what all tasks share may be just what they all need.",
        ),
        c=(
            "Keeps it, because the eight updates do not cancel.",
            "They do not cancel, that is true; but S measures what a task has that the others do not have.",
        ),
        d=(
            "Keeps it for one task and prunes it for the seven others.",
            "The mask is shared: a layer stays for all tasks or for none.",
        ),
    ),
    Quiz(
        "08.q2",
        "Two experts have tau_1 = (4, 0) and tau_2 = (-4, 0) in a layer. Their sum there is 0. What is S, and what "
        "does the merge by Task Arithmetic contain if the layer is kept?",
        right="c",
        a=("S = 0, since they cancel. The layer is pruned.", "The *sum* cancels. The distances to the mean do not."),
        b=(
            "S is large, so the merge contains both updates in full.",
            "S is large indeed. But a mask only multiplies by 0 or 1: the sum of what is kept is still 0.",
        ),
        c=(
            "S is large, and the merge contains nothing of either: LwPTV does not resolve cancellation.",
            "Yes. LwPTV says where tasks differ; resolving the conflict there is left to the merge, such as TIES.",
        ),
    ),
    Quiz(
        "08.q3",
        "An expert's features of unseen images have moved away from the base's. Why can giving back whole *layers* "
        "repair more of this than giving back the same number of single weights?",
        right="a",
        a=(
            "A layer given back computes exactly what it did in the base; a layer with half of its weights given back "
            "is a layer that nobody ever trained.",
            "Yes, that is the paper's argument. Whether it wins is a matter of measurement: the paper's "
            "parameter-wise variant keeps more at home.",
        ),
        b=(
            "Because single weights cannot be ranked by their distance to the mean.",
            'They can: `granularity="parameter"` does so.',
        ),
        c=(
            "Because more numbers are given back.",
            "The question says: the same number. It is about which ones belong together.",
        ),
    ),
]
