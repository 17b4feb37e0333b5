"""Other cases for the exercises: other shapes and numbers, drawn with a seed and answered by the reference.

    se.check("01.1", task_vectors, seed=7)      the public laws, and CASES more cases that seed 7 draws

A class that is graded with a seed of the teacher's is asked what nobody could look up. For each exercise one function
draws the arguments, within what its text allows: no ties, matrices that are neither square nor near to singular.
NOT_DRAWN has the exercises for which that cannot be, with the reason; there a seed changes nothing.
"""

import functools
import zlib
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from .examine import copied, same
from .exercise import Exercise, Law

CASES = 3  # a seed
RTOL, ATOL = 1e-3, 1e-5  # wider than for the laws: drawn numbers are not chosen to be round

NOT_DRAWN = {
    "02b.1": "how the coins are drawn from the generator is free: its laws count instead",
    "05.1": "has no arguments",
    "08.3": "how the order is drawn from the generator is free: its laws count instead",
}


class Lot:
    """A source of small shapes and numbers; the same seed gives the same ones."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def whole(self, low: int, high: int) -> int:
        """low <= n <= high."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def real(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def reals(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def mask(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator) < 0.6

    def order(self, n: int) -> list[int]:
        return torch.randperm(n, generator=self.generator).tolist()

    def two_sizes(self, low: int = 2, high: int = 5) -> tuple[int, int]:
        """Two that differ: no matrix is square."""
        a, b = self.order(high - low + 1)[:2]
        return low + a, low + b

    def models(self, n: int) -> list[dict[str, Tensor]]:
        """n models of one structure, two tensors each."""
        rows, columns = self.two_sizes()
        return [{"w": self.normal(rows, columns), "b": self.normal(rows)} for _ in range(n)]

    def layers(self, n: int) -> list[Tensor]:
        """n matrices (out, in) in a row, the first layer first."""
        widths = [2 + width for width in self.order(n + 1)]
        return [self.normal(after, before) for before, after in pairwise(widths)]

    def conditioned(self, rows: int, columns: int) -> Tensor:
        """A matrix whose singular values lie apart, from 1 up to min(rows, columns), in a random place."""
        k = min(rows, columns)
        U, V = (torch.linalg.qr(self.normal(side, k)).Q for side in (rows, columns))
        return U * (torch.arange(k, 0, -1) + self.reals(-0.2, 0.2, k)) @ V.T


Draw = Callable[[Lot], tuple]  # the arguments of one call
DRAWS: dict[str, Draw] = {}
SEEN: dict[str, Callable] = {  # where more than one answer is right: what of (answer, arguments) is not free
    "07.4": lambda answer, A, B: (
        answer[1] @ answer[0],
        answer[0] @ answer[0].T,
        answer[1].T @ answer[1],
    ),
    "07.5": lambda answer, taus, *_: ([answer[0] @ block for block in answer[1]], answer[0].T @ answer[0]),
}


def drawn(exercise: Exercise, seed: int) -> Exercise:
    """The exercise with CASES more laws, drawn with this seed. Raises ValueError for a seed that check_seed refuses."""
    check_seed(seed)
    return _drawn(exercise, seed)


def check_seed(seed: int) -> None:
    """Raise ValueError for what is no whole number from 0 on."""
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed: got {seed!r}, expected a whole number from 0 on")


@functools.lru_cache(maxsize=256)
def _drawn(exercise: Exercise, seed: int) -> Exercise:
    other = replace(exercise, laws=list(exercise.laws))  # shares the mistakes; solution and laws are its own
    other.reference = exercise.reference
    if exercise.id in DRAWS:
        other.laws += [_law(exercise, seed, number) for number in range(1, CASES + 1)]
    return other


def _law(exercise: Exercise, seed: int, number: int) -> Law:
    arguments = DRAWS[exercise.id](Lot(zlib.crc32(f"{exercise.id} {seed} {number}".encode())))
    seen = SEEN.get(exercise.id, lambda answer, *arguments: answer)

    def test(function: Callable) -> tuple:
        got = seen(function(*arguments), *copied(arguments))
        expected = seen(exercise.reference(*copied(arguments)), *copied(arguments))
        return (expected if same(got, expected, RTOL, ATOL) else got), expected

    return Law(f"the answer is right for other shapes and numbers, too ({number} of {CASES})", test)


def draws(id: str) -> Callable[[Draw], Draw]:
    def register(draw: Draw) -> Draw:
        DRAWS[id] = draw
        return draw

    return register


# ---------------------------------------------------------------------------- 00 to 02


@draws("00.1")
def _(lot: Lot) -> tuple:
    n, d = lot.two_sizes()
    return lot.normal(n, d + 1), lot.normal(lot.whole(2, 4), d + 1)


@draws("00.2")
@draws("13.1")
def _(lot: Lot) -> tuple:
    return (lot.models(lot.whole(3, 5)),)


@draws("00.3")
def _(lot: Lot) -> tuple:
    tasks = lot.whole(2, 6)
    return lot.reals(5, 95, tasks), lot.reals(5, 95, tasks)


@draws("01.1")
def _(lot: Lot) -> tuple:
    theta_0, *thetas = lot.models(lot.whole(2, 4) + 1)
    return theta_0, thetas


@draws("01.2")
def _(lot: Lot) -> tuple:
    return *lot.models(2), lot.real(-1.5, 1.5)


@draws("01.3")
def _(lot: Lot) -> tuple:
    n, tasks = lot.two_sizes(3, 6)
    return [lot.real(0, 1) for _ in range(n)], lot.reals(5, 95, n, tasks), lot.reals(5, 95, n, tasks)


@draws("01.4")
def _(lot: Lot) -> tuple:
    n = lot.whole(4, 7)
    base = lot.whole(0, n - 1)
    lams = [0.0 if i == base else lot.real(-1.5, -0.1) for i in range(n)]
    return lams, lot.reals(5, 95, n), lot.reals(40, 80, n), lot.real(0.6, 0.99)


@draws("01.5")
def _(lot: Lot) -> tuple:
    tau = lot.normal(lot.whole(2, 5), 7)
    lengths = tau.norm(dim=1)
    return lengths, (tau @ tau.T / lengths / lengths[:, None]).clamp(-1, 1)


@draws("02.1")
def _(lot: Lot) -> tuple:
    n, d = lot.whole(2, 4), lot.whole(6, 11)
    return (lot.normal(n, d) * lot.mask(n, d),)


@draws("02.2")
def _(lot: Lot) -> tuple:
    return lot.normal(lot.whole(2, 4), lot.whole(6, 11)), lot.real(0.15, 0.9)


@draws("02.3")
def _(lot: Lot) -> tuple:
    return (lot.normal(lot.whole(2, 4), lot.whole(5, 9)),)


@draws("02.4")
def _(lot: Lot) -> tuple:
    n, d = lot.whole(3, 5), lot.whole(6, 9)
    return lot.normal(n, d) * lot.mask(n, d), lot.normal(d).sign()


# ---------------------------------------------------------------------------- 02b


@draws("02b.2")
def _(lot: Lot) -> tuple:
    return lot.reals(0.1, 9, *lot.two_sizes(2, 6)), lot.real(0.4, 0.6), lot.real(0.05, 0.3)


@draws("02b.3")
def _(lot: Lot) -> tuple:
    return lot.reals(0.1, 9, lot.whole(2, 4), lot.whole(6, 11)), lot.real(0.2, 0.5), lot.real(0.05, 0.3)


@draws("02b.4")
def _(lot: Lot) -> tuple:
    return (lot.normal(lot.whole(2, 3), lot.whole(4, 7)),)


@draws("02b.5")
def _(lot: Lot) -> tuple:
    n = lot.whole(3, 4)
    return lot.normal(n, lot.whole(5, 9)), lot.real(0.2, 0.9), lot.whole(1, n)


@draws("02b.6")
def _(lot: Lot) -> tuple:
    blocks = [*range(lot.whole(2, 6)), lot.whole(0, 1), "in front", "behind"]
    return [blocks[i] for i in lot.order(len(blocks))], lot.real(0.1, 0.9), lot.real(0.1, 0.9)


# ---------------------------------------------------------------------------- 03, 04


@draws("03.1")
@draws("03.2")
def _(lot: Lot) -> tuple:
    return (lot.layers(lot.whole(2, 4)),)


@draws("03.3")
def _(lot: Lot) -> tuple:
    rounds = lot.whole(3, 9)
    return lot.whole(1, rounds), rounds, lot.real(0.05, 0.9), lot.whole(200, 900)


@draws("03.4")
def _(lot: Lot) -> tuple:
    scores = lot.layers(lot.whole(2, 3))
    return scores, lot.whole(1, sum(S.numel() for S in scores))


@draws("03.5")
def _(lot: Lot) -> tuple:
    return ([lot.mask(*W.shape) for W in lot.layers(lot.whole(2, 4))],)


@draws("04.1")
def _(lot: Lot) -> tuple:
    shape = lot.two_sizes()
    return lot.reals(0, 3, *shape), lot.normal(*shape), lot.normal(*shape)


@draws("04.2")
def _(lot: Lot) -> tuple:
    outputs, hidden = lot.two_sizes()
    inputs = lot.whole(3, 6)
    return lot.reals(0.1, 2, inputs) * lot.mask(inputs), lot.normal(outputs, hidden) * lot.mask(outputs, hidden)


@draws("04.3")
def _(lot: Lot) -> tuple:
    w, hidden = lot.two_sizes()
    x, g_1, g_2 = lot.reals(0.1, 2, w), lot.normal(w), lot.normal(w)
    return x, g_1, lot.normal(w, w), lot.normal(w, w), g_2, lot.normal(hidden, w), lot.normal(w, hidden)


@draws("04.4")
def _(lot: Lot) -> tuple:
    shape = lot.two_sizes()
    return lot.normal(*shape), lot.normal(*shape)


@draws("04.5")
def _(lot: Lot) -> tuple:
    hidden, outputs = lot.two_sizes()
    return lot.normal(hidden, lot.whole(2, 4)), lot.normal(outputs, hidden), lot.reals(0.2, 5, hidden)


# ---------------------------------------------------------------------------- 05, 06


@draws("05.2")
def _(lot: Lot) -> tuple:
    shape, n = lot.two_sizes(), lot.whole(2, 4)
    return (
        lot.normal(*shape),
        [lot.normal(*shape) for _ in range(n)],
        [lot.reals(0, 3, *shape) for _ in range(n)],
    )


@draws("05.3")
def _(lot: Lot) -> tuple:
    shape, n = lot.two_sizes(), lot.whole(2, 4)
    return [lot.normal(*shape) for _ in range(n)], [lot.reals(0, 3, *shape) for _ in range(n)]


@draws("05.4")
def _(lot: Lot) -> tuple:
    shape = lot.two_sizes()
    return lot.mask(*shape), lot.mask(*shape)


@draws("05.5")
def _(lot: Lot) -> tuple:
    n, d = lot.whole(3, 5), lot.whole(5, 9)
    taus = lot.normal(n, d)
    return taus, taus * lot.mask(n, d)


@draws("06.1")
def _(lot: Lot) -> tuple:
    shape = lot.two_sizes(3, 6)
    return lot.normal(*shape), lot.normal(*shape) * lot.mask(*shape), lot.whole(1, 3), lot.real(0.1, 0.6)


@draws("06.2")
def _(lot: Lot) -> tuple:
    from .bank.ex06 import surviving

    def against_the_sum(taus: list) -> list:
        """Changes when the others are pruned."""
        tau_star = {key: sum(tau[key] for tau in taus) for key in taus[0]}
        return [{key: tau[key] * tau_star[key] for key in tau} for tau in taus]

    return lot.models(lot.whole(2, 4)), against_the_sum, surviving.reference, lot.whole(2, 3), lot.real(0.1, 0.5)


@draws("06.3")
def _(lot: Lot) -> tuple:
    d = lot.whole(3, 8)
    return lot.normal(d), lot.normal(d) + 0.5


@draws("06.4")
def _(lot: Lot) -> tuple:
    without = ["nothing", "modulation", "sensitivity", "both"][lot.whole(0, 3)]
    shape, n = lot.two_sizes(), lot.whole(2, 4)
    return without, [lot.normal(*shape) for _ in range(n)], [lot.reals(0, 3, *shape) for _ in range(n)]


@draws("06.5")
def _(lot: Lot) -> tuple:
    return lot.real(70, 72), [lot.real(68, 74) for _ in range(lot.whole(3, 9))]


# ---------------------------------------------------------------------------- 07, 08


@draws("07.1")
def _(lot: Lot) -> tuple:
    (rank, inputs), outputs = lot.two_sizes(), lot.whole(2, 6)
    return lot.normal(rank, inputs), lot.normal(outputs, rank), lot.real(1, 16), bool(lot.whole(0, 1))


@draws("07.2")
def _(lot: Lot) -> tuple:
    shape = lot.two_sizes()
    return lot.normal(*shape), lot.normal(*shape), lot.real(0.3, 3)


@draws("07.3")
def _(lot: Lot) -> tuple:
    rank, inputs = lot.two_sizes(3, 6)
    return lot.normal(rank, inputs), lot.normal(lot.whole(2, 6), rank), lot.normal(rank), lot.whole(1, rank - 1)


@draws("07.4")
def _(lot: Lot) -> tuple:
    rank, inputs, outputs = lot.whole(2, 3), lot.whole(5, 7), lot.whole(4, 6)
    return lot.conditioned(rank, inputs), lot.conditioned(outputs, rank)


@draws("07.5")
def _(lot: Lot) -> tuple:
    outputs, inputs = lot.whole(5, 7), lot.whole(2, 3)
    return ([lot.conditioned(outputs, inputs) for _ in range(lot.whole(2, 3))],)


@draws("08.1")
def _(lot: Lot) -> tuple:
    return lot.models(lot.whole(3, 5)), ["mean", "sum"][lot.whole(0, 1)]


@draws("08.2")
def _(lot: Lot) -> tuple:
    return lot.reals(0.1, 9, lot.whole(2, 3), lot.whole(8, 13)), lot.real(0.5, 0.9)


@draws("08.4")
def _(lot: Lot) -> tuple:
    L = lot.whole(6, 20)
    return lot.whole(3, L), L, lot.whole(1, 3)


# ---------------------------------------------------------------------------- 09, 10


@draws("09.1")
def _(lot: Lot) -> tuple:
    rows, columns = lot.two_sizes(3, 6)
    return lot.conditioned(rows, columns), lot.whole(1, min(rows, columns) - 1)


@draws("09.2")
def _(lot: Lot) -> tuple:
    K = lot.whole(3, 5)
    U, V = lot.normal(lot.whole(5, 7), K), lot.normal(lot.whole(3, 4), K)
    return U / U.norm(dim=0), lot.reals(0.5, 4, K), V / V.norm(dim=0)


@draws("09.3")
def _(lot: Lot) -> tuple:
    columns = lot.whole(2, 4)
    return (lot.conditioned(columns + lot.whole(1, 3), columns),)


@draws("09.4")
def _(lot: Lot) -> tuple:
    outputs, inputs = lot.two_sizes()
    parts = [lot.normal(outputs, inputs) for _ in range(lot.whole(1, 3))]
    return (torch.stack([*parts, lot.conditioned(outputs, inputs) - sum(parts)]),)


@draws("09.5")
def _(lot: Lot) -> tuple:
    n, (outputs, inputs) = lot.whole(2, 3), lot.two_sizes(2, 4)
    X = lot.normal(n, inputs + 6, inputs)
    return lot.normal(n, outputs, inputs), X.mT @ X


@draws("09.6")
def _(lot: Lot) -> tuple:
    return (lot.normal(lot.whole(2, 4), *lot.two_sizes()),)


@draws("10.1")
def _(lot: Lot) -> tuple:
    (n, d), classes = lot.two_sizes(), lot.whole(2, 4)
    p, G = lot.normal(n, classes).softmax(dim=1), lot.normal(n, classes, d)
    return p, G - (p[..., None] * G).sum(dim=1, keepdim=True)  # the expected derivative of log p is 0


@draws("10.2")
def _(lot: Lot) -> tuple:
    n, (outputs, inputs) = lot.whole(2, 3), lot.two_sizes(2, 4)
    return (
        [lot.normal(outputs, inputs) for _ in range(n)],
        [lot.conditioned(inputs + lot.whole(1, 4), inputs) for _ in range(n)],
    )


@draws("10.3")
def _(lot: Lot) -> tuple:
    n, d = lot.two_sizes()
    z, head = lot.normal(n, d), lot.normal(lot.whole(2, 4), d)
    return z / z.norm(dim=1, keepdim=True), head / head.norm(dim=1, keepdim=True), lot.real(0.5, 9)


@draws("10.4")
def _(lot: Lot) -> tuple:
    free = {"needs": "none", "images": 0, "task_id": False, "transductive": False}
    rows = [free | {"val": lot.real(60, 62), "test": lot.real(60, 80)}]
    for _ in range(lot.whole(4, 8)):
        rows.append(
            {
                "needs": ["unlabelled", "labelled"][lot.whole(0, 1)],
                "images": 2 ** lot.whole(2, 7),
                "task_id": bool(lot.whole(0, 1)),
                "transductive": lot.whole(1, 4) == 1,
                "val": lot.real(60, 80),
                "test": lot.real(60, 80),
            }
        )
    rows = [rows[i] for i in lot.order(len(rows))]
    return rows, ["none", "unlabelled", "labelled"][lot.whole(1, 2)], lot.whole(10, 150), bool(lot.whole(0, 1))


# ---------------------------------------------------------------------------- 11


@draws("11.1")
def _(lot: Lot) -> tuple:
    n, d = lot.whole(2, 4), lot.whole(6, 10)
    return lot.normal(n, d), lot.whole(2, d - 2)


@draws("11.2")
def _(lot: Lot) -> tuple:
    tasks = lot.whole(2, 4)
    shape = tasks, tasks + lot.whole(0, 1)
    return lot.reals(1, 40, *shape).round(), lot.reals(10, 99, *shape)


@draws("11.3")
def _(lot: Lot) -> tuple:
    h, inputs, outputs = lot.whole(4, 6), *lot.two_sizes(2, 5)
    return lot.normal(h, inputs), lot.normal(outputs, h), lot.normal(h, inputs), lot.normal(outputs, h)


@draws("11.4")
def _(lot: Lot) -> tuple:
    heads, size = lot.whole(3, 4), lot.whole(2, 3)
    width, inputs, outputs = heads * size, *lot.two_sizes(3, 6)
    return lot.normal(3 * width, inputs), lot.normal(3 * width), lot.normal(outputs, width), lot.order(heads)


# ---------------------------------------------------------------------------- 12, 13


@draws("12.1")
def _(lot: Lot) -> tuple:
    table = lot.normal(128, lot.whole(3, 6))

    def embed(captions: list[str]) -> Tensor:
        """The sum of its letters' vectors."""
        return torch.stack([table[[ord(letter) % 128 for letter in caption]].sum(dim=0) for caption in captions])

    words, frames = ["otter", "parrot", "tree", "rat", "violin"], ["a {}", "a photo of a {}", "{}, drawn", "the old {}"]
    classes = [words[i] for i in lot.order(5)][: lot.whole(2, 4)]
    return embed, classes, [frames[i] for i in lot.order(4)][: lot.whole(2, 3)]


@draws("12.2")
def _(lot: Lot) -> tuple:
    tasks, names, families = "abcde", ["Average", "TIES", "TSV-M", "zero-shot"], ["FB", "TA"]
    mine = [tasks[i] for i in lot.order(5)][:3]
    ours = {name: {task: lot.real(40, 90) for task in mine} for name in names[:3]}
    rows = []
    for _ in range(lot.whole(6, 10)):
        held = mine if lot.whole(0, 1) else []
        values = {task: lot.real(40, 90) for task in dict.fromkeys([*held, tasks[lot.whole(0, 4)]])}
        about = {"method": names[lot.whole(0, 3)], "family": families[lot.whole(0, 1)]}
        rows.append(about | {"average": sum(values.values()) / len(values), "tasks": values})
    return ours, families[lot.whole(0, 1)], rows


@draws("12.3")
def _(lot: Lot) -> tuple:
    w, blocks = lot.whole(2, 4), lot.whole(2, 4)
    hf = {
        f"encoder.layers.{i}.self_attn.{x}_proj.{kind}": lot.normal(w, w) if kind == "weight" else lot.normal(w)
        for i in range(blocks)
        for x in ("out", "v", "q", "k")
        for kind in ("weight", "bias")
    }
    return hf, lot.whole(0, blocks - 1)


@draws("13.2")
def _(lot: Lot) -> tuple:
    return lot.conditioned(*lot.two_sizes(3, 6)), lot.real(0.3, 1.4)


@draws("13.3")
def _(lot: Lot) -> tuple:
    return lot.real(0.5, 9), lot.real(5, 95)


@draws("13.4")
def _(lot: Lot) -> tuple:
    return [lot.real(60, 70) for _ in range(lot.whole(4, 9))], lot.real(0.3, 3)
