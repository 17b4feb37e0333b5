"""Two beginnings: what matching units is worth, in small MLPs, between two CLIPs, and for task vectors.

    python data_scripts/measure_alignment.py          writes alignment.json beside this file, part by part

    widths    two MLPs of two seeds on digits: their mean before and after matching, and zipped, at four widths
    lines     accuracy along the line from our digits expert to the stranger's, as it is and matched; and to a copy of
              ours with its units in another order, which matching must find
    stranger  the stranger's task vector for digits carried to our base
    release   every expert's task vector carried to the second release, and to two releases for which it must work
    units     how alike matched units are, and what any linear map could find

Scales are chosen on validation images; every accuracy in the record is a test accuracy. Before two CLIPs are compared,
the embedding of one is turned into the other's: both know the captions (`rebasin.shared_embedding`).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor
from torch.nn import functional as F

from ..alignment.axes import Axes, chain_axes, identity, permute, shuffled, vit_axes
from ..alignment.rebasin import Maps, as_matrices, carry, rebasin, shared_embedding, turned
from ..alignment.weight_matching import similarity, weight_matching
from ..alignment.zipit import chain_features, zip_mlps, zipit
from ..evaluate import accuracy, plateau
from ..merges.average import average
from ..params import Params, add, task_vectors
from ..statistics import activations
from ..suites.pocket.suite import OTHER_BASES, load_pocket_base
from ..suites.pocket.training import all_captions
from ..suites.suite import Suite
from .scale import recorded as record_of

FILE = Path(__file__).with_suffix(".json")
N_VAL, N_TEST = 60, 300
"""Images of a task: for choosing a scale, for the number that is reported."""
STEPS = tuple(t / 10 for t in range(11))
"""Points of a line, from the first network (0) to the second (1)."""
LAMS = (0.1, 0.3, 0.56, 1.0)
WIDTHS = (8, 32, 128, 512)
SEEDS = 3
NAMES = {
    "pocket": "our base",
    "pocket-other-base": "the stranger's base",
    "pocket-second-base": "the second release",
    "copy": "a permuted copy",
}
WAYS = ("as it is", "embedding turned", "units at random", "units matched", "heads rotated")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def between(theta_a: Params, theta_b: Params, t: float) -> dict[str, Tensor]:
    """(1 - t) theta_a + t theta_b"""
    return {key: (1 - t) * theta_a[key] + t * theta_b[key] for key in theta_a}


def barrier(line: Mapping[str, float] | list[float]) -> float:
    """How far the lowest point of a line is below the straight line between its ends, in points of accuracy."""
    values = list(line.values()) if isinstance(line, Mapping) else line
    first, last = values[0], values[-1]
    steps = len(values) - 1
    return max(first + (last - first) * i / steps - value for i, value in enumerate(values))


# ---------------------------------------------------------------------------- two MLPs


def digits(suite: Suite, split: str, n: int) -> tuple[Tensor, Tensor]:
    """(n, 256) grey 16 x 16 pixels of drawn digits, and their labels."""
    images, labels = suite.images("digits", split, n)
    return F.avg_pool2d(images.mean(dim=1, keepdim=True), 2).flatten(1), labels


def train_mlp(x: Tensor, y: Tensor, width: int, seed: int, steps: int = 600, lr: float = 1e-3) -> dict[str, Tensor]:
    """A chain 256 -> width -> width -> 10, ReLU between; the seed draws its beginning and its batches."""
    generator, sizes = seeded(seed), (x.shape[1], width, width, 10)
    theta: dict[str, Tensor] = {}
    for i, (n, m) in enumerate(pairwise(sizes)):
        theta[f"{i}.weight"] = torch.randn(m, n, generator=generator) * (2 / n) ** 0.5
        theta[f"{i}.bias"] = torch.zeros(m)
    for tensor in theta.values():
        tensor.requires_grad_()
    adam = torch.optim.Adam(list(theta.values()), lr=lr)
    for _ in range(steps):
        pick = torch.randint(len(x), (128,), generator=generator)
        loss = F.cross_entropy(chain_features(theta, x[pick])["output"], y[pick])
        adam.zero_grad()
        loss.backward()
        adam.step()
    return {key: tensor.detach() for key, tensor in theta.items()}


def right(theta: Params, x: Tensor, y: Tensor) -> float:
    """Accuracy of an MLP in percent."""
    return 100 * (chain_features(theta, x)["output"].argmax(dim=1) == y).double().mean().item()


def two_mlps(suite: Suite, width: int, seed: int, images: int = 3000) -> dict:
    """One row of `widths`: the two ends, and their mean as it is, matched, and zipped."""
    x, y = digits(suite, "train", images)
    test = digits(suite, "test", 500)
    a, b = (train_mlp(x, y, width, s) for s in (2 * seed, 2 * seed + 1))
    axes = chain_axes(a)
    matched = permute(b, weight_matching(a, b, axes, generator=seeded(seed)), axes)
    zipped = zipit(a, b, chain_features(a, x), chain_features(b, x)).trunk
    return {
        "width": width,
        "seed": seed,
        "ends": mean(right(theta, *test) for theta in (a, b)),
        "mean": right(between(a, b, 0.5), *test),
        "matched": right(between(a, matched, 0.5), *test),
        "zipped": right(zipped, *test),
        "cosine": similarity(a, b),
        "cosine_matched": similarity(a, matched),
    }


# ---------------------------------------------------------------------------- two CLIPs


def embedding(old: Suite, new: Suite) -> Tensor:
    """Q: from the old suite's embedding to the new one's, by all captions of the pocket world."""
    captions = all_captions()
    return shared_embedding(read(old, captions), read(new, captions))


def read(suite: Suite, captions: list[str]) -> Tensor:
    if suite.read is None:
        raise ValueError(f"suite: got '{suite.name}', which reads no captions, expected a pocket suite")
    return suite.read(captions)


def lines(suite: Suite, other: Suite, n: int = N_TEST) -> Iterator[dict]:
    """Four lines of test accuracy on digits: to the stranger and to a copy, each as it is and matched."""
    ours = dict(suite.experts["digits"])
    axes = vit_axes(ours, suite.attention_heads)
    ends = {
        "stranger": turned(dict(other.experts["digits"]), embedding(other, suite)),
        "copy": permute(ours, shuffled(ours, axes, seeded(0)), axes),
    }
    for name, end in ends.items():
        matched = permute(end, weight_matching(ours, end, axes, generator=seeded(1)), axes)
        for way, theta in (("as it is", end), ("matched", matched)):
            row = {"to": name, "way": way, "cosine": similarity(ours, theta)}
            row["line"] = [accuracy(suite, between(ours, theta, t), "digits", n=n) for t in STEPS]
            if way == "matched":
                row["zipped"] = accuracy(suite, zipped_mlps(suite, ours, theta, axes), "digits", n=n)
            yield row | {"barrier": barrier(row["line"])}


def zipped_mlps(suite: Suite, theta_a: Params, theta_b: Params, axes: Axes) -> dict[str, Tensor]:
    """The mean of two towers, with the hidden units of each MLP block zipped by what they say to training digits."""
    return zip_mlps(theta_a, theta_b, hidden(suite, theta_a), hidden(suite, theta_b), axes)


def hidden(suite: Suite, theta: Params, task: str = "digits", n: int = 64) -> dict[str, Tensor]:
    """ "blocks.i.mlp" -> (tokens, 640): the hidden units after the activation."""
    found = {}
    for key, answer in activations(suite, theta, task, n).items():
        if key.endswith("mlp.c_fc.weight"):
            bias = theta[key.removesuffix("weight") + "bias"]
            found[f"blocks.{key.split('.')[2]}.mlp"] = F.gelu(answer + bias)
    return found


# ---------------------------------------------------------------------------- task vectors for another base


def move(theta_0: Params, theta_new: Params, axes: Axes, Q: Tensor, way: str) -> Callable[[Params], Params]:
    """What one of `WAYS` makes of a task vector."""
    old = turned(theta_0, Q)
    makers: dict[str, Callable[[], Maps]] = {
        "embedding turned": lambda: as_matrices(identity(theta_0, axes)),
        "units at random": lambda: as_matrices(shuffled(theta_0, axes, seeded(2))),
        "units matched": lambda: rebasin(old, theta_new, axes, generator=seeded(1)),
        "heads rotated": lambda: rebasin(old, theta_new, axes, generator=seeded(1), inside="orthogonal"),
    }
    if way == "as it is":
        return lambda tau: tau
    maps = makers[way]()
    return lambda tau: carry(turned(tau, Q), maps, axes)


def carried(new: Suite, tau: Params, task: str, n_val: int = N_VAL, n: int = N_TEST) -> dict[str, float]:
    """theta_new + lam tau on its task: the scale that validation favours, and the test accuracy there."""
    curve = {lam: accuracy(new, add(new.theta_0, tau, lam), task, "val", n_val) for lam in LAMS}
    lam = plateau(curve)
    return {"lam": lam, "accuracy": accuracy(new, add(new.theta_0, tau, lam), task, n=n)}


def transfer(old: Suite, new: Suite, tasks: list[str], only: tuple[str, ...] = WAYS) -> Iterator[dict]:
    """Every expert of `old` to the base of `new`, in each way: test accuracy, and the share of the gain that is kept.

    kept = (accuracy on the new base - the new base's) / (the expert's - the old base's)
    """
    theta_0, axes = old.theta_0, vit_axes(old.theta_0, old.attention_heads)
    Q = embedding(old, new)
    moves = {way: move(theta_0, new.theta_0, axes, Q, way) for way in only}
    for task in tasks:
        (tau,) = task_vectors(theta_0, [dict(old.experts[task])])
        start, end = (accuracy(old, theta, task, n=N_TEST) for theta in (theta_0, old.experts[task]))
        without = accuracy(new, new.theta_0, task, n=N_TEST)
        for way in only:
            got = carried(new, moves[way](tau), task)
            kept = 100 * (got["accuracy"] - without) / (end - start)
            row = {"from": old.name, "to": new.name, "task": task, "way": way, "old_base": start, "expert": end}
            yield row | {"new_base": without, "kept": kept} | got


def copy_of(suite: Suite) -> Suite:
    """A release that is the old base with its units in another order."""
    axes = vit_axes(suite.theta_0, suite.attention_heads)
    return released(suite, "a permuted copy", permute(suite.theta_0, shuffled(suite.theta_0, axes, seeded(3)), axes))


def grown(suite: Suite, without: str) -> Suite:
    """A release that grew out of the old base: the mean of its experts, but for one."""
    taus = task_vectors(suite.theta_0, [dict(suite.experts[task]) for task in suite.id_tasks if task != without])
    return released(suite, "a continuation", add(suite.theta_0, average(taus)))


def released(suite: Suite, name: str, theta: Params) -> Suite:
    """The suite with another base, its heads and captions as they were."""
    return replace(suite, name=name, theta_0=theta)


# ---------------------------------------------------------------------------- why


def units(suite: Suite, name: str, theta_b: Params, tasks: list[str], n: int = 64) -> dict:
    """How alike the two towers' hidden units are, block by block, in our embedding and after matching by weights.

    cosine: of all weights as they are, in a random order, and matched; blocks: `agreement` on images of `tasks`.
    """
    theta_a = suite.theta_0
    axes = vit_axes(theta_a, suite.attention_heads)
    P = weight_matching(theta_a, theta_b, axes, generator=seeded(1))
    m = permute(theta_b, P, axes)
    row: dict = {"to": name, "cosine": similarity(theta_a, theta_b), "cosine_matched": similarity(theta_a, m)}
    row["cosine_random"] = similarity(theta_a, permute(theta_b, shuffled(theta_a, axes, seeded(2)), axes))
    both = [[hidden(suite, theta, task, n) for task in tasks] for theta in (theta_a, m)]
    row["blocks"] = [
        agreement(*(torch.cat([features[key] for features in one]) for one in both), tokens=17) for key in both[0][0]
    ]
    return row


def mlp_units(suite: Suite, width: int = 512) -> dict:
    """The same of two MLPs, whose mean works: a row for comparison."""
    x, y = digits(suite, "train", 3000)
    a, b = (train_mlp(x, y, width, seed) for seed in (0, 1))
    axes = chain_axes(a)
    m = permute(b, weight_matching(a, b, axes, generator=seeded(0)), axes)
    row: dict = {"to": f"(two MLPs of width {width})", "cosine": similarity(a, b), "cosine_matched": similarity(a, m)}
    row["cosine_random"] = similarity(a, permute(b, shuffled(a, axes, seeded(2)), axes))
    f_a, f_m = chain_features(a, x), chain_features(m, x)
    return row | {"blocks": [agreement(f_a[key], f_m[key]) for key in ("hidden.1", "hidden.2")]}


def agreement(x: Tensor, y: Tensor, tokens: int = 1) -> dict[str, float]:
    """Two networks' features (rows, n) of the same inputs, `tokens` rows each:

    matched     mean correlation of unit i with unit i
    best        mean of each unit's highest correlation with any: several may choose the same
    chance      the same where the rows of y are those of other inputs: what so many chances make of nothing
    linear      share of x's variance that a linear map of y explains (R^2, on every second input, fitted on the others)
    """
    x, y = x.double() - x.double().mean(dim=0), y.double() - y.double().mean(dim=0)
    u, v = F.normalize(x, dim=0), F.normalize(y, dim=0)
    C = u.T @ v
    fit = torch.arange(len(x)) // tokens % 2 == 0
    penalty = 1e-3 * y[fit].square().mean() * fit.sum() * torch.eye(y.shape[1], dtype=torch.float64)
    W = torch.linalg.solve(y[fit].T @ y[fit] + penalty, y[fit].T @ x[fit])
    left = (x[~fit] - y[~fit] @ W).square().sum() / x[~fit].square().sum()
    return {
        "matched": C.diagonal().mean().item(),
        "best": C.amax(dim=1).mean().item(),
        "chance": (u.T @ v.roll(len(v) // 2 // tokens * tokens, dims=0)).amax(dim=1).mean().item(),
        "linear": 1 - left.item(),
    }


# ---------------------------------------------------------------------------- the record


def points(suite: Suite, record: Mapping[str, list]) -> Iterator[tuple[str, list[dict]]]:
    """(part, rows) of everything that the record has not got yet, part by part."""
    tasks = suite.id_tasks
    load = cache(load_pocket_base)

    def release() -> Iterator[dict]:
        yield from transfer(suite, load("second"), tasks)
        yield from transfer(suite, copy_of(suite), tasks, ("as it is", "units matched"))
        for task in tasks:
            yield from transfer(suite, grown(suite, task), [task], ("as it is", "units matched"))

    def alike() -> Iterator[dict]:
        yield mlp_units(suite)
        yield units(suite, "copy", copy_of(suite).theta_0, tasks)
        for base in map(load, OTHER_BASES):
            yield units(suite, base.name, turned(base.theta_0, embedding(base, suite)), tasks)

    parts: dict[str, Callable[[], Iterator[dict]]] = {
        "widths": lambda: (two_mlps(suite, width, seed) for width in WIDTHS for seed in range(SEEDS)),
        "lines": lambda: lines(suite, load("other")),
        "stranger": lambda: transfer(load("other"), suite, ["digits"]),
        "units": alike,
        "release": release,
    }
    for part, rows in parts.items():
        if part not in record:
            yield part, list(rows())


def tables(record: Mapping) -> dict[str, str]:
    """Markdown: name of each part of a record -> its table."""
    width_heads = ["width", "each alone", "mean", "mean, matched", "zipped", "cosine of the weights, matched"]
    width_rows = []
    for width in dict.fromkeys(row["width"] for row in record["widths"]):
        those = [row for row in record["widths"] if row["width"] == width]
        cells = [spread([row[key] for row in those]) for key in ("ends", "mean", "matched", "zipped")]
        width_rows.append([str(width), *cells, f"{mean(row['cosine_matched'] for row in those):.2f}"])

    line_heads = ["from ours to", "way", "cosine of the weights", "half way", "the other end", "barrier", "MLPs zipped"]
    line_rows = []
    for row in record["lines"]:
        half, end = row["line"][len(row["line"]) // 2], row["line"][-1]
        cells = [f"{x:.1f}" for x in (half, end, row["barrier"])]
        line_rows.append(
            [row["to"], row["way"], f"{row['cosine']:.2f}", *cells, f"{row['zipped']:.1f}" if "zipped" in row else ""]
        )

    moved_heads = ["new base", "way", "alone", "with the task vector", "gain kept, %"]
    moved_rows = {"stranger": [], "release": []}
    for part, rows in moved_rows.items():
        for to, way in dict.fromkeys((row["to"], row["way"]) for row in record[part]):
            those = [row for row in record[part] if (row["to"], row["way"]) == (to, way)]
            base, got = (mean(row[key] for row in those) for key in ("new_base", "accuracy"))
            rows.append([NAMES.get(to, to), way, f"{base:.1f}", f"{got:.1f}", spread([row["kept"] for row in those])])

    unit_heads = ["between ours and", "cosine", "at random", "matched"]
    unit_heads += ["unit and match", "unit and best", "best by chance", "linear map, R^2"]
    unit_rows = []
    for row in record["units"]:
        cosines = [f"{row[key]:.2f}" for key in ("cosine", "cosine_random", "cosine_matched")]
        blocks = [
            " ".join(f"{block[key]:.2f}" for block in row["blocks"]) for key in ("matched", "best", "chance", "linear")
        ]
        unit_rows.append([NAMES.get(row["to"], row["to"]), *cosines, *blocks])
    return {
        "widths": markdown(width_heads, width_rows),
        "lines": markdown(line_heads, line_rows),
        "stranger": markdown(moved_heads, moved_rows["stranger"]),
        "release": markdown(moved_heads, moved_rows["release"]),
        "units": markdown(unit_heads, unit_rows),
    }


def spread(values: list[float]) -> str:
    """Mean (lowest to highest); of one value only that."""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def markdown(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


recorded = partial(record_of, "alignment")
"""What data_scripts/measure_alignment.py has written."""
