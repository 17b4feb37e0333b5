"""One task, many runs: what are soups and selective averages of checkpoints worth, beside the best run alone?

    samerge-edu study soup

Two sets of LoRA runs come with the package: five with other settings (`pocket-soup`), and five late checkpoints of one
run whose rate stays high (`pocket-run`). What is chosen is chosen on validation images, five times on other ones: that
is the spread.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from ..evaluate import provenance
from ..merges.average import average
from ..merges.sewa import sewa
from ..merges.soups import greedy_soup
from ..params import Params, add, task_vectors
from ..plots import soups as soups_figure
from ..statistics import embed, logits
from ..suites.suite import Suite
from ..sweep import sweep
from .scale import in_order, loaded, spread

DRAWS = 5
"""Times that a choice is made, each on validation images of its own."""


def correct(suite: Suite, theta: Params, images: Tensor, labels: Tensor) -> float:
    """Accuracy in percent on these images; the task is that of all runs."""
    predicted = (suite.encode(theta, images) @ suite.heads[suite.id_tasks[0]].T).argmax(dim=1)
    return 100 * (predicted == labels).double().mean().item()


def batch_loss(suite: Suite, images: Tensor, labels: Tensor, batch: int, seed: int) -> Callable[[Params], Tensor]:
    """tau -> cross-entropy of theta_0 + tau on a new batch of training images at each call: SeWA's loss."""
    generator = torch.Generator().manual_seed(seed)

    def loss(tau: Params) -> Tensor:
        pick = torch.randint(len(images), (batch,), generator=generator)
        theta = {key: value + tau[key] for key, value in suite.theta_0.items()}
        return F.cross_entropy(logits(suite, embed(suite, theta, images[pick]), suite.id_tasks[0]), labels[pick])

    return loss


def rows(suite: Suite, n: int = 200, steps: int = 30) -> list[dict]:
    """Each run alone, then what is made of them; test accuracy, and for a choice one number for each draw."""
    task = suite.id_tasks[0]
    taus = task_vectors(suite.theta_0, list(suite.experts.values()))
    val, labels = suite.images(task, "val", DRAWS * n)
    chunks = list(zip(val.split(n), labels.split(n), strict=True))
    test, train = suite.images(task, "test"), suite.images(task, "train", 1000)

    def reached(tau: Params) -> float:
        return correct(suite, add(suite.theta_0, tau), *test)

    alone = [reached(tau) for tau in taus]
    found = [{"what": f"alone: {name}", "test": [value]} for name, value in zip(suite.id_tasks, alone, strict=True)]
    on_val = [[correct(suite, add(suite.theta_0, tau), *chunk) for tau in taus] for chunk in chunks]
    picked = [alone[max(range(len(taus)), key=values.__getitem__)] for values in on_val]
    greedy = [
        greedy_soup(taus, lambda tau, chunk=chunk: correct(suite, add(suite.theta_0, tau), *chunk)) for chunk in chunks
    ]
    learnt = [
        sewa(taus, batch_loss(suite, *train, 32, seed), k=3, steps=steps, generator=torch.Generator().manual_seed(seed))
        for seed in range(DRAWS)
    ]
    found += [
        {"what": "last", "test": [alone[-1]]},
        {"what": "best on validation", "test": picked},
        {"what": "average of all (uniform soup)", "test": [reached(average(taus))]},
        {"what": "greedy soup", "test": [reached(tau) for tau in greedy]},
        {"what": "SeWA, 3 of 5", "test": [reached(tau) for tau in learnt]},
    ]
    return [{"suite": suite.name, **row} for row in found]


def job(suite: str, n: int) -> list[dict]:
    """`rows` for another process."""
    return rows(loaded(suite), n)


def run(n: int = 200, n_jobs: int = 1, **where: Any) -> Iterator[dict]:
    """The record as it grows: {"val_images", "versions", "rows": [{"suite", "what", "test": [...]}, ...]}.

    `n`: validation images for each choice; `where`: the engine and the journal of the `sweep`, which has two jobs.
    """
    record: dict[str, Any] = {"val_images": n, "draws": DRAWS, "versions": provenance(), "rows": []}
    jobs = [{"suite": name, "n": n} for name in ("pocket-soup", "pocket-run")]
    for found in in_order(sweep(job, jobs, n_jobs, **where)):
        record["rows"] = found
        yield record


def by_suite(record: Mapping) -> dict[str, dict[str, Sequence[float]]]:
    """suite -> what -> test accuracies, one for each draw where something is chosen."""
    found: dict[str, dict[str, Sequence[float]]] = {}
    for row in record["rows"]:
        found.setdefault(row["suite"], {})[row["what"]] = row["test"]
    return found


def report(record: Mapping) -> str:
    """Markdown: test accuracy, mean (spread over the draws of validation images)."""
    out = []
    for suite, results in by_suite(record).items():
        out += [f"\n| {suite} | test |", "|---|---|"]
        out += [f"| {what} | {spread(values)} |" for what, values in results.items()]
    return "\n".join([*out, ""]).lstrip()


def figure(record: Mapping) -> tuple[Figure, str]:
    return soups_figure(
        {
            suite: {what: (mean(v), stdev(v) if len(v) > 1 else 0.0) for what, v in results.items()}
            for suite, results in by_suite(record).items()
        }
    )
