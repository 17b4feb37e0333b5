"""SA-Merging taken apart: what is tried. `ablation.run` runs it.

samerge-edu ablate sa-merging
"""

from collections.abc import Sequence
from functools import partial

import torch

from ..merges.task_arithmetic import task_arithmetic
from ..merges.ties import ties
from ..params import Params, pipe
from ..saliency import Score, clip_flow, flow_score, magnitude_score, random_score
from ..suites.suite import Suite
from ..transforms.sa_merging import sa_merging
from .ablation import Recipe

FINAL = 0.8**10
"""Density that T = 10 rounds of p = 0.2 leave: 0.107. Variants with other T reach the same one."""


def sa_variants(suite: Suite, random_masks: int = 10) -> dict[str, Recipe]:
    """SA-Merging and what is left when a part is changed: the paper's ablations, and those that its reading needs."""
    flow = partial(clip_flow, heads=suite.attention_heads)

    def sa(modulation: str = "literal", flow_at: str = "expert", score: Score | None = None, **knobs) -> Recipe:
        score = score or flow_score(suite.theta_0, flow, modulation=modulation, flow_at=flow_at)
        return pipe(partial(sa_merging, score=score, **knobs), task_arithmetic)

    def equal_density(T: int) -> Recipe:
        return sa(T=T, p=1 - FINAL ** (1 / T))

    variants = {
        "Task Arithmetic": task_arithmetic,
        "TIES": ties,
        "SA (literal score)": sa(),
        "score: agreement": sa("agreement"),
        "score: abs": sa("abs"),
        "no modulation": sa("none"),
        "magnitude, no modulation": sa(score=magnitude_score()),
        "magnitude, agreement": sa(score=magnitude_score("agreement")),
        "flow at the merged model": sa(flow_at="merged"),
        "one ranking over all tensors": sa(scope="global"),
        "1-D tensors: mean": sa(one_d="mean"),
        "1-D tensors: sum": sa(one_d="sum"),
        "1-D tensors: base": sa(one_d="base"),
        **{f"T = {T}, equal density": equal_density(T) for T in (1, 2, 5, 20)},
        **{f"p = {p}": sa(p=p) for p in (0.05, 0.1, 0.3)},
    }
    for seed in range(random_masks):
        variants[f"random mask {seed}"] = partial(by_lot, seed=seed)
    return variants


def by_lot(taus: Sequence[Params], seed: int) -> Params:
    """The plain sum of what a random mask leaves. The lots begin anew with every merge, whatever was merged before."""
    score = random_score(torch.Generator().manual_seed(seed))
    return task_arithmetic(sa_merging(taus, score=score, T=1, p=1 - FINAL))
