"""Rank-wise SA-Merging taken apart: what is tried. `ablation.run` runs it.

    samerge-edu ablate sa-lora --suite pocket-lora

Is the score better than lots, or than the plain size of a component? How many ranks, in how many rounds? And what if
the same experts come in another gauge (notebook 07)?
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ..lora import Adapter, LoRA, dense
from ..masks import topk_mask
from ..merges.peft_lora import cat, linear, svd
from ..merges.task_arithmetic import task_arithmetic
from ..merges.ties import ties
from ..merges.tsv_m import tsv_m
from ..methods import adapters, knots_ties
from ..params import Params, pipe, working
from ..saliency import clip_flow
from ..suites.suite import Suite
from ..transforms.sa_lora import sa_lora


def lora_variants(suite: Suite, draws: int = 10) -> dict[str, Callable[[Sequence[Params]], Params]]:
    """Every row of the study; "TA", the plain sum of all ranks, is what all are compared with.

    `few` ranks are what T = 10 rounds of p = 0.2 leave: 2 of 16, 1 of 4. Variants with other T reach the same count.
    """
    r = len(next(iter(adapters(suite)[0].values())).A)
    few = math.ceil(0.8**10 * r)
    flow = partial(clip_flow, heads=suite.attention_heads)

    def merged(*steps: Callable) -> Callable[[Sequence[Params]], Params]:
        return pipe(partial(recognised, suite), *steps, partial(dense, like=suite.theta_0))

    def sa(keep: int = few, T: int = 10) -> Callable:
        return partial(sa_lora, theta_0=suite.theta_0, flow=flow, T=T, p=1 - (keep / r) ** (1 / T))

    variants = {
        "TA": task_arithmetic,
        "TIES": ties,
        "KnOTS + TIES": knots_ties(suite),
        "TSV-M": tsv_m,
        "LoRA svd": merged(svd),
        "LoRA linear": merged(linear),
    }
    for keep in sorted({r // 2, r // 4, few}, reverse=True):
        variants[f"SA, {keep} of {r}"] = merged(sa(keep), cat)
        variants[f"size, {keep} of {r}"] = merged(partial(largest, keep=keep), cat)
    for T in (1, 5, 20):
        variants[f"SA, {few} of {r}, T = {T}"] = merged(sa(T=T), cat)
    for name, gauge in {"singular": singular, **{f"rotated {n}": partial(rotated, seed=n) for n in range(3)}}.items():
        variants[f"SA, {few} of {r}, {name} gauge"] = merged(gauge, sa(), cat)
    variants[f"size, {few} of {r}, singular gauge"] = merged(singular, partial(largest, keep=few), cat)
    for keep in sorted({r // 4, few}, reverse=True):
        for seed in range(draws):
            variants[f"random {keep} of {r}, {seed}"] = merged(partial(at_random, keep=keep, seed=seed), cat)
    return variants


def recognised(suite: Suite, taus: Sequence[Params]) -> list[Adapter]:
    """The adapters behind some of the suite's task vectors: an expert is known by its update of one layer."""
    key = next(iter(adapters(suite)[0]))
    updates = torch.stack([dense({key: adapter[key]})[key] for adapter in adapters(suite)])
    return [adapters(suite)[int((updates - tau[key]).norm(dim=(1, 2)).argmin())] for tau in taus]


# ---------------------------------------------------------------------------- other ranks, other gauges


def changed(experts: Sequence[Adapter], change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> list[Adapter]:
    """The same adapters with change(A, B) in place of each layer's factors."""
    return [{k: LoRA(*change(working(A), working(B)), s) for k, (A, B, s) in expert.items()} for expert in experts]


def kept(A: Tensor, B: Tensor, score: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """The `keep` ranks of the highest score (r,), zeros in place of the others."""
    m = topk_mask(score, keep)
    return m[:, None] * A, B * m


def largest(experts: Sequence[Adapter], keep: int) -> list[Adapter]:
    """The components of largest |b_k| |a_k|: neither the flow nor the other experts are asked."""
    return changed(experts, lambda A, B: kept(A, B, A.norm(dim=1) * B.norm(dim=0), keep))


def at_random(experts: Sequence[Adapter], keep: int, seed: int) -> list[Adapter]:
    """Ranks drawn by lot, other ones in every layer of every expert."""
    generator = torch.Generator().manual_seed(seed)
    return changed(experts, lambda A, B: kept(A, B, torch.rand(len(A), generator=generator).to(A.device), keep))


def singular(experts: Sequence[Adapter]) -> list[Adapter]:
    """The gauge in which components are singular ones: orthogonal, sizes split evenly, the largest first."""

    def turn(A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
        (Q_B, R_B), (Q_A, R_A) = torch.linalg.qr(B), torch.linalg.qr(A.T)
        U, S, Vt = torch.linalg.svd(R_B @ R_A.T)
        return S.sqrt()[:, None] * (Vt @ Q_A.T), (Q_B @ U) * S.sqrt()

    return changed(experts, turn)


def rotated(experts: Sequence[Adapter], seed: int) -> list[Adapter]:
    """A gauge of no meaning: the ranks of each layer mixed by a random rotation."""
    generator = torch.Generator().manual_seed(seed)

    def turn(A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
        Q = torch.linalg.qr(torch.randn(len(A), len(A), generator=generator).to(A)).Q
        return Q @ A, B @ Q.T

    return changed(experts, turn)
