"""What does an image buy? Methods that look at data, with 1, 4, 16, ... images of each task, beside those without.

    python data_scripts/measure_images.py          writes data.json beside this file, point by point

Every setting is the library's default, the same at each number of images; nothing is chosen on the test images, and
only rows that say so adapt to them. Notebook 10 and docs/data.md read the record.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..adaptation.adamerging import adamerging, entropy
from ..adaptation.atlas import atlas
from ..adaptation.coefficients import weigh
from ..adaptation.df_merge import df_merge
from ..adaptation.evolve import evolve
from ..adaptation.surgery import surgery
from ..evaluate import id_average, scores
from ..merges.acm import acm
from ..merges.average import average
from ..merges.fisher import fisher
from ..merges.iso import iso_c
from ..merges.regmean import regmean
from ..merges.regmean_pp import regmean_pp
from ..merges.task_arithmetic import task_arithmetic
from ..merges.tsv_m import tsv_m
from ..methods import grams_above, information, of_experts
from ..params import Params, add
from ..statistics import embed, gradients, input_grams, labelled, logits, on_device
from ..statistics import fisher as fisher_information
from ..suites.suite import Suite
from ..transforms.cat import cat as cat_merging
from ..transforms.lwptv import lwptv
from ..transforms.sta import sta
from .scale import recorded as record_of

FILE = Path(__file__).with_suffix(".json")
TEST_IMAGES = 100
"""Of each task, for every point."""

Repairs = Mapping[str, Callable[[Tensor], Tensor]]
Point = tuple[Params, Repairs]
"""A merged model, and what is kept beside it for each task (Surgery)."""


@dataclass(frozen=True)
class Curve:
    """One line of the figure: `point(suite, taus, n)` -> the merged model, from n images of each task."""

    point: Callable[[Suite, Sequence[Params], int], Point]
    budgets: tuple[int, ...]
    needs: Literal["none", "unlabelled", "labelled"] = "unlabelled"
    task_id: bool = False
    transductive: bool = False


def merged(merge: Callable[..., Params], lam: float = 1.0) -> Callable[..., Point]:
    """A method that gives one merged update: theta_0 + lam tau_m, nothing beside it."""
    return lambda suite, taus, n: (add(suite.theta_0, merge(suite, taus, n), lam), {})


def adapted(suite: Suite, taus: Sequence[Params], n: int, **knobs) -> Params:
    return weigh(taus, adamerging(suite, taus, n=n, **knobs))


def loss_gradients(suite: Suite, n: int) -> list[Params]:
    """Of each task's loss at the base: what STA looks at."""
    return [gradients(suite, suite.theta_0, task, n) for task in suite.id_tasks]


def operated(merge: Callable[..., Params], lam: float = 1.0, **knobs) -> Callable[..., Point]:
    """A merge, and Surgery after it with the same images."""

    def point(suite: Suite, taus: Sequence[Params], n: int) -> Point:
        theta = add(suite.theta_0, merge(suite, taus, n), lam)
        kept = surgery(suite, theta, n=n, **knobs)
        return theta, {task: bottleneck.repair for task, bottleneck in kept.items()}

    return point


def fine_tune(
    suite: Suite,
    theta: Params,
    *,
    n: int = 64,
    split: str = "train",
    steps: int = 60,
    lr: float = 3e-4,
    batch: int = 16,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Train the whole image tower on the labels of all ID tasks at once; the heads stay as they are.

        min over theta of   sum_t cross-entropy of the images of task t           by AdamW

    What anybody would do who has no idea of merging: the control of every method that asks for labels. aTLAS has the
    same loss, images, steps and batches, and N numbers a tensor in place of all of them.
    Raises ValueError as `statistics.labelled`, for steps < 0, lr <= 0 and batch < 1. 0 steps return theta as it came.
    """
    if steps < 0 or batch < 1 or not lr > 0:
        raise ValueError(f"steps, batch, lr: got {steps}, {batch}, {lr}, expected >= 0, >= 1 and > 0")
    data = {task: labelled(suite, task, n, split) for task in suite.id_tasks}
    theta = {
        key: value.clone().requires_grad_() for key, value in on_device(suite, theta).items()
    }  # Adam writes in place
    adam = torch.optim.AdamW(list(theta.values()), lr=lr, weight_decay=0.0)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        picks = {
            task: torch.randperm(len(y), generator=generator)[:batch].to(y.device) for task, (_, y) in data.items()
        }
        images = [data[task][0][pick] for task, pick in picks.items()]
        z = embed(suite, theta, torch.cat(images)).split([len(x) for x in images])
        losses = [F.cross_entropy(logits(suite, z_t, t), data[t][1][picks[t]]) for z_t, t in zip(z, picks, strict=True)]
        adam.zero_grad()
        torch.stack(losses).sum().backward()
        adam.step()
    return {key: value.detach() for key, value in theta.items()}


TEST = {"split": "test", "transductive": True}
FEW = (1, 4, 16, 64)

CURVES: dict[str, Curve] = {
    "Average": Curve(merged(lambda suite, taus, n: average(taus)), (0,), "none"),
    "Task Arithmetic": Curve(merged(lambda suite, taus, n: task_arithmetic(taus), 0.3), (0,), "none"),
    "TSV-M": Curve(merged(lambda suite, taus, n: tsv_m(taus)), (0,), "none"),
    "Iso-C": Curve(merged(lambda suite, taus, n: iso_c(taus), 1.3), (0,), "none"),
    "RegMean": Curve(merged(lambda suite, taus, n: regmean(taus, of_experts(suite, input_grams, n=n))), (*FEW, 256)),
    "AdaMerging": Curve(merged(adapted), FEW),
    "TA + Surgery": Curve(operated(lambda suite, taus, n: task_arithmetic(taus), 0.3), (*FEW, 256), task_id=True),
    "fine-tuned average": Curve(
        lambda suite, taus, n: (fine_tune(suite, add(suite.theta_0, average(taus)), n=n), {}), (*FEW, 256), "labelled"
    ),
    "aTLAS": Curve(merged(lambda suite, taus, n: weigh(taus, atlas(suite, taus, n=n))), (16, 64), "labelled"),
    "Fisher": Curve(
        merged(lambda suite, taus, n: fisher(taus, of_experts(suite, fisher_information, n=n))), (1, 4, 16)
    ),
    "AdaMerging + Surgery": Curve(operated(adapted), (64,), task_id=True),
    "AdaMerging (test images)": Curve(merged(partial(adapted, **TEST)), (64,), transductive=True),
    "LwPTV + AdaMerging": Curve(merged(lambda suite, taus, n: adapted(suite, lwptv(taus), n)), (64,)),
    "fine-tuned base": Curve(lambda suite, taus, n: (fine_tune(suite, suite.theta_0, n=n), {}), (64,), "labelled"),
    "Evolution": Curve(merged(lambda suite, taus, n: evolve(suite, taus, trials=40, n_val=n)[0]), (64,), "labelled"),
    "CAT Merging": Curve(
        merged(lambda suite, taus, n: task_arithmetic(cat_merging(taus, of_experts(suite, input_grams, n=n))), 0.3),
        (1, 4, 16),
    ),
    "ACM": Curve(merged(lambda suite, taus, n: acm(taus, information(suite, n)), 0.3), (4, 16)),
    "RegMean++": Curve(merged(lambda suite, taus, n: regmean_pp(taus, grams_above(suite, n))), (4, 64)),
    "STA": Curve(
        merged(lambda suite, taus, n: task_arithmetic(sta(taus, loss_gradients(suite, n))), 0.3), (4, 64), "labelled"
    ),
    "DF-Merge": Curve(merged(lambda suite, taus, n: df_merge(suite, taus, n_val=n)[0]), (16,), "labelled"),
    "TSV-M + Surgery": Curve(operated(lambda suite, taus, n: tsv_m(taus)), (64,), task_id=True),
    "fine-tuned TSV-M": Curve(
        lambda suite, taus, n: (fine_tune(suite, add(suite.theta_0, tsv_m(taus)), n=n), {}), (16, 64), "labelled"
    ),
}
"""In the order of measuring: what the figure cannot do without comes first."""


def measure(suite: Suite, taus: Sequence[Params], curve: Curve, n: int, test_images: int = TEST_IMAGES) -> dict:
    """One point: test accuracy of every task, and the seconds of adapting and merging."""
    start = time.perf_counter()
    theta, repair = curve.point(suite, taus, n)
    seconds = time.perf_counter() - start
    got = scores(suite, theta, n=test_images, repair=repair)
    return {
        "images": n,
        "needs": curve.needs,
        "task_id": curve.task_id,
        "transductive": curve.transductive,
        "id_avg": mean(got[task] for task in suite.id_tasks),
        "ood_avg": mean(got[task] for task in suite.ood_tasks),
        "seconds": round(seconds, 1),
        "per_task": got,
    }


RATES = (1e-4, 3e-4, 1e-3)
"""Learning rates of fine-tuning, tried on validation images; the default is as good as the best up to a point."""
STEPS = (0, 20, 80)
"""AdaMerging's steps after which entropy and accuracy are looked at, on validation images."""


def points(suite: Suite, taus: Sequence[Params], record: Mapping) -> Iterator[tuple[str, dict]]:
    """("sure", ...), ("rates", ...) and ("rows", ...): all that the record has not got yet."""
    for steps in STEPS[len(record["sure"]) :]:
        theta = add(suite.theta_0, adapted(suite, taus, 64, steps=steps))
        yield "sure", {"steps": steps, "per_task": sure(suite, theta, TEST_IMAGES)}
    start = add(suite.theta_0, average(taus))
    for lr in RATES:
        if str(lr) not in record["rates"]:
            tuned = fine_tune(suite, start, n=64, lr=lr)
            yield "rates", {str(lr): id_average(suite, tuned, "val", TEST_IMAGES)}
    done = [(row["method"], row["images"]) for row in record["rows"]]
    for name, curve in CURVES.items():
        for n in curve.budgets:
            if (name, n) not in done:
                yield "rows", {"method": name} | measure(suite, taus, curve, n)


def sure(suite: Suite, theta: Params, n: int, split: str = "val") -> dict[str, tuple[float, float]]:
    """task -> (mean entropy of the answers in nats, accuracy in percent), on the first n images of a split."""
    found = {}
    for task, z, y in suite.features(theta, suite.id_tasks, split, n):
        answers = suite.logit_scale * z @ suite.heads[task].T
        found[task] = (entropy(answers).item(), 100 * (answers.argmax(dim=1) == y).double().mean().item())
    return found


recorded = partial(record_of, "data")
"""What data_scripts/measure_images.py has written: {"suite", "versions", "test_images", "rows": [...], ...}."""


def table(record: Mapping) -> str:
    """Markdown: one row a method, what it was given, ID average at each number of images, OOD average at the most."""
    rows, counts = record["rows"], sorted({row["images"] for row in record["rows"]} - {0})
    heads = ["method", "given", "no image", *(f"n = {n}" for n in counts), "OOD", "sec."]
    out = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in dict.fromkeys(row["method"] for row in rows):
        own = {row["images"]: row for row in rows if row["method"] == name}
        last = own[max(own)]
        given = [last["needs"], *(["task id"] if last["task_id"] else [])]
        given += ["the test images"] if last["transductive"] else []
        cells = [f"{own[n]['id_avg']:.1f}" if n in own else "" for n in (0, *counts)]
        ends = [f"{last['ood_avg']:.1f}", f"{last['seconds']:.0f}"]
        out.append(f"| {' | '.join([name, ', '.join(given), *cells, *ends])} |")
    return "\n".join([*out, ""])
