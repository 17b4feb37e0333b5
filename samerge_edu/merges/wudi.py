"""WUDI-Merging (Cheng et al., Whoever started the interference should end it, ICML 2025, arXiv:2503.08099)."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from ..matrices import BLOCK_WEIGHTS, block_weight
from ..params import Params, check_finite, check_same_structure, stacked, structure

Scope = Literal["blocks", "matrices"]


def wudi(
    taus: Sequence[Params], *, steps: int = 300, lr: float = 1e-5, scope: Scope = "blocks"
) -> dict[str, Tensor]:
    """Find the update that disturbs each expert least, where the rows of tau_n stand in for the expert's inputs.

    A linear layer's gradient is a sum of (error) x (input)^T, so the rows of tau_n (out, in) span
    approximately the inputs that expert n was trained on. For each matrix, Adam minimises
        L(tau_m) = sum_n || (tau_m - tau_n) tau_n^T ||_F^2 / || tau_n ||_F^2,    from tau_m = sum_n tau_n
    which is quadratic in tau_m, so no automatic differentiation is needed:
        grad L = 2 (tau_m C - B)        C = sum_n C_n, (in, in)      C_n = tau_n^T tau_n / ||tau_n||_F^2
                                        B = sum_n tau_n C_n, (out, in)

    Args:
        taus: N >= 1 task vectors; may be lazy, one tensor of every expert is in memory at a time.
        steps, lr: of Adam; 300 and 1e-5 are the authors'. No entry moves further than about steps * lr = 0.003
            from the sum. `lr` is in units of the weights: WUDI is not homogeneous in tau, see `wudi_flow`.
        scope: "blocks", the authors' code: the linear weights of the transformer blocks, all other tensors stay
            pre-trained (0 in tau_m). "matrices", FusionBench: every 2-D tensor, the others are the plain mean.
    Returns tau_m in the task vectors' dtype, computed in at least float32; theta_0 + tau_m, lam = 1.
    Raises ValueError for an empty list, for keys, shapes or dtypes that differ, for NaN or infinity, for
    steps < 0, lr <= 0, and for scope "blocks" when no tensor's name ends as in `matrices.BLOCK_WEIGHTS`.
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

    def descend(tau: Tensor) -> Tensor:
        C, B = _normal_equations(tau)
        tau_m = torch.nn.Parameter(tau.sum(dim=0))
        adam = torch.optim.Adam([tau_m], lr=lr)
        for _ in range(steps):
            tau_m.grad = 2 * (tau_m.detach() @ C - B)
            adam.step()
        return tau_m.detach()

    return _each_matrix(taus, descend, scope)


def wudi_flow(taus: Sequence[Params], *, time: float = math.inf, scope: Scope = "blocks") -> dict[str, Tensor]:
    """WUDI without iterations: where gradient flow on the same objective stands after `time`.

    With C = Q diag(c) Q^T, gradient descent in infinitely small steps, d tau_m / d time = -(tau_m C - B), is
        tau_m(time) Q = (tau_m(0) Q) exp(-time c) + (B Q) (1 - exp(-time c)) / c,     tau_m(0) = sum_n tau_n
    time = 0 is task arithmetic, time = inf the exact optimum B C^+ (the least-squares solution). A direction is
    learned by time 1 / c: early the strong, shared ones, late the weak ones, where the experts hold mostly
    noise. To stop early is to filter the spectrum: the optimum is not what Adam's 300 steps reach, nor
    what is best. C has trace N whatever the size of the weights, so `time`, unlike `lr`, has no unit.

    Args: `taus`, `scope` as in `wudi`; `time` >= 0.
    Returns tau_m in the task vectors' dtype, solved in float64.
    Raises ValueError for a negative time, and as `wudi`.
    Wei et al. (2026, arXiv:2606.07289) make this exponential filter, cut to its leading directions, a method (SWUDI).

    >>> a, b = {"w": torch.tensor([[2.0, 0.0]])}, {"w": torch.tensor([[1.0, 1.0]])}
    >>> wudi_flow([a, b], time=0, scope="matrices")["w"]
    tensor([[3., 1.]])
    >>> torch.allclose(wudi_flow([a, b], scope="matrices")["w"], torch.tensor([[2.0, 0.0]]), atol=1e-6)
    True
    """
    if not time >= 0:
        raise ValueError(f"time: got {time}, expected a number >= 0 (inf is the optimum)")

    def solve(tau: Tensor) -> Tensor:
        C, B = _normal_equations(tau.double())
        c, Q = torch.linalg.eigh(C)
        c = c.where(c > 1e-12 * c[-1:], 1.0)  # directions that no expert has: B and the sum are 0 there
        learned = -torch.expm1(-time * c)  # 1 - exp(-time c): the share of the way from the sum to the optimum
        start, optimum = tau.double().sum(dim=0) @ Q, (B @ Q) / c
        return (start + learned * (optimum - start)) @ Q.mT

    return _each_matrix(taus, solve, scope)


def _normal_equations(tau: Tensor) -> tuple[Tensor, Tensor]:
    """C (in, in) and B (out, in) of the quadratic, from the stacked (N, out, in)."""
    weight = tau.square().sum(dim=(1, 2)).reciprocal().nan_to_num(posinf=0)[:, None, None]  # 1 / ||tau_n||^2
    C = (weight.sqrt() * tau).flatten(0, 1)
    B = sum(w * torch.linalg.multi_dot([t, t.mT, t]) for w, t in zip(weight, tau, strict=True))
    return C.mT @ C, B


def _each_matrix(taus: Sequence[Params], merge: Callable[[Tensor], Tensor], scope: Scope) -> dict[str, Tensor]:
    check_same_structure(taus)
    check_finite(taus)
    shapes = structure(taus[0])
    if scope not in ("blocks", "matrices"):
        raise ValueError(f"scope: got {scope!r}, expected 'blocks' or 'matrices'")
    if scope == "blocks" and not any(block_weight(key, taus[0][key]) for key in shapes):
        first = next(iter(shapes))
        raise ValueError(f"scope 'blocks': got keys like '{first}', expected some that end in {BLOCK_WEIGHTS}")
    tau_m = {}
    for key, (shape, dtype) in shapes.items():
        tau = stacked(taus, key)  # (N, *shape)
        if len(shape) == 2 and (scope == "matrices" or block_weight(key, tau[0])):
            merged = merge(tau)
        else:
            merged = tau.mean(dim=0) if scope == "matrices" else torch.zeros_like(tau[0])
        tau_m[key] = merged.to(dtype)
    return tau_m
