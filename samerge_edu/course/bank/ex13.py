"""Exercises of notebook 13: the contract of a method, a limiter, how many images, a fair standing."""

import math

import torch

from ..exercise import SHAPES, Exercise, OpenTask, Quiz


def _t(*values) -> torch.Tensor:
    return torch.tensor(values[0] if len(values) == 1 else values)


def _experts() -> list[dict[str, torch.Tensor]]:
    """Three experts of two tensors, made anew: a merge may change what it is given."""
    return [
        {"w": _t([1.0, -2.0, 3.0], [0.5, 0.0, 4.0]), "b": _t(1.0, 2.0)},
        {"w": _t([2.0, 2.0, -1.0], [1.0, 3.0, -2.0]), "b": _t(-4.0, 0.5)},
        {"w": _t([-3.0, 0.5, 1.0], [6.0, 1.5, 0.0]), "b": _t(6.0, -1.0)},
    ]


# ---------------------------------------------------------------------------- 13.1

repairing = Exercise(
    id="13.1",
    title="A merge that breaks the contract",
    kind="repair",
    goal=(
        "Somebody hands in this mean of the experts. It runs, and on the leaderboard its number is fine. But the next "
        "method in the table was suddenly much worse. Find out why, and whether it is the mean at all."
    ),
    minutes=10,
    difficulty=2,
    importance=5,
    hints=[
        "Call it twice with the same list. Which object does `total` name?",
        "`+=` on a tensor changes that tensor, and it is the first expert's. And what is the first expert divided by?",
        "`return {key: sum(tau[key] for tau in taus) / len(taus) for key in taus[0]}`",
    ],
    errors={SHAPES: "Each name has a shape of its own: add `tau[key]` to `tau[key]` of the other experts only."},
)


@repairing.solution
def mean_update(taus):
    """The mean of the experts, which are left as they are.

    taus: N >= 1 dictionaries name -> tensor with the same names and shapes -> one such dictionary
    """
    return {key: sum(tau[key] for tau in taus) / len(taus) for key in taus[0]}


@repairing.broken
def broken_mean(taus):
    """The mean of the experts, which are left as they are.

    taus: N >= 1 dictionaries name -> tensor with the same names and shapes -> one such dictionary
    """
    total = taus[0]
    for tau in taus[1:]:
        for key in total:
            total[key] += tau[key] / len(taus)
    return total


@repairing.law("one expert is its own mean")
def _(mean_update):
    return mean_update([{"w": _t(3.0, -1.0)}]), {"w": _t(3.0, -1.0)}


@repairing.law("two experts, one entry: the mean of 3 and -1")
def _(mean_update):
    return mean_update([{"w": _t([3.0])}, {"w": _t([-1.0])}]), {"w": _t([1.0])}


@repairing.law("three experts")
def _(mean_update):
    expected = {"w": _t([0.0, 0.5 / 3, 1.0], [2.5, 1.5, 2.0 / 3]), "b": _t(1.0, 0.5)}
    return mean_update(_experts()), expected


@repairing.law("the order of the experts does not matter")
def _(mean_update):
    return mean_update(_experts()[::-1]), mean_update(_experts())


@repairing.law("a second call with the same list gives the same")
def _(mean_update):
    taus = _experts()
    first = {key: value.clone() for key, value in mean_update(taus).items()}
    return mean_update(taus), first


@repairing.mistake(
    "The inputs are safe now, but the first expert still counts in full, and the others by 1/N: divide it, too."
)
def first_in_full(taus):
    total = {key: value.clone() for key, value in taus[0].items()}
    for tau in taus[1:]:
        for key in total:
            total[key] += tau[key] / len(taus)
    return total


@repairing.mistake(
    "The mean is right now, but it is built inside the first expert: whoever merges next gets another expert."
)
def still_in_place(taus):
    total = taus[0]
    for tau in taus[1:]:
        for key in total:
            total[key] += tau[key]
    for key in total:
        total[key] /= len(taus)
    return total


@repairing.mistake("The inputs are safe now, but you return the sum: divide by the number of experts.")
def plain_sum(taus):
    return {key: sum(tau[key] for tau in taus) for key in taus[0]}


@repairing.mistake("You return the first expert and never look at the others.")
def only_the_first(taus):
    return {key: taus[0][key].clone() for key in taus[0]}


@repairing.mistake("You divide by N - 1, as a variance does. A mean of N divides by N.")
def one_less(taus):
    return {key: sum(tau[key] for tau in taus) / max(1, len(taus) - 1) for key in taus[0]}


# ---------------------------------------------------------------------------- 13.2

limiting = Exercise(
    id="13.2",
    title="A limiter",
    kind="design",
    goal=(
        "An update is a sum of directions, each with a strength (notebook 09). Turn down what is too loud: afterwards "
        "no direction is stronger than $c$ times the mean strength that the update had *before*. Directions that "
        "were quieter stay exactly as they are, and no direction turns."
    ),
    minutes=10,
    difficulty=3,
    importance=5,
    hints=[
        "What are the strengths of an update, and what does the word *mean* belong to?",
        "`U, S, Vt = torch.linalg.svd(M, full_matrices=False)`; only S changes, and `clamp` has a `max`.",
        "`U * S.clamp(max=c * S.mean()) @ Vt`",
    ],
    errors={SHAPES: "With `full_matrices=False` the pieces fit: U (m, r), S (r,), Vt (r, n)."},
)


@limiting.solution
def limit(M, c=1.0):
    """M with its loud directions turned down.  M: (m, n), c: > 0 -> (m, n)"""
    U, S, Vt = torch.linalg.svd(M, full_matrices=False)
    return U * S.clamp(max=c * S.mean()) @ Vt


LOUD = _t([0.0, 4.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, -1.0])  # strengths 4, 1, 1: their mean is 2
MIXED = _t([3.0, 1.0, 0.0, -2.0], [0.5, -1.0, 4.0, 1.0], [2.0, 0.0, 1.0, 1.5])


@limiting.law("strengths 4, 1 and 1: their mean is 2, so 4 becomes 2")
def _(limit):
    return limit(LOUD), _t([0.0, 2.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, -1.0])


@limiting.law("c = 0.25: the limit is 0.5, and all three are above")
def _(limit):
    return limit(LOUD, c=0.25), LOUD.sign() * 0.5


@limiting.law("c = 1.5: the limit is 3")
def _(limit):
    return limit(LOUD.T, c=1.5), _t([0.0, 1.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, -1.0])


@limiting.law("a limit that nothing reaches changes nothing")
def _(limit):
    return limit(MIXED, c=3.0), MIXED


@limiting.law("twice the update, twice the result")
def _(limit):
    return limit(2 * MIXED), 2 * limit(MIXED)


@limiting.law("the strengths of a full matrix")
def _(limit):
    S = torch.linalg.svdvals(MIXED)
    return torch.linalg.svdvals(limit(MIXED, c=0.8)), S.clamp(max=0.8 * S.mean().item())


@limiting.mistake("You limit the entries. A direction is spread over many entries: limit the singular values.")
def entries_limited(M, c=1.0):
    most = c * M.abs().mean().item()
    return M.clamp(-most, most)


@limiting.mistake("Now all directions are equally loud: you raised the quiet ones. They were to stay as they are.")
def made_flat(M, c=1.0):
    U, S, Vt = torch.linalg.svd(M, full_matrices=False)
    return U * torch.full_like(S, c * S.mean().item()) @ Vt


@limiting.mistake("You removed the loud directions. Turned down to the limit they stay in the update.")
def loud_removed(M, c=1.0):
    U, S, Vt = torch.linalg.svd(M, full_matrices=False)
    return U * torch.where(c * S.mean() < S, 0.0, S) @ Vt


@limiting.mistake("Your limit is a share of the largest strength. It is to be c times the mean of all strengths.")
def of_the_largest(M, c=1.0):
    U, S, Vt = torch.linalg.svd(M, full_matrices=False)
    return U * S.clamp(max=c * S.max().item()) @ Vt


@limiting.mistake("Your limit is c times the median. The mean was asked for: one loud direction raises it.")
def of_the_median(M, c=1.0):
    U, S, Vt = torch.linalg.svd(M, full_matrices=False)
    return U * S.clamp(max=c * S.median().item()) @ Vt


@limiting.mistake("You keep the loud part and drop the rest: `clamp` with `min` raises, with `max` it limits.")
def raised_instead(M, c=1.0):
    U, S, Vt = torch.linalg.svd(M, full_matrices=False)
    return U * S.clamp(min=c * S.mean().item()) @ Vt


@limiting.mistake("You bring the result back to its old length, and so above the limit. Leave it shorter.")
def length_restored(M, c=1.0):
    limited = limit(M, c)
    return limited * M.norm() / limited.norm()


# ---------------------------------------------------------------------------- 13.3

counting = Exercise(
    id="13.3",
    title="How many images does a claim need?",
    kind="predict",
    goal=(
        "Your method is *d* points better than another one. One accuracy near $p$, measured on $n$ images, has the "
        "standard error $\\sqrt{p\\,(1-p)/n}$. Predict the smallest $n$ for which two standard errors are no more than "
        "d points. Then look at what one task of the table below was measured on."
    ),
    minutes=5,
    difficulty=2,
    importance=4,
    hints=[
        "Solve $2\\sqrt{p(1-p)/n} \\le d$ for n. In which unit is d?",
        "As shares: $n \\ge 4\\,p\\,(1-p)/d^2$, and a number of images is whole.",
        "`math.ceil(4 * p * (1 - p) / d**2)` with `p = percent / 100` and `d = points / 100`.",
    ],
    errors={"ZeroDivisionError": "Nothing tells 0 points apart: `points` is above 0. Is the share rounded to 0?"},
)


@counting.solution
def images_needed(points, percent):
    """The smallest number of images at which two standard errors are at most `points`.

    points: float > 0, percent: accuracy, float in (0, 100) -> int
    """
    import math

    p, d = percent / 100, points / 100
    return math.ceil(4 * p * (1 - p) / d**2)


@counting.law("10 points at 60 % need 96 images, a little less than 10 points one more")
def _(images_needed):
    return images_needed(9.99, 60.0), 97


@counting.law("3 points at 75 %: 833.3, so 834")
def _(images_needed):
    return images_needed(3.0, 75.0), 834


@counting.law("as many at 30 % as at 70 %")
def _(images_needed):
    return images_needed(7.0, 30.0), images_needed(7.0, 70.0)


@counting.law("half the points need four times the images, up to rounding")
def _(images_needed):
    return images_needed(0.7, 82.0), math.ceil(4 * 0.82 * 0.18 / 0.007**2)


@counting.mistake("You allow one standard error. Two are asked for, and so four times the images.")
def one_error(points, percent):
    p, d = percent / 100, points / 100
    return math.ceil(p * (1 - p) / d**2)


@counting.mistake("You round down: with one image less, two standard errors are just above d.")
def rounded_down(points, percent):
    p, d = percent / 100, points / 100
    return math.floor(4 * p * (1 - p) / d**2)


@counting.mistake("The error falls with the root of n, so d comes in squared.")
def not_squared(points, percent):
    p, d = percent / 100, points / 100
    return math.ceil(4 * p * (1 - p) / d)


@counting.mistake("You take the worst case, p = 1/2. The accuracy is known: p (1 - p) is smaller.")
def worst_case(points, percent):
    return math.ceil(1 / (points / 100) ** 2)


@counting.mistake("You left out 1 - p: a method that is nearly always right is measured more exactly.")
def only_p(points, percent):
    p, d = percent / 100, points / 100
    return math.ceil(4 * p / d**2)


@counting.mistake("The 2 is inside the square: two errors need 4 times, not twice, the images.")
def twice(points, percent):
    p, d = percent / 100, points / 100
    return math.ceil(2 * p * (1 - p) / d**2)


# ---------------------------------------------------------------------------- 13.4

standings = Exercise(
    id="13.4",
    title="A fair standing",
    kind="decide",
    goal=(
        "A class hands in methods, and the test images cannot tell apart what is at most `width` points apart. Write "
        "the ranks so that nobody is put below a method that is not surely better than theirs. Two methods "
        "that are surely better push you down by two places, whether or not they share a rank. Keep the order of `h`."
    ),
    minutes=10,
    difficulty=2,
    importance=3,
    hints=[
        "What has to be true of another method, so that it may push yours down by one?",
        "Count, for each entry, the others that are better by more than `width`. The best rank is 1.",
        "`[1 + sum(other > mine + width for other in h) for mine in h]`",
    ],
)


@standings.solution
def standing(h, width=1.0):
    """The rank of each method, 1 the best.  h: list of floats, in points, width: >= 0 -> list of ints"""
    return [1 + sum(other > mine + width for other in h) for mine in h]


@standings.law("far apart: 1, 2, 3, in the order of h")
def _(standing):
    return standing([70.0, 90.0, 80.0]), [3, 1, 2]


@standings.law("too close to tell: both are first, and the next is third")
def _(standing):
    return standing([80.5, 80.0, 70.0]), [1, 1, 3]


@standings.law("exactly `width` apart is not surely better")
def _(standing):
    return standing([80.0, 79.0, 75.0]), [1, 1, 3]


@standings.law("a chain: the third is surely worse than the first alone")
def _(standing):
    return standing([80.0, 79.25, 78.5, 77.75]), [1, 1, 2, 3]


@standings.law("width 0: only equals share")
def _(standing):
    return standing([80.0, 80.0, 79.9], width=0.0), [1, 1, 3]


@standings.law("width 5, four methods")
def _(standing):
    return standing([60.0, 64.0, 70.0, 66.0], width=5.0), [3, 2, 1, 1]


@standings.law("nobody handed in anything")
def _(standing):
    return standing([]), []


@standings.mistake("You rank by the numbers alone, as if half a point were certain. Count only what is surely better.")
def by_the_numbers(h, width=1.0):
    return [1 + sum(other > mine for other in h) for mine in h]


@standings.mistake("You count what is exactly `width` better. It is not surely better: use `>`.")
def at_least_width(h, width=1.0):
    return [1 + sum(other >= mine + width and other > mine for other in h) for mine in h]


@standings.mistake("You let a chain of close neighbours share one rank, however far its ends are apart.")
def chained(h, width=1.0):
    order, ranks = sorted(h, reverse=True), {}
    for place, value in enumerate(order):
        near = place > 0 and order[place - 1] - value <= width
        ranks[value] = ranks[order[place - 1]] if near else place + 1
    return [ranks[value] for value in h]


@standings.mistake("Your ranks begin with 0: nobody is surely better than the best, and that is rank 1.")
def from_zero(h, width=1.0):
    return [sum(other > mine + width for other in h) for mine in h]


@standings.mistake("You count those that are surely worse: the best gets the last rank. Turn it round.")
def upside_down(h, width=1.0):
    return [1 + sum(other < mine - width for other in h) for mine in h]


@standings.mistake("Two that are surely better push you down by two places, also if they share a rank: count methods.")
def dense(h, width=1.0):
    ranks = [1 + sum(other > mine + width for other in h) for mine in h]
    return [1 + len({r for r, other in zip(ranks, h, strict=True) if other > mine + width}) for mine in h]


EXERCISES = [repairing, limiting, counting, standings]

QUIZZES = [
    Quiz(
        "13.q1",
        "The limiter turns some directions of the sum down. Which counterpart tells whether it matters *which* ones?",
        right="b",
        a=(
            "The plain sum, without any limit, at its own best scale.",
            "That is an ablation: it tells what limiting gives, and leaves open whether any limiting would.",
        ),
        b=(
            "The same factors, dealt to the directions of the sum by lot.",
            "Yes: as much is turned down, by as much; only the choice of the directions is gone.",
        ),
        c=(
            "Random matrices of the same size, instead of the task vectors.",
            "They know nothing of the tasks: everything would beat them, and nothing would be learnt.",
        ),
    ),
    Quiz(
        "13.q2",
        "You tried the limiter with five values of c, looked at the test accuracy of each, and report the best. What "
        "is wrong with the number?",
        right="c",
        a=("Nothing, if all five values are in the report too.", "Telling is better than not. It stays too high."),
        b=("It is too low: the best c lies between two tried.", "Perhaps, and a search on test still flatters."),
        c=("It is too high: of five lucky draws you took one.", "Yes. Choose on validation, look at test once."),
    ),
]

OPEN = [
    OpenTask(
        "13.open",
        "your own method, on one page",
        "Now yours. `samerge-edu submit --new my_capstone` puts a submission that runs, the report's template and the "
        "rubric into a folder. Write down the idea before the first measurement. A method that does not help can "
        "earn all the points: they are for knowing whether it does.",
        [
            "The idea names what the method looks at, and a way in which it could fail.",
            "Every part was taken out on its own, with the spread over subsets of the experts.",
            "A counterpart differs from the method in the choice alone; both are shown over the effective scale.",
            "Home and abroad stand beside two known methods, each at its own validated scale.",
            "The conclusion is no wider than the numbers; near-ties are called near-ties; what failed is told.",
        ],
    )
]
