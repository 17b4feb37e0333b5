"""WUDI-Merging (Cheng et al., Whoever started the interference should end it, ICML 2025, arXiv:2503.08099)."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..least_squares import every_matrix, least_squares, stand_ins, warn_if_too_long
from ..matrices import BLOCK_WEIGHTS, block_weight
from ..params import Params, check_finite, check_same_structure, stacked, structure

Scope = Literal["blocks", "matrices"]


def wudi(taus: Sequence[Params], *, steps: int = 300, lr: float = 1e-5, scope: Scope = "blocks") -> dict[str, Tensor]:
    """Find the update that disturbs each expert least, where the rows of tau_n stand in for the expert's inputs.

    A linear layer's gradient is a sum of (error) x (input)^T, so the rows of tau_n (out, in) span
    approximately the inputs that expert n was trained on. For each matrix, Adam minimises
        L(tau_m) = sum_n ||(tau_m - tau_n) tau_n^T||_F^2 / ||tau_n||_F^2     from tau_m = tau_sum = sum_n tau_n
    which is quadratic in tau_m, so no automatic differentiation is needed:
        grad L = 2 sum_n (tau_m - tau_n) C_n                           C_n = tau_n^T tau_n / ||tau_n||_F^2, (in, in)
               = 2 (D + (tau_m - tau_sum) C)    C = sum_n C_n, D = sum_n (tau_sum - tau_n) C_n: once, not each step

    Args:
        taus: N >= 1 task vectors; may be lazy, one tensor of every expert is in memory at a time.
        steps, lr: of Adam; 300 and 1e-5 are the authors'. No entry moves further than about steps * lr = 0.003
            from the sum, whatever its size: `lr` has the unit of the weights. Experts whose entries differ
            from the base by that much or more (the pocket suite's do) are left half way, near the sum; there
            lr = 1e-4 arrives. `wudi_flow` has no such unit.
        scope: "blocks", the authors' code: the linear weights of the transformer blocks, all other tensors stay
            pre-trained (0 in tau_m). "matrices", FusionBench: every 2-D tensor, the others are the plain mean.
    Returns tau_m in the task vectors' dtype, computed in at least float32; theta_0 + tau_m, lam = 1.
    Raises ValueError for an empty list, for keys, shapes or dtypes that differ, for NaN or infinity, for
    steps < 0, lr <= 0, and for scope "blocks" when none of several tensors' names ends as in `matrices.BLOCK_WEIGHTS`.
    Limits: one expert returns as it came (on its scope). A task vector of zeros has no say. "matrices" takes the
    last dimension for the inputs, which is wrong for a matrix used as x @ W, such as open_clip's `visual.proj`.
    Differs from the authors' `coef.py`, which divides by the norm, not its square; the paper and FusionBench
    (which runs 400 steps) have the square. Both take the gradient by autograd: same iterates, more work.

    >>> a, b = {"w": torch.tensor([[2.0, 0.0]])}, {"w": torch.tensor([[1.0, 1.0]])}
    >>> wudi([a, b], lr=0.1, steps=1, scope="matrices")["w"]  # from [3, 1], one step of lr for each entry
    tensor([[2.9000, 0.9000]])
    """
    if steps < 0 or lr <= 0:
        raise ValueError(f"got steps={steps}, lr={lr}, expected steps >= 0 and lr > 0")

    def descend(key: str, tau: Float[Tensor, "N out in"]) -> Float[Tensor, "out in"]:
        tau_sum, C, D = _quadratic(tau)
        tau_m = torch.nn.Parameter(tau_sum.clone())
        adam = torch.optim.Adam([tau_m], lr=lr)
        for _ in range(steps):
            tau_m.grad = 2 * (D + (tau_m.detach() - tau_sum) @ C)
            adam.step()
        return tau_m.detach()

    return _each_matrix(taus, descend, scope)


def wudi_flow(taus: Sequence[Params], *, time: float = math.inf, scope: Scope = "blocks") -> dict[str, Tensor]:
    """WUDI without iterations: where gradient flow on the same objective stands after `time`.

    With C = Q diag(c) Q^T and D as in `wudi`, gradient descent in infinitely small steps,
        d tau_m / d time = -(D + (tau_m - tau_sum) C),     has reached
        tau_m = tau_sum - D Q diag( (1 - exp(-time c)) / c ) Q^T                        (out, in)
    time = 0 is task arithmetic, time = inf the exact optimum tau_sum - D C^+ (least squares). A direction is
    learned by about time 1 / c: early the strong ones, late the weak ones. Wei et al. (2026, arXiv:2606.07289)
    report that the optimum does worse than Adam stopped after some hundred steps, because the weak directions
    are mostly noise; they cut this same exponential filter to its leading directions (SWUDI). So the end of
    the flow is not what `wudi` computes. C has trace N whatever the size of the weights: `time` has no unit.

    Args: `taus`, `scope` as in `wudi`; `time` >= 0.
    Returns tau_m in the task vectors' dtype, solved in float64.
    Raises ValueError for a negative time, and as `wudi`.

    >>> a, b = {"w": torch.tensor([[2.0, 0.0]])}, {"w": torch.tensor([[1.0, 1.0]])}
    >>> wudi_flow([a, b], time=0, scope="matrices")["w"]
    tensor([[3., 1.]])
    >>> torch.allclose(wudi_flow([a, b], scope="matrices")["w"], torch.tensor([[2.0, 0.0]]), atol=1e-6)
    True
    """
    if not time >= 0:
        raise ValueError(f"time: got {time}, expected a number >= 0 (inf is the optimum)")

    def solve(key: str, tau: Float[Tensor, "N out in"]) -> Float[Tensor, "out in"]:
        tau_sum, C, D = _quadratic(tau.double())
        c, Q = torch.linalg.eigh(C)
        c = c.where(c > 1e-12 * c[-1:], 1.0)  # directions that no expert has: there D Q is 0
        tau_m = tau_sum + D @ Q * (torch.expm1(-time * c) / c) @ Q.mT
        warn_if_too_long(tau_m, tau.double().norm(dim=(1, 2)).max().item(), key, len(tau))
        return tau_m

    return _each_matrix(taus, solve, scope)


def wudi_optimum(taus: Sequence[Params], *, scope: Scope = "blocks") -> dict[str, Tensor]:
    """WUDI's optimum in closed form: least squares in which each expert has the same say.

    For each matrix (out, in):
        tau_m = (sum_n tau_n C_n) (sum_n C_n)^+          C_n = tau_n^T tau_n / ||tau_n||_F^2, (in, in)
    the end of `wudi_flow`, and ACTMat (arXiv:2604.01329) but for the division by ||tau_n||_F^2.

    Args: `taus`, `scope` as in `wudi`.
    Returns tau_m in the task vectors' dtype, solved in float64; theta_0 + tau_m, lam = 1.
    Raises ValueError as `wudi`. Warns where the optimum is no model (`least_squares.warn_if_too_long`): a ViT's
    `c_proj` with just four experts.

    >>> a, b = {"w": torch.tensor([[2.0, 0.0]])}, {"w": torch.tensor([[1.0, 1.0]])}
    >>> torch.allclose(wudi_optimum([a, b], scope="matrices")["w"], torch.tensor([[2.0, 0.0]]))
    True
    """

    def gram(tau: Float[Tensor, "out in"]) -> Float[Tensor, "in in"]:
        return tau.mT @ tau * tau.square().sum().reciprocal().nan_to_num(posinf=0)

    taus = _check_scope(taus, scope)
    is_matrix = every_matrix if scope == "matrices" else block_weight
    return least_squares(taus, stand_ins(taus, gram, is_matrix), rest="mean" if scope == "matrices" else "base")


def _quadratic(
    tau: Float[Tensor, "N out in"],
) -> tuple[Float[Tensor, "out in"], Float[Tensor, "in in"], Float[Tensor, "out in"]]:
    """tau_sum (out, in), C (in, in) and D (out, in) of the objective, from the stacked (N, out, in)."""
    tau_sum = tau.sum(dim=0)
    weight = tau.square().sum(dim=(1, 2)).reciprocal().nan_to_num(posinf=0)  # 1 / ||tau_n||_F^2, or 0
    rows = (weight.sqrt()[:, None, None] * tau).flatten(0, 1)
    D = sum(w * torch.linalg.multi_dot([tau_sum - t, t.mT, t]) for w, t in zip(weight, tau, strict=True))
    return tau_sum, rows.mT @ rows, D


def _each_matrix(taus: Sequence[Params], merge: Callable[[str, Tensor], Tensor], scope: Scope) -> dict[str, Tensor]:
    taus = _check_scope(taus, scope)
    check_finite(taus)
    tau_m = {}
    for key, (shape, dtype) in structure(taus[0]).items():
        tau = stacked(taus, key)  # (N, *shape)
        if len(shape) == 2 and (scope == "matrices" or block_weight(key, tau[0])):
            merged = merge(key, tau)
        else:
            merged = tau.mean(dim=0) if scope == "matrices" else torch.zeros_like(tau[0])
        tau_m[key] = merged.to(dtype)
    return tau_m


def _check_scope(taus: Sequence[Params], scope: Scope) -> list[Params]:
    taus = check_same_structure(taus)
    shapes = structure(taus[0])
    if scope not in ("blocks", "matrices"):
        raise ValueError(f"scope: got {scope!r}, expected 'blocks' or 'matrices'")
    # one tensor alone is one of a streamed model: it need not be a block's
    if scope == "blocks" and len(shapes) > 1 and not any(block_weight(key, taus[0][key]) for key in shapes):
        first = next(iter(shapes))
        raise ValueError(
            f"scope 'blocks': got keys like '{first}', expected some that end in {BLOCK_WEIGHTS[:4]} or another of "
            "matrices.BLOCK_WEIGHTS; scope='matrices' takes every matrix"
        )
    return taus
