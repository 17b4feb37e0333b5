"""LwPTV, layer-wise pruning of task vectors (Zhang et al., 2025, arXiv:2506.09093v2, Eq. 5)."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..masks import keep_largest, own_generator, topk_mask
from ..params import Params, block_index, check_finite, check_same_structure, pieces, stacked, structure


def lwptv(
    taus: Sequence[Params],
    eta: float = 0.7,
    norm: str = "mean",
    granularity: str = "tensor",
    mask_rule: str = "or",
    shuffle: torch.Generator | None = None,
) -> "list[Pruned]":
    """Give the layers on which the experts agree back to the pre-trained model, before any merge.

        tau_bar = (1/N) sum_n tau_n
        S_n^l   = || tau_n^l - tau_bar^l ||_1                     Eq. 5, one number per task n and layer l
        m_n^l   = 0 for the share eta of layers with the smallest S_n^l, 1 for the others
        M^l     = 1 if any m_n^l = 1                              the shared mask: OR over tasks
        tau_hat_n^l = M^l tau_n^l

    A layer that every task changes in the same way says nothing about any of them: it is redundant, and the
    pre-trained weights serve unseen tasks better. Where M^l = 0 the merged model *is* the pre-trained one.

    Args:
        taus: N >= 2 task vectors; may be lazy: they are read tensor by tensor, N tensors at a time.
        eta: share of layers pruned per task, in [0, 1]; 0.7 in the paper. Through the OR fewer layers go in the end.
        norm: "mean" divides S by the layer's number of entries, so that layers of any size compare (the paper does
            not say); "sum" ranks the small layers, biases and LayerNorm, lowest.
        granularity: what a layer is. "tensor", an entry of the state dict; "block", all tensors of a transformer
            block, while each tensor outside the blocks stands for itself; "parameter", every single number with
            its own |tau_n - tau_bar| (the paper's comparison, App. B.10; copies all task vectors once).
        mask_rule: "or", the paper; "and", keep what all tasks keep; "own", a mask for each task.
        shuffle: for the ablation: hand the scores to other layers at random, the same way for all tasks, so that as
            many layers are pruned as before. Its seed fixes the draw. Not for granularity="parameter".
    Returns N task vectors that are masked when read (`Pruned`), in front of any merge or learned coefficients.
    Raises ValueError for one expert, whose mean is itself; eta outside [0, 1]; unknown words; structures that
    differ; NaN or infinity.

    Limits: eta = 0 changes nothing, eta = 1 gives the base. Identical experts have S = 0 everywhere (or rounding
    noise) and nothing to rank by: equal scores are kept in order of the layers' sorted names. Layers that no expert
    changes (LoRA adapts a few) have S = 0 too and use up the share first: on the pocket suite's LoRA experts eta =
    0.7 prunes nothing else. Hand over the adapted layers alone to prune among them.

    >>> a = {"front": torch.tensor([1.0, 1.0]), "middle": torch.tensor([3.0, 0.0]), "end": torch.tensor([0.0, 4.0])}
    >>> b = {"front": torch.tensor([1.0, 1.2]), "middle": torch.tensor([1.0, 0.0]), "end": torch.tensor([4.0, 0.0])}
    >>> {key: S.tolist() for key, S in layer_saliency([a, b], norm="sum").items() if key != "front"}
    {'middle': [1.0, 1.0], 'end': [4.0, 4.0]}
    >>> [(key, tau.tolist()) for key, tau in lwptv([a, b], eta=2 / 3)[0].items()]
    [('front', [0.0, 0.0]), ('middle', [0.0, 0.0]), ('end', [0.0, 4.0])]
    """
    taus = check_same_structure(taus, at_least=2)
    if granularity == "parameter":
        if shuffle is not None:
            raise ValueError(
                "shuffle: got a generator with granularity 'parameter', expected None: layers are shuffled"
            )
        M = _parameter_mask(taus, eta, mask_rule)
        return [Pruned(tau, {key: M[key][n] for key in M}) for n, tau in enumerate(taus)]
    S = layer_saliency(taus, norm, granularity)
    if shuffle is not None:
        names = sorted(S)
        lots = own_generator(shuffle, "layers", 0)
        order = torch.randperm(len(names), generator=lots, device=lots.device).tolist()
        S = {name: S[names[i]] for name, i in zip(names, order, strict=True)}
    M = shared_mask(S, eta, mask_rule)
    return [Pruned(tau, {key: M[layer_of(key, granularity)][n] for key in tau}) for n, tau in enumerate(taus)]


def layer_saliency(
    taus: Sequence[Params], norm: str = "mean", granularity: str = "tensor"
) -> dict[str, Float[Tensor, " N"]]:
    """S of Eq. 5: layer -> (N,), one number >= 0 per task, layers in the order of the first task vector's tensors."""
    taus = check_same_structure(taus, at_least=2)
    if norm not in ("mean", "sum"):
        raise ValueError(f"norm: got '{norm}', expected 'mean' or 'sum'")
    S, entries = {}, {}
    for key in taus[0]:
        layer = layer_of(key, granularity)
        for tau in pieces(taus, key):
            S[layer] = S.get(layer, 0) + (tau - tau.mean(dim=0)).abs_().sum(dim=1)
            entries[layer] = entries.get(layer, 0) + tau.shape[1]
    if not all(s.isfinite().all() for s in S.values()):
        check_finite(taus)
    return S if norm == "sum" else {layer: s / max(1, entries[layer]) for layer, s in S.items()}


def shared_mask(
    S: Mapping[str, Float[Tensor, " N"]], eta: float = 0.7, mask_rule: str = "or"
) -> dict[str, Bool[Tensor, " N"]]:
    """M: layer -> (N,) bool, True where the layer of expert n is kept; with "or" and "and" all N agree.

    Each task keeps L - round(eta * L) of the L layers; equal scores are kept in order of the sorted names.
    """
    _check_share(eta)
    layers = sorted(S)
    own = topk_mask(
        torch.stack([S[layer] for layer in layers], dim=1), k=len(layers) - round(eta * len(layers))
    )  # (N, L)
    M = dict(zip(layers, _combine(own, mask_rule).T, strict=True))
    return {layer: M[layer] for layer in S}


def layer_of(key: str, granularity: str) -> str:
    """The layer that a tensor belongs to: its own name, or "block 3"."""
    if granularity not in ("tensor", "block"):
        raise ValueError(f"granularity: got '{granularity}', expected 'tensor', 'block' or, in lwptv, 'parameter'")
    if granularity == "tensor" or block_index(key) is None:
        return key
    return f"block {block_index(key)}"


class Pruned(Mapping[str, Tensor]):
    """M * tau, tensor by tensor when asked for: nothing is copied beforehand, a pruned layer is exactly 0."""

    def __init__(self, tau: Params, M: Mapping[str, Tensor]):
        self.tau, self.M, self.structure = tau, M, structure(tau)

    def __getitem__(self, key: str) -> Tensor:
        tau, M = self.tau[key], self.M[key]
        if M.all():
            return tau
        return tau.masked_fill(~M, 0) if M.any() else torch.zeros_like(tau)

    def __iter__(self) -> Iterator[str]:
        return iter(self.structure)

    def __len__(self) -> int:
        return len(self.structure)


def _parameter_mask(taus: Sequence[Params], eta: float, mask_rule: str) -> dict[str, Bool[Tensor, "N ..."]]:
    """key -> (N, *shape): each task keeps the share 1 - eta of its numbers that are furthest from the mean."""
    check_finite(taus)
    _check_share(eta)
    if eta in (0, 1):
        return {key: torch.full_like(stacked(taus, key), eta == 0, dtype=torch.bool) for key in taus[0]}
    deviations = [{} for _ in taus]
    for key in taus[0]:
        tau = stacked(taus, key)
        for n, deviation in enumerate(tau - tau.mean(dim=0)):
            deviations[n][key] = deviation
    keep = keep_largest(deviations, density=1 - eta)
    return {key: _combine(keep(key), mask_rule) for key in taus[0]}


def _combine(own: Bool[Tensor, " N *shape"], mask_rule: str) -> Bool[Tensor, " N *shape"]:
    """The masks of the N tasks -> the masks to use."""
    if mask_rule not in ("or", "and", "own"):
        raise ValueError(f"mask_rule: got '{mask_rule}', expected 'or', 'and' or 'own'")
    if mask_rule == "own":
        return own
    return (own.any(dim=0) if mask_rule == "or" else own.all(dim=0)).expand_as(own)


def _check_share(eta: float) -> None:
    if not 0 <= eta <= 1:
        hint = f"; {eta:g} % is {eta / 100:g}" if 1 < eta <= 100 else ""
        raise ValueError(f"eta: got {eta}, expected the share pruned, in [0, 1]{hint}")
