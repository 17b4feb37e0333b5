"""SA-Merging (Park, Lee and Sohn, "Saliency-Aware Model Merging", ICML 2026, arXiv:2606.00511, Algorithm 1)."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor

from ..masks import count, nonzero, topk_mask, zero_outside_
from ..parallel import side_by_side
from ..params import Params, check_finite, check_same_structure, own
from ..saliency import Score


def sa_merging(
    taus: Sequence[Params],
    *,
    score: Score,
    T: int = 10,
    p: float = 0.2,
    one_d: str = "prune",
    scope: str = "tensor",
    progress: Callable[[int, list[dict[str, Tensor]]], None] | None = None,
) -> list[dict[str, Tensor]]:
    """Prune the N task vectors together: in each of T rounds drop the share p that matters least by then.

        for t = 1..T:
            S_1..S_N = score(tau_1..tau_N)          on what is left of the task vectors   "Saliency"
            m_n  = 1 on the ceil((1-p)^t * numel) largest S_n of each tensor, else 0      "Mask"
            tau_n <- m_n * tau_n                                                          "Prune"
        theta = theta_0 + sum_n tau_n                                    `pipe(sa_merging, task_arithmetic)`

    Scoring again on what is left is the point: the aggregate sum_i tau_i inside the score changes as the
    others are pruned. What is pruned (or was zero from the start) has score -inf and never comes back, so the
    quota is taken among survivors and the density after T rounds is (1-p)^T, rounded up in each tensor; equal
    scores are kept in order of position.

    Args: `taus`, N >= 1 task vectors (may be lazy; each is copied once); `score`, see `saliency.flow_score`;
    `T` rounds >= 1 and `p` in [0, 1), the share of the survivors pruned in a round: 10 and 0.2, the paper's,
    leave 10.7 %; `one_d`, what happens to tensors of fewer than two dimensions (biases, norms, class token):
    "prune" like the rest, or settle them before the first round so that the final sum over experts has their
    whole "sum", their "mean" or the "base" value; `scope`, "tensor" (the paper: a ranking over everything could
    erase small tensors) or "global", one ranking over each expert; `progress(t, taus)`, called after each round
    with the current task vectors, to be looked at and not changed: see `density`, `sign_conflict`.
    Returns N task vectors in the dtype given, to be summed (lam = 1 is the literal reading).
    Raises ValueError for arguments out of range, task vectors that differ in structure or are not finite, and
    a score that is NaN (names task vector and tensor).

    Limits: p = 0 changes nothing; with `magnitude_score()` it is trimming at density (1-p)^T, whatever T.
    Differs from the paper, which states "top (1-p) of each tensor": taken literally, over all entries, the pruned
    ones would fill the quota and the density would stay near 1-p for ever. No code is public.

    >>> from samerge_edu.saliency import magnitude_score
    >>> tau = {"w": torch.tensor([[4.0, 0.5, 1.0, -3.0]])}
    >>> sa_merging([tau], score=magnitude_score(), T=2, p=0.3)[0]["w"]            # ceil(0.7^2 * 4) = 2 survive
    tensor([[ 4.,  0.,  0., -3.]])
    """
    taus = check_same_structure(taus)
    if T < 1 or T != int(T):
        raise ValueError(f"T: got {T}, expected a whole number of rounds, at least 1")
    if not 0 <= p < 1:
        raise ValueError(f"p: got {p}, expected the share pruned in a round, in [0, 1)")
    one_d_factor = {"prune": 1.0, "sum": 1.0, "mean": 1 / len(taus), "base": 0.0}
    if one_d not in one_d_factor:
        raise ValueError(f"one_d: got {one_d!r}, expected one of {tuple(one_d_factor)}")
    if scope not in ("tensor", "global"):
        raise ValueError(f"scope: got {scope!r}, expected 'tensor' or 'global'")

    device = next(iter(taus[0].values())).device
    tau_hat = side_by_side(lambda tau: {key: own(tau, key) for key in tau}, taus, device)
    check_finite(tau_hat)
    for tau_n in tau_hat:
        for x in tau_n.values():
            if x.ndim < 2:
                x *= one_d_factor[one_d]
    pruned = [key for key in tau_hat[0] if one_d == "prune" or tau_hat[0][key].ndim >= 2]
    groups = [[key] for key in pruned] if scope == "tensor" or not pruned else [pruned]

    for t in range(1, T + 1):
        S = score(tau_hat)

        def prune(group: list[str], S: Sequence[Params] = S, t: int = t) -> None:
            for n, tau_n in enumerate(tau_hat):
                quota = math.ceil((1 - p) ** t * sum(tau_n[key].numel() for key in group) * (1 - 1e-12))
                for key, m in _masks(S[n], tau_n, group, quota, n).items():
                    zero_outside_(tau_n[key], m)

        side_by_side(prune, groups, device)
        if progress:
            progress(t, tau_hat)
    return tau_hat


def _masks(S: Params, tau: Params, keys: list[str], quota: int, n: int) -> dict[str, Tensor]:
    """m_n: key -> True on the `quota` largest scores among what is left, ranked over all of `keys` together."""
    scores, left = {key: S[key] for key in keys}, {key: nonzero(tau[key]) for key in keys}
    for key, s in scores.items():
        if s.sum().isnan() and (s.isnan() & left[key]).any():
            raise ValueError(f"score of task vector {n}, key '{key}': got NaN, expected numbers")
    among = _in_a_row(left)
    m = topk_mask(_in_a_row(scores), min(quota, count(among)), among)
    parts = zip(keys, m.split([s.numel() for s in scores.values()]), strict=True)
    return {key: part.view_as(scores[key]) for key, part in parts}


def _in_a_row(tensors: dict[str, Tensor]) -> Shaped[Tensor, " d"]:
    """All entries as one vector; of one tensor, without a copy."""
    flat = [x.flatten() for x in tensors.values()]
    return flat[0] if len(flat) == 1 else torch.cat(flat)


def density(taus: Sequence[Params]) -> float:
    """The share of entries that are not zero, over all task vectors."""
    taus = list(taus)
    return sum(int(tau[key].count_nonzero()) for tau in taus for key in tau) / sum(
        tau[key].numel() for tau in taus for key in tau
    )


def sign_conflict(taus: Sequence[Params]) -> float:
    """Of the entries that two or more experts change, the share in which both signs occur; 0 if there are none.

    >>> sign_conflict([{"w": torch.tensor([1.0, 1.0, 1.0])}, {"w": torch.tensor([2.0, -2.0, 0.0])}])
    0.5
    """
    taus, shared, conflicts = check_same_structure(taus), 0, 0
    for key in taus[0]:
        up = torch.stack([tau[key] > 0 for tau in taus]).sum(dim=0)
        down = torch.stack([tau[key] < 0 for tau in taus]).sum(dim=0)
        shared += int((up + down >= 2).sum())
        conflicts += int(((up > 0) & (down > 0)).sum())
    return conflicts / shared if shared else 0.0
