"""LiNeS, layer-increasing scaling (Wang et al., ICLR 2025, arXiv:2410.17146)."""

from collections.abc import Callable, Sequence

from torch import Tensor

from ..params import Params, block_index, check_finite, check_same_structure, total, working

AFTER_THE_BLOCKS = ("ln_post", "proj", "post_layernorm", "visual_projection", "ln_final", "text_projection")
"""Parts of a name that stand for a layer after the last block; open_clip's names, then Hugging Face's."""


def lines(
    taus: Sequence[Params],
    merge: Callable[[Sequence[Params]], Params],
    beta: float = 0.5,
    outside: str = "alpha",
) -> dict[str, Tensor]:
    """Merge, then scale the update of each block by its depth: little in front, more towards the output.

        tau_m = merge(taus)
        alpha = (|| sum_n tau_n ||_1 / || tau_m ||_1) / N                   1/N for Task Arithmetic
        tau_m of block l  *=  alpha + beta * l / (L - 1)                    l = 0 .. L - 1

    The scale is part of the method, so lam = 1, and any merge can be given, after any transform:
    `pipe(lwptv, partial(lines, merge=ties))`.

    Args:
        taus: N >= 1 task vectors of models whose blocks have names that `params.block_index` knows.
        merge: taus -> tau_m.
        beta: how much more the last block gets than the first, >= 0. The authors tune it on validation data, 0.1, 0.2
            .. 1.0; 0.5, the middle, is this package's choice and not the paper's.
        outside: what tensors outside the blocks are scaled by. "alpha": all of them by alpha, as in the authors'
            code, where even the last layers, `ln_post` and `proj`, count as shallow; "position": those after
            the blocks by alpha + beta.
    Returns tau_m, scaled.
    Raises ValueError for a negative beta, an unknown outside, no block, structures that differ, NaN or infinity, and
    what merge raises.

    >>> import torch
    >>> from samerge_edu.merges.task_arithmetic import task_arithmetic
    >>> tau = {"conv1": 1.0, "resblocks.0.w": 1.0, "resblocks.1.w": 1.0, "proj": 1.0}
    >>> tau_m = lines([{k: torch.tensor(v) for k, v in tau.items()}] * 2, merge=task_arithmetic)
    >>> {k: v.item() for k, v in tau_m.items()}
    {'conv1': 1.0, 'resblocks.0.w': 1.0, 'resblocks.1.w': 2.0, 'proj': 1.0}
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    tau_m = merge(taus)
    size_of_sum = sum(total(taus, key).abs().sum() for key in taus[0])
    size = sum(working(tau_m[key]).abs().sum() for key in tau_m)
    alpha = float(size_of_sum / size / len(taus)) if size > 0 else 0.0
    return scale_by_depth(tau_m, alpha, beta, outside)


def scale_by_depth(tau: Params, alpha: float, beta: float, outside: str = "alpha") -> dict[str, Tensor]:
    """Scale the update of block l by alpha + beta * l / (L - 1); a single block by alpha. See `lines`.

    On one task vector, alpha < 1 and beta = 1 - alpha keep what fine-tuning learned and undo much of
    its forgetting.
    """
    if not beta >= 0:
        raise ValueError(f"beta: got {beta}, expected a number >= 0")
    if outside not in ("alpha", "position"):
        raise ValueError(f"outside: got '{outside}', expected 'alpha' or 'position'")
    block = {key: block_index(key) for key in tau}
    blocks = [b for b in block.values() if b is not None]
    if not blocks:
        first = next(iter(tau), None)
        raise ValueError(f"got no block, expected names with 'resblocks.l.' or 'layers.l.'; first key is '{first}'")
    place = {b: place for place, b in enumerate(sorted(set(blocks)))}  # 0 .. L - 1; staged models count 100, 101, 200

    def depth(key: str) -> float:  # 0 at the input, 1 at the output
        if (b := block[key]) is not None:
            return place[b] / max(len(place) - 1, 1)
        return float(outside == "position" and any(part in AFTER_THE_BLOCKS for part in key.split(".")))

    return {key: (working(tau[key]) * (alpha + beta * depth(key))).to(tau[key].dtype) for key in tau}
