"""One family: the update that answers each expert's inputs as that expert does. What is known of the inputs is a Gram.

For the inputs x of task n, a linear layer should answer like expert n:  tau_m x = tau_n x.  All experts' wishes at once
are a least-squares problem, one for each matrix, and all it has to know of the inputs is C_n, (in, in), the sum of
x x^T over them:

    tau_m = argmin_X  sum_n tr((X - tau_n) C_n (X - tau_n)^T)  =  (sum_n tau_n C_n) (sum_n C_n)^+

    RegMean  C_n = the Gram matrix of the layer's real inputs, from some images   merges/regmean.py
    ACTMat   C_n = tau_n^T tau_n: no images, the rows of tau_n stand in           merges/actmat.py
    WUDI     C_n = tau_n^T tau_n / ||tau_n||_F^2: ... and each expert alike       merges/wudi.py
    TACT     C_n = the same of tau_n's larger entries only                        merges/tact.py
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from .params import Params, check_finite, check_same_structure, structure, total

Rest = Literal["mean", "sum", "base"]
TOO_LONG = 20
"""times the longest expert: nobody learned such an update. (The pocket suite's eight experts give 5.)"""


def least_squares(taus: Sequence[Params], grams: Sequence[Params], *, rest: Rest = "mean") -> dict[str, Tensor]:
    """tau_m = (sum_n tau_n C_n) (sum_n C_n)^+ for each matrix that the experts' Grams name.

    Args:
        taus: N >= 1 task vectors; may be lazy, one tensor of one expert is read at a time.
        grams: N mappings, one an expert, in the experts' order: name of a matrix (out, in) -> C_n, (in, in),
            symmetric, without negative eigenvalues. May be lazy (`stand_ins`). Their sizes weigh the experts
            against each other, a common factor of all is without effect.
        rest: what the tensors without a Gram become: the experts' "mean", their "sum", or 0, the "base".
    Returns tau_m in the task vectors' dtype, solved in float64; theta_0 + tau_m (lam = 1). Directions of the input that
    no expert's Gram has are 0 in tau_m: there the merged model stays pre-trained.
    Raises ValueError for task vectors that differ in keys, shapes or dtypes, for NaN or infinity, for Grams that are
    not one an expert, differ in names, name a tensor that is missing or no matrix, have another shape than (in, in),
    or are no Gram matrices; and for an unknown `rest`. Warns of a tau_m that is far longer than any expert
    (`warn_if_too_long`).
    Limits: one expert returns as it came (where its Gram has rank `in`). Equal Grams give the mean. Orthogonal ones
    (C_1 C_2 = 0) with rows of tau_n inside their span give the sum.

    >>> taus = [{"w": torch.tensor([[2.0, 0.0]])}, {"w": torch.tensor([[0.0, 4.0]])}]
    >>> grams = [{"w": torch.diag(torch.tensor([1.0, 1.0]))}, {"w": torch.diag(torch.tensor([0.0, 3.0]))}]
    >>> least_squares(taus, grams)["w"]  # of the first input only expert 1 knows; of the second it knows a quarter
    tensor([[2., 3.]])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    _check_grams(taus, grams)
    if rest not in ("mean", "sum", "base"):
        raise ValueError(f"rest: got {rest!r}, expected 'mean', 'sum' or 'base'")
    tau_m = {}
    for key, (shape, dtype) in structure(taus[0]).items():
        if key in grams[0]:
            out, width = shape
            longest = 0.0
            B = torch.zeros(out, width, dtype=torch.float64, device=taus[0][key].device)  # sum_n tau_n C_n
            C = torch.zeros(width, width, dtype=torch.float64, device=B.device)  # sum_n C_n
            for n, (tau, gram) in enumerate(zip(taus, grams, strict=True)):
                C_n = _checked(gram[key].to(C), n, key, width)
                tau_n = tau[key].double()
                B += tau_n @ C_n
                C += C_n
                longest = max(longest, tau_n.norm().item())
            try:
                merged = divide(B, C)
            except ValueError as e:
                raise ValueError(f"sum of the Grams, key '{key}': {e}") from e
            warn_if_too_long(merged, longest, key, len(taus))
        else:
            merged = total(taus, key) * {"mean": 1 / len(taus), "sum": 1, "base": 0}[rest]
        tau_m[key] = merged.to(dtype)
    return tau_m


def divide(B: Float[Tensor, "out in"], C: Float[Tensor, "in in"]) -> Float[Tensor, "out in"]:
    """B C^+: B (out, in), C (in, in) symmetric without negative eigenvalues, both float64 -> (out, in).

    By Cholesky where C is well conditioned, several times as fast; else by its eigenvectors, where an eigenvalue below
    1e-12 of the largest counts as 0. No inverse is ever formed. Raises ValueError for a negative eigenvalue.

    >>> divide(torch.tensor([[2.0, 6.0]]).double(), torch.diag(torch.tensor([2.0, 0.0])).double())
    tensor([[1., 0.]], dtype=torch.float64)
    """
    L, failed = torch.linalg.cholesky_ex(C)
    pivots = L.diagonal()
    if len(C) and not failed and pivots.min() > 1e-4 * pivots.max():  # L L^T = C: 1e-8 in C
        return torch.cholesky_solve(B.mT, L).mT
    c, Q = torch.linalg.eigh(C)
    if len(c) and c[0] < -1e-6 * c[-1].abs():
        raise ValueError(f"got an eigenvalue of {c[0]:.3g}, expected a sum of x x^T, which has none below 0")
    c = c.where(c > 1e-12 * c[-1:], torch.inf)
    return (B @ Q / c) @ Q.mT


def warn_if_too_long(tau_m: Float[Tensor, "out in"], longest: float, key: str, N: int) -> None:
    """Warn where least squares ended far outside: tau_m much longer than the `longest` of N experts.

    Stand-ins for inputs are rows of task vectors: N * out equations for each output's `in` unknowns. Where these are
    about as many, the answer that fits them all exactly is enormous, and the model is lost. In a transformer whose
    MLP is four times as wide as it (every ViT), that is `c_proj` at N = 4; with three or five experts nothing happens
    (docs/beyond.md).
    """
    times = tau_m.norm().item() / longest if longest > 0 else 0.0
    if times > TOO_LONG:
        out, width = tau_m.shape
        warnings.warn(
            f"'{key}': the merged update is {times:.0f} times as long as the longest expert's. {N} experts with {out} "
            f"rows give {N * out} equations for {width} inputs: about as many is the worst case. Leave one expert out, "
            "or stop before the weak directions: wudi_flow(taus, time=100)",
            stacklevel=3,
        )


# ---------------------------------------------------------------------------- Grams


class Computed(Mapping[str, Tensor]):
    """name -> rule(params[name]), in float64, computed anew when asked for.

    Grams need not be held: all those of a ViT-B/32's experts together are larger than the experts.
    """

    def __init__(self, params: Params, rule: Callable[[Tensor], Tensor], names: Iterable[str]):
        self.params, self.rule, self.names = params, rule, dict.fromkeys(names)

    def __getitem__(self, key: str) -> Tensor:
        if key not in self.names:
            raise KeyError(key)
        return self.rule(self.params[key].double())

    def __contains__(self, key: object) -> bool:
        return key in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def every_matrix(name: str, tensor: Tensor) -> bool:
    """True for every 2-D tensor: embeddings and projections too."""
    return tensor.ndim == 2


def linear_weight(name: str, tensor: Tensor) -> bool:
    """True for matrices W that a layer uses as W @ x, so that a row of W meets the inputs.

    Not embeddings, which are added or looked up, nor CLIP's `proj` and `text_projection`, used as x @ W in open_clip.
    """
    return "embedding" not in name and not name.endswith(("proj", "text_projection"))


def stand_ins(
    taus: Sequence[Params],
    gram: Callable[[Tensor], Tensor],
    is_matrix: Callable[[str, Tensor], bool] = every_matrix,
) -> list[Computed]:
    """Grams without data: name -> gram(tau_n[name]) for each expert and every 2-D tensor that `is_matrix` takes.

    >>> (grams,) = stand_ins([{"w": torch.tensor([[3.0, 1.0]]), "b": torch.ones(1)}], lambda tau: tau.mT @ tau)
    >>> list(grams), grams["w"]
    (['w'], tensor([[9., 3.],
            [3., 1.]], dtype=torch.float64))
    """
    taus = check_same_structure(taus)
    names = [k for k, (shape, _) in structure(taus[0]).items() if len(shape) == 2 and is_matrix(k, taus[0][k])]
    return [Computed(tau, gram, names) for tau in taus]


# ---------------------------------------------------------------------------- checks


def _check_grams(taus: Sequence[Params], grams: Sequence[Params]) -> None:
    if isinstance(grams, Mapping) or len(grams) != len(taus):
        got = "one mapping" if isinstance(grams, Mapping) else f"Grams of {len(grams)} experts"
        raise ValueError(f"grams: got {got}, expected a list of {len(taus)}, one mapping an expert")
    shapes = structure(taus[0])
    for n, gram in enumerate(grams):
        if odd := sorted(gram.keys() ^ grams[0].keys()):
            raise ValueError(f"grams: got '{odd[0]}' for expert 0 or {n} only, expected the same names for all")
        for key in gram:
            if key not in shapes:
                raise ValueError(f"grams of expert {n}: got '{key}', expected names of the task vectors' tensors")
            if len(shapes[key][0]) != 2:
                raise ValueError(f"grams of expert {n}: '{key}' has shape {shapes[key][0]}, expected a matrix")


def _checked(C: Tensor, n: int, key: str, width: int) -> Tensor:
    """C in float64, if it can be a sum of x x^T."""
    what = f"Gram of expert {n}, key '{key}'"
    if tuple(C.shape) != (width, width):
        raise ValueError(f"{what}: got shape {tuple(C.shape)}, expected ({width}, {width})")
    if not C.isfinite().all():
        raise ValueError(f"{what}: got NaN or infinity, expected finite numbers")
    if (C - C.mT).abs().sum() > 1e-4 * C.abs().sum():
        raise ValueError(f"{what}: got a matrix that is not symmetric, expected a sum of x x^T")
    return C
