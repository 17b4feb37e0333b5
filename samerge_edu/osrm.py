"""OSRM (Zhang and Zhou, "Unraveling LoRA interference", ACL 2025, arXiv:2505.22934): what the one who trains can do.

Expert t's update s B A answers the other tasks' inputs, too. Where A x = 0 for them it does not, whatever B becomes:

    (W_0 + s B A) x = W_0 x        for all x with A x = 0

So A begins with the directions that the other tasks' inputs have least of, and B with zeros. Both are then trained.
Somebody who has the experts already can only cut: `cut_to` keeps of an update what lies in those directions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .lora import Adapter, LoRA, check_adapters, dense
from .params import Params, check_finite, check_same_structure


def orthogonal_starts(grams: Sequence[Params], r: int) -> dict[str, Tensor]:
    """The r directions of each layer's input that the other tasks use least: with what A begins.

        H = [X_1; X_2; ...]  all inputs of the other tasks, one a row (k, in)        H^T H = sum_n G_n
        H = U diag(S) V^T,  S falling                                                A = the last r rows of V^T

    Args:
        grams: one mapping for each *other* task: name of a matrix (out, in) -> G_n = X_n^T X_n, (in, in), as
            `statistics.input_grams` measures it in the base (the paper takes 100 samples a task).
        r: rank of the LoRA, 1 .. in.
    Returns name -> A (r, in), in the Grams' dtype, with A A^T = 1; solved in float64.
    Raises ValueError for no Grams, for Grams that differ in names or shapes, are not square and symmetric, or hold NaN
    or infinity, and for r outside 1..in.
    Limits: where the other tasks leave r directions unused (fewer inputs than `in`), A x is 0 for each of their inputs;
    which of the unused ones are taken is up to LAPACK. Their order and common scale are without effect.
    Differs from the authors' code, which takes one row a task, the mean of all its inputs: A is then orthogonal to
    N - 1 directions only, and any r of the other in - N + 1 are as good. With G_n = mean mean^T it is that code.

    >>> other = {"w": torch.diag(torch.tensor([4.0, 0.0, 1.0]))}
    >>> orthogonal_starts([other], r=1)["w"].abs()  # the second input is never used
    tensor([[0., 1., 0.]])
    """
    grams = check_same_structure(grams, what="Gram")
    check_finite(grams, what="Gram")
    starts = {}
    for key in grams[0]:
        G = torch.stack([gram[key].double() for gram in grams]).sum(dim=0)
        noise = 1e-6 * G.abs().max().item()
        if G.ndim != 2 or G.shape[0] != G.shape[1] or not torch.allclose(G, G.T, rtol=1e-4, atol=noise):
            raise ValueError(f"Gram, key '{key}': got {tuple(G.shape)}, expected a symmetric (in, in)")
        if not 1 <= r <= len(G):
            raise ValueError(f"r: got {r}, expected 1..{len(G)}, the inputs of '{key}'")
        _, V = torch.linalg.eigh(G)  # columns, eigenvalues rising: S^2 from its end
        starts[key] = V[:, :r].flip(1).T.to(grams[0][key].dtype).contiguous()
    return starts


def cut_to(adapter: Adapter, starts: Params) -> dict[str, LoRA]:
    """The part of a finished update that lies in the directions A: the paper's variant after training.

        dW = s B_0 A_0        B = dW A^+        dW' = B A,  the nearest to dW that A allows

    Args: `adapter`, an expert of any rank; `starts`, name -> A (r, in) for each of its layers, of full rank.
    Returns an adapter of scale 1 with these A, in their dtype. Raises ValueError as `dense`, for an A that is missing
    or does not fit, and for NaN or infinity.
    Limits: what lies outside is lost for the task itself. r = in loses nothing.

    >>> expert = {"w": LoRA(A=torch.tensor([[1.0, 2.0]]), B=torch.tensor([[3.0]]), scale=1.0)}
    >>> cut_to(expert, {"w": torch.tensor([[0.0, 1.0]])})["w"].B
    tensor([[6.]])
    """
    (adapter,) = check_adapters([adapter])
    tau = dense(adapter)
    if missing := [key for key in adapter if key not in starts]:
        raise ValueError(f"starts: missing key '{missing[0]}' ({len(missing)} missing in all)")
    check_finite([starts], what="start")
    cut = {}
    for key, dW in tau.items():
        A = starts[key]
        if A.ndim != 2 or A.shape[1] != dW.shape[1]:
            raise ValueError(f"starts, key '{key}': got {tuple(A.shape)}, expected (r, {dW.shape[1]})")
        B = torch.linalg.lstsq(A.T.double(), dW.T.double()).solution.T  # B A = dW, as nearly as A allows
        cut[key] = LoRA(A, B.to(A.dtype), 1.0)
    return cut
