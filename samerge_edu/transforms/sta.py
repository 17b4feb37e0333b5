"""Selective Task Arithmetic (Tian et al., Beyond task vectors, 2024, arXiv:2411.16139)."""

from collections.abc import Sequence

from torch import Tensor

from ..masks import keep_largest
from ..params import Params, check_finite, check_same_structure, structure, working


def sta(
    taus: Sequence[Params], gradients: Sequence[Params], *, density: float = 0.2, scope: str = "global"
) -> list[dict[str, Tensor]]:
    """Keep the entries of each task vector that its own task's loss is sensitive to, to first order.

        I_n       = | g_n * tau_n |             what L changes by if the entry moves from theta_0 to theta_n (Taylor)
        m_n       = 1 on the density * d largest I_n, else 0          (d,)
        tau_hat_n = m_n * tau_n

    The kept vectors are so sparse, the authors say, that their plain sum needs little tuning of lam.

    Args:
        taus: N >= 1 task vectors; may be lazy.
        gradients: N mappings, one an expert: g_n = dL_n/dtheta of task n's labelled images (`statistics.gradients`).
            Where they are taken is the caller's choice: at theta_0 the task is still to be learned; at theta_n the
            gradient of an expert without training error is nearly 0, and its small rest says little. The abstract does
            not say; the rows of the leaderboard take theta_0. Our reading.
        density: fraction kept, in (0, 1]; the paper's is not readable in a public source, 0.2 is our choice.
        scope: "global" ranks the whole model at once, "tensor" each tensor by itself.
    Returns N task vectors. Counts are exact; entries of I_n = 0 are never kept.
    Raises ValueError for a density outside (0, 1], an unknown scope, structures that differ, NaN or infinity, and
    gradients that are not one an expert or of another structure.
    Limits: gradients of equal magnitude everywhere give `trim`.

    >>> import torch
    >>> taus = [{"w": torch.tensor([4.0, 1.0, -3.0])}]
    >>> sta(taus, [{"w": torch.tensor([0.1, 2.0, -1.0])}], density=1 / 3)[0]["w"]
    tensor([ 0.,  0., -3.])
    """
    taus = check_same_structure(taus)
    check_finite(taus)
    if len(gradients) != len(taus):
        raise ValueError(f"gradients: got {len(gradients)}, expected {len(taus)}, one an expert")
    check_finite(gradients, what="gradient")
    for n, g in enumerate(gradients):
        if {k: s for k, (s, _) in structure(g).items()} != {k: s for k, (s, _) in structure(taus[n]).items()}:
            raise ValueError(f"gradient {n}: got other names or shapes than the task vectors'")
    importance = [
        {key: working(tau[key]) * working(g[key]).to(tau[key].device) for key in tau}
        for tau, g in zip(taus, gradients, strict=True)
    ]
    keep = keep_largest(importance, density, scope)
    tau_hat: list[dict[str, Tensor]] = [{} for _ in taus]
    for key in taus[0]:
        for n, m in enumerate(keep(key)):
            tau_hat[n][key] = taus[n][key].masked_fill(~m, 0)
    return tau_hat
