"""FR-Merging's high-pass filter (Zheng and Wang, FREE-Merging, ICCV 2025, arXiv:2411.16815), from the authors' code."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from ..matrices import BLOCK_WEIGHTS, block_weight
from ..params import Params, check_finite, check_same_structure, stacked, structure

Metric = Literal["indices", "frequency"]


def high_pass(shape: tuple[int, int], radius: float = 0.7, metric: Metric = "indices") -> Bool[Tensor, "H W"]:
    """(H, W), True on the coefficients of `torch.fft.fft2` that the filter keeps.

        keep (y, x) if sqrt(dy^2 + dx^2) <= radius       dy, dx: distance from the highest frequency, which is
                                                         the middle of the array, as fft2 puts 0 in the corners
    With metric "frequency" the distance is a share of each side, 0 .. 1/2, so that every shape loses the same
    share. With "indices", the authors' code, both are measured in units of the shorter side: the longer
    side is then cut far earlier. `high_pass(shape, ...).float().mean()` is the share kept:

    >>> [round(high_pass((H, 768)).float().mean().item(), 4) for H in (768, 2304, 3072)]
    [0.9998, 0.4232, 0.3174]
    >>> [round(high_pass((H, 768), metric="frequency").float().mean().item(), 4) for H in (768, 2304, 3072)]
    [0.9998, 0.9998, 0.9998]
    """
    H, W = shape
    dy, dx = 0.5 - torch.fft.fftfreq(H).abs(), 0.5 - torch.fft.fftfreq(W).abs()
    if metric == "indices":
        dy, dx = dy * H / min(H, W), dx * W / min(H, W)
    return dy[:, None] ** 2 + dx**2 <= radius**2


def free_fr(
    taus: Sequence[Params],
    *,
    radius: float = 0.7,
    metric: Metric = "indices",
    align: bool = True,
    scope: Literal["blocks", "matrices"] = "blocks",
) -> list[dict[str, Tensor]]:
    """Remove the lowest spatial frequencies of each matrix of each task vector, then make the experts equally loud.

    For each matrix (out, in):
        tau_hat_n = inverse FFT( FFT(tau_n) * high_pass )                              (out, in)
        tau_hat_n = tau_hat_n * max_j mean|tau_hat_j| / mean|tau_hat_n|                `align`
    The paper finds the experts' conflict in the low frequencies. Whether rows and columns of a weight matrix,
    which may be permuted at will, have frequencies that mean something is a question worth asking.

    Args:
        taus: N >= 1 task vectors; may be lazy, one tensor of every expert is read at a time.
        radius: of the kept disc around the highest frequency, in (0, inf); 0.7 is the authors' setting. For a
            square matrix sqrt(1/2) = 0.7071 keeps everything.
        metric: see `high_pass`. At the authors' 0.7 in "indices", 0.02 % of the coefficients are removed from a
            768 x 768 matrix, 58 % from 2304 x 768 and 68 % from 3072 x 768: what FR does is an effect of shapes.
        align: multiply as above, per matrix; the authors' setting for 8 ViTs.
        scope: "blocks", the authors': the linear weights of the transformer blocks, all else is set to 0 (stays
            pre-trained). "matrices": every 2-D tensor, all else is passed through.
    Returns N filtered task vectors, in their dtype. Merged by their sum at lam = 0.7 they are FR-Merging.
    Raises ValueError for a radius that is not positive, an unknown metric or scope, scope "blocks" with several
    keys of which none ends as in `matrices.BLOCK_WEIGHTS`, an empty list, keys, shapes, dtypes that differ, NaN.
    Limits: a constant matrix is all low frequency and becomes 0; so does a 1 x 1 matrix.
    Differs from the authors' code, which (a) keeps frequencies at a distance of exactly min(H, W) // 10 twice,
    (b) centres the disc half an entry off on odd sides, (c) adds the first expert's biases, and those alone, after
    making them equally loud as well.

    >>> constant, checks = torch.ones(2, 2), torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    >>> free_fr([{"w": 3 * constant + checks}], scope="matrices")[0]["w"]  # the mean, frequency 0, is what goes
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    shapes = structure(taus[0])
    if not radius > 0:
        raise ValueError(f"radius: got {radius}, expected a positive number")
    if metric not in ("indices", "frequency"):
        raise ValueError(f"metric: got {metric!r}, expected 'indices' or 'frequency'")
    if scope not in ("blocks", "matrices"):
        raise ValueError(f"scope: got {scope!r}, expected 'blocks' or 'matrices'")
    # one tensor alone is one of a streamed model: it need not be a block's
    if scope == "blocks" and len(shapes) > 1 and not any(block_weight(key, taus[0][key]) for key in shapes):
        first = next(iter(shapes))
        raise ValueError(
            f"scope 'blocks': got keys like '{first}', expected some that end in {BLOCK_WEIGHTS[:4]} or another of "
            "matrices.BLOCK_WEIGHTS; scope='matrices' takes every matrix"
        )
    taus_hat = [{} for _ in taus]
    for key, (shape, dtype) in shapes.items():
        tau = stacked(taus, key)  # (N, *shape)
        if len(shape) == 2 and (scope == "matrices" or block_weight(key, tau[0])):
            keep = high_pass(shape, radius, metric).to(tau.device)
            tau = torch.fft.ifft2(torch.fft.fft2(tau) * keep).real
            if align:
                loudness = tau.abs().mean(dim=(1, 2), keepdim=True)  # (N, 1, 1)
                tau = tau * (loudness.max() / loudness).nan_to_num(posinf=0)
        elif scope == "blocks":
            tau = torch.zeros_like(tau)
        for tau_hat, one in zip(taus_hat, tau, strict=True):
            tau_hat[key] = one.to(dtype)
    return taus_hat
