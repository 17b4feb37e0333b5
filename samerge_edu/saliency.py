"""How much does an entry matter? SynFlow's answer, and the scores that SA-Merging builds on it.

Take absolute values of all weights and send ones through the network. What comes out,

    R = 1^T |W_L| ... |W_2| |W_1| 1  =  the sum over all paths of the product of |weights| on the path,

is the *path strength*. |dR/dW| says how much flows through an entry: no image is needed, only the weights.

    synflow, synflow_prune, path_norm     any torch module            Tanaka et al., 2020, arXiv:2006.05467
    chain_flow, clip_flow                 theta -> Flow: ln R and its gradient, by vectors only
    flow_score, magnitude_score, ...      score(taus) -> one saliency S_n per task vector, for `sa_merging`
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .masks import check_density, keep_count, topk_mask
from .params import Params, own, structure, total, working

Score = Callable[[Sequence[Params]], Sequence[Params]]
"""Current task vectors -> as many saliencies with the same keys and shapes. Larger is kept longer."""


# ---------------------------------------------------------------------------- SynFlow, for any module


def path_norm(model: nn.Module, input_shape: Sequence[int]) -> Tensor:
    """R = sum of the outputs of |model| on one all-ones input: the l1 path norm of a bias-free ReLU network.

    |model| is a copy in evaluation mode and float64 in which *every* entry of the state dict, biases and
    BatchNorm statistics included, is replaced by its absolute value. `input_shape` is that of one sample,
    without the batch. The model given is not touched. Neyshabur et al., 2015 (arXiv:1506.02617) call this
    sum over paths the path norm; Tanaka et al. (arXiv:2006.05467, eq. 4) call it R_SF.

    >>> layers = nn.Sequential(nn.Linear(2, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False))
    >>> with torch.no_grad():
    ...     _ = layers[0].weight.copy_(torch.tensor([[1.0, -2.0]])), layers[2].weight.fill_(-3.0)
    >>> path_norm(layers, (2,)).item()          # |1 * -3| + |-2 * -3|
    9.0
    """
    return _path_strength(model, _absolute(model), input_shape)


def synflow(model: nn.Module, input_shape: Sequence[int]) -> dict[str, Tensor]:
    """SynFlow's score of each parameter of `model`: how much path strength runs through it.

        S = |dR/dtheta * theta|,   R as in `path_norm`                             shape of theta, float64

    In a bias-free ReLU network an entry's S is the sum over the paths that use it. Hence the conservation
    law: what enters a hidden unit leaves it, and each layer's scores sum to the same R. A weight that two
    layers share is scored once, for both uses together.

    Tanaka et al., NeurIPS 2020, arXiv:2006.05467, eq. 1 and 4. Differs from the authors' code, which
    takes absolute values in the user's model and restores the signs: here a copy is used, in float64,
    since R overflows float32 in deep networks. Raises ValueError if it overflows even that.

    >>> layers = nn.Sequential(nn.Linear(2, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False))
    >>> with torch.no_grad():
    ...     _ = layers[0].weight.copy_(torch.tensor([[1.0, -2.0]])), layers[2].weight.fill_(-3.0)
    >>> {key: S.tolist() for key, S in synflow(layers, (2,)).items()}
    {'0.weight': [[3.0, 6.0]], '2.weight': [[9.0]]}
    """
    return _synflow_scores(model, _absolute(model), input_shape)


def synflow_prune(
    model: nn.Module, input_shape: Sequence[int], density: float, rounds: int = 100, scope: str = "global"
) -> dict[str, Tensor]:
    """Boolean masks that keep the share `density` of all weights, found in `rounds` rounds of SynFlow.

        after round t = 1..rounds:  the density^(t / rounds) * numel largest S are left

    and S is computed anew on what is left, so that no layer is emptied before the others. `scope` is
    "global" (the paper: one ranking over all layers) or "tensor" (each weight on its own). Only weights,
    tensors of two or more dimensions, are pruned; biases and norms stay, as in the authors' code.
    `rounds` = 100 is the paper's number; 1 is one-shot pruning and collapses layers early.

    Tanaka et al., 2020, arXiv:2006.05467, Algorithm 1. Differs from the authors' code in the counts: here
    round(density^(t / rounds) * n) stay, where theirs drops int((1 - density^(t / rounds)) * n) *and* every entry that
    ties with the last of them; over many rounds and small layers the masks differ. Raises ValueError for a density
    outside (0, 1], for rounds < 1, for an unknown scope.

    >>> layer = nn.Linear(3, 1, bias=False)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([[1.0, -3.0, 2.0]]))
    >>> synflow_prune(layer, (3,), density=1 / 3)["weight"]
    tensor([[False,  True, False]])
    """
    check_density(density)
    if rounds < 1:
        raise ValueError(f"rounds: got {rounds}, expected at least 1")
    if scope not in ("global", "tensor"):
        raise ValueError(f"scope: got {scope!r}, expected 'global' or 'tensor'")
    theta = _absolute(model)
    weights = [key for key, p in model.named_parameters() if p.ndim >= 2]
    masks = {key: torch.ones_like(theta[key], dtype=torch.bool) for key in weights}
    groups = [weights] if scope == "global" else [[key] for key in weights]
    for t in range(1, rounds + 1):
        S = _synflow_scores(model, theta, input_shape)
        for keys in groups:
            ranked = torch.cat([S[key].masked_fill(~masks[key], -math.inf).flatten() for key in keys])
            keep = topk_mask(ranked, keep_count(density ** (t / rounds), ranked.numel()))
            for key, part in zip(keys, keep.split([masks[key].numel() for key in keys]), strict=True):
                masks[key] = part.view_as(masks[key])
                theta[key] = theta[key] * masks[key]
    return masks


def _absolute(model: nn.Module) -> dict[str, Tensor]:
    """|theta|: the state dict with every floating entry replaced by its absolute value, in float64.

    A tensor that several names share (tied weights) is there once, under its first name, as in `named_parameters`.
    """
    tied = dict(model.named_parameters(remove_duplicate=False)).keys() - dict(model.named_parameters()).keys()
    theta = {k: v.detach() for k, v in model.state_dict().items() if k not in tied}
    return {k: v.double().abs() if v.is_floating_point() else v for k, v in theta.items()}


def _path_strength(model: nn.Module, theta: Params, input_shape: Sequence[int]) -> Tensor:
    device = next(iter(theta.values())).device
    ones = torch.ones(1, *input_shape, dtype=torch.float64, device=device)
    R = functional_call(copy.deepcopy(model).eval(), dict(theta), ones).sum()  # a copy: eval() is a change too
    if not R.isfinite():
        raise ValueError("path strength R: got a number out of float64's range, expected a finite one")
    return R


def _synflow_scores(model: nn.Module, theta: Params, input_shape: Sequence[int]) -> dict[str, Tensor]:
    leaves = {key: theta[key].clone().requires_grad_() for key, _ in model.named_parameters()}
    with torch.enable_grad():
        R = _path_strength(model, {**theta, **leaves}, input_shape)
        grads = torch.autograd.grad(R, list(leaves.values()))
    return {key: (g * theta[key]).abs() for (key, g) in zip(leaves, grads, strict=True)}


# ---------------------------------------------------------------------------- flow: ln R and its gradient, by vectors


class Flow(NamedTuple):
    """ln R of one model, and its gradient for each tensor as a product of two small ones.

    R itself leaves every number format in a deep network, ln R does not, and d ln R = dR / R ranks the same.
    `factors[key] = (left, right)` are two tensors that broadcast to the parameter's shape, with

        |d ln R / dtheta[key]| = left * right

    For a matrix this is an outer product, (out, 1) * (1, in): R = (what flows on from row i) * |W_ij| *
    (what flows in at column j), summed over i and j. So the gradient needs one vector from behind and one
    from the front: a layer with out * in entries costs out + in numbers.
    """

    log_R: float
    factors: dict[str, tuple[Tensor, Tensor]]

    def gradient(self, key: str) -> Tensor:
        """|d ln R / dtheta[key]| in the parameter's shape."""
        left, right = self.factors[key]
        return left * right


class _Trace:
    """Sends one vector through |theta| and notes what enters and leaves each tensor, to trace R back.

    Only activations (vectors) are differentiated, never weights: at each tensor we note its input x and
    its output y; at the end autograd gives d ln R / dy, the other half of the gradient.
    """

    def __init__(self, theta: Params):
        self.theta, self.notes, self.log_scale = theta, [], 0.0

    def ones(self, weight: str) -> Tensor:
        """The all-ones input that fits a layer's weight (out, in) or (out, in, height, width)."""
        W = self.absolute(weight)
        return W.new_ones(W[0].numel(), requires_grad=True)

    def absolute(self, key: str) -> Tensor:
        if key not in self.theta:
            raise ValueError(f"missing key '{key}': the flow passes through it")
        return working(own(self.theta, key)).abs_()

    def linear(self, x: Tensor, weight: str, transposed: bool = False) -> Tensor:
        """y = |W| x. A convolution is a matrix on its flattened patch; `transposed`: W is stored as (in, out)."""
        W = self.absolute(weight)
        if transposed:
            y = x @ W
            self.notes.append((weight, y, x[:, None], (1, -1)))
        else:
            y = W.flatten(1) @ x
            self.notes.append((weight, y, x.reshape(1, *W.shape[1:]), (-1,) + (1,) * (W.ndim - 1)))
        self.offset(y, weight.removesuffix("weight") + "bias")
        return y

    def gain(self, x: Tensor, weight: str) -> Tensor:
        """y = |g| * x, entry by entry: a LayerNorm without its mean and variance."""
        y = self.absolute(weight) * x
        self.notes.append((weight, y, x, (-1,)))
        self.offset(y, weight.removesuffix("weight") + "bias")
        return y

    def offset(self, y: Tensor, key: str) -> None:
        """A bias: no path of R begins in it (value 0), but what it adds to y would flow on (gradient)."""
        if key in self.theta:
            shape = self.theta[key].shape
            self.notes.append((key, y, y.new_ones(shape), (1,) * (len(shape) - 1) + (-1,)))

    def rescale(self, x: Tensor, where: str) -> Tensor:
        """Divide x by its mean, a constant that is remembered: ln R loses a number, its gradient nothing."""
        mean = x.mean().item()
        if not 0 < mean < math.inf:
            raise ValueError(f"'{where}': got a flow of {mean} out of this layer, expected a positive finite number")
        self.log_scale += math.log(mean)
        return x / mean

    def finish(self, x: Tensor) -> Flow:
        """R = sum of what comes out; ln R and its gradient for every tensor on the way."""
        if unknown := sorted(self.theta.keys() - {key for key, *_ in self.notes}):
            raise ValueError(f"unknown key '{unknown[0]}' ({len(unknown)} in all): no flow passes through it")
        log_R = x.sum().log()
        behind = torch.autograd.grad(log_R, [y for _, y, _, _ in self.notes])
        factors = {}
        for (key, _, x, along), u in zip(self.notes, behind, strict=True):
            factors[key] = u.reshape(along), x.detach()
        finite = torch.stack([left.sum() + right.sum() for left, right in factors.values()]).isfinite()
        if not finite.all():
            key = list(factors)[finite.int().argmin()]
            raise ValueError(f"'{key}': the gradient of ln R is NaN or infinite, expected finite numbers")
        return Flow(self.log_scale + log_R.item(), factors)


@torch.enable_grad()
def chain_flow(theta: Params) -> Flow:
    """Path strength and gradient of a plain chain of layers, R = 1^T |W_L| ... |W_1| 1.

    `theta` holds, in depth order, one weight (out, in) or convolution (out, in, h, w) per layer, and
    perhaps biases "X.bias" beside "X.weight". After each layer the vector is brought back to mean 1 by a
    constant: ln R loses a known number, its gradient nothing, and any depth stays in float32's range; all
    terms are positive, so nothing cancels either. A bias has value 0 and the gradient of an offset (to the
    vector of mean 1). The scores |theta| * gradient of each layer sum to 1: SynFlow's conservation law.
    Raises ValueError for layers that do not fit each other, for a tensor that is neither weight nor bias,
    and for a layer through which nothing, or more than the range allows, flows.

    >>> flow = chain_flow({"0.weight": torch.tensor([[1.0, -2.0]]), "1.weight": torch.tensor([[-3.0]])})
    >>> round(math.exp(flow.log_R), 3)                                             # 1 * 3 + 2 * 3
    9.0
    """
    weights = [key for key in theta if theta[key].ndim >= 2]
    if not weights:
        raise ValueError("got no tensor of two or more dimensions, expected one weight per layer")
    trace = _Trace(theta)
    x = trace.ones(weights[0])
    for key in weights:
        fan_in = theta[key][0].numel()
        if fan_in != len(x):
            raise ValueError(f"'{key}': got {fan_in} inputs, expected {len(x)}, as many as the layer before puts out")
        x = trace.rescale(trace.linear(x, key), key)
    return trace.finish(x)


CLIP_NAMES = {
    # role: (open_clip, Hugging Face)
    "patch": ("conv1.weight", "embeddings.patch_embedding.weight"),
    "class": ("class_embedding", "embeddings.class_embedding"),
    "position": ("positional_embedding", "embeddings.position_embedding.weight"),
    "ln_pre": ("ln_pre.weight", "pre_layrnorm.weight"),
    "block": ("transformer.resblocks.", "encoder.layers."),
    "ln_1": (".ln_1.weight", ".layer_norm1.weight"),
    "attention": (".attn.", ".self_attn."),
    "ln_2": (".ln_2.weight", ".layer_norm2.weight"),
    "mlp_in": (".mlp.c_fc.weight", ".mlp.fc1.weight"),
    "mlp_out": (".mlp.c_proj.weight", ".mlp.fc2.weight"),
    "ln_post": ("ln_post.weight", "post_layernorm.weight"),
}


@torch.enable_grad()
def clip_flow(theta: Params, heads: int) -> Flow:
    """Path strength and gradient of a CLIP image tower, by a surrogate forward pass of one vector.

    A transformer is no chain of absolute matrices, so each part needs a stand-in. (Ours: the SA-Merging
    preprint gives the formula for a chain only.) With every weight in absolute value:

        x = |g_pre| |W_patch| 1                       patches of an all-ones image are equal: one token is enough
        x = x + |W_out| (gate * |W_v| |g_1| x)        attention over equal tokens returns the token
        x = x + |W_fc2| |W_fc1| |g_2| x               GELU -> identity, LayerNorm -> its gain g
        R = 1^T |W_proj| |g_post| x                   residual additions are kept

    Equal tokens get equal attention whatever the queries and keys are. These enter as one gate per head,
    whose *value* is 1 and whose gradient is the relative change of the head's logit q_h . k_h. Biases, class
    token and positions have value 0 and the gradient of an offset. After each addition x is brought back to
    mean 1 by a constant, as in `chain_flow`.

    Args: `theta`, the tower's tensors under open_clip's names (with or without "visual.") or Hugging Face's
    (with or without "vision_model.", with or without the projection); `heads`, attention heads of a block:
    12 in ViT-B, 16 in ViT-L.
    Raises ValueError for a missing or unknown tensor, a width that `heads` does not divide, and for a layer
    through which nothing, or more than the range allows, flows.
    """
    if not isinstance(heads, int) or heads < 1:
        raise ValueError(f"heads: got {heads!r}, expected the number of attention heads, at least 1")
    name, projection = _clip_names(theta)
    trace = _Trace(theta)

    x = trace.rescale(trace.linear(trace.ones(name["patch"]), name["patch"]), name["patch"])
    if len(x) % heads:
        raise ValueError(f"heads: got {heads}, expected a divisor of the width {len(x)}")
    trace.offset(x, name["class"])
    trace.offset(x, name["position"])
    x = trace.gain(x, name["ln_pre"])

    depth = len({key.removeprefix(name["block"]).split(".")[0] for key in theta if key.startswith(name["block"])})
    for block in (name["block"] + str(i) for i in range(depth)):
        attention = block + name["attention"]
        branch = trace.gain(x, block + name["ln_1"])
        if attention + "in_proj_weight" in theta:
            q, k, v = trace.linear(branch, attention + "in_proj_weight").chunk(3)
        else:
            q, k, v = (trace.linear(branch, f"{attention}{which}_proj.weight") for which in "qkv")
        logit = (q * k).view(heads, -1).sum(dim=1, keepdim=True)
        gate = 1 + (logit - logit.detach()) / logit.detach()
        branch = trace.linear((gate * v.view(heads, -1)).flatten(), attention + "out_proj.weight")
        x = trace.rescale(x + branch, attention + "out_proj.weight")

        branch = trace.linear(trace.gain(x, block + name["ln_2"]), block + name["mlp_in"])
        x = trace.rescale(x + trace.linear(branch, block + name["mlp_out"]), block + name["mlp_out"])

    x = trace.gain(x, name["ln_post"])
    if projection:
        x = trace.linear(x, projection, transposed=projection.endswith("proj"))
    return trace.finish(x)


def _clip_names(theta: Params) -> tuple[dict[str, str], str | None]:
    """role -> full name in this state dict, and the projection's name if it has one."""
    for column, (patch, projection) in enumerate(
        [("conv1.weight", "proj"), ("embeddings.patch_embedding.weight", "visual_projection.weight")]
    ):
        for key in theta:
            if key.endswith(patch):
                prefix = key.removesuffix(patch)
                candidates = [prefix + projection, projection]  # Hugging Face keeps it outside `vision_model.`
                names = {role: both[column] for role, both in CLIP_NAMES.items()}
                names = {role: n if n.startswith(".") else prefix + n for role, n in names.items()}
                return names, next((c for c in candidates if c in theta), None)
    raise ValueError(
        "got no patch embedding, expected a CLIP image tower with 'conv1.weight' (open_clip) or "
        f"'embeddings.patch_embedding.weight' (Hugging Face); first key is '{next(iter(theta), None)}'"
    )


# ---------------------------------------------------------------------------- scores for task vectors


class Lazy(Mapping[str, Tensor]):
    """A `Params` whose tensors are computed when they are read: `Lazy(keys, lambda key: ...)`.

    `fresh` promises that the reader may change what it gets: each reading computes the tensor anew.
    """

    def __init__(self, keys: Iterable[str], compute: Callable[[str], Tensor], fresh: bool = False):
        self.names, self.compute, self.fresh = tuple(keys), compute, fresh

    def __getitem__(self, key: str) -> Tensor:
        return self.compute(key)

    def __contains__(self, key: object) -> bool:
        return key in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


MODULATIONS = ("literal", "agreement", "abs", "none")


def flow_score(
    theta_0: Params, flow: Callable[[Params], Flow], modulation: str = "literal", flow_at: str = "expert"
) -> Score:
    """SA-Merging's saliency: how an expert's path strength changes along the sum of all updates.

        tau_star = sum_i tau_i                                     current task vectors
        G_n = d ln R_n / dtau_n                                    at theta_n = theta_0 + tau_n
        literal     S_n = G_n * tau_star = sign(theta_n) |G_n| tau_star
        agreement   S_n = |G_n| sign(tau_n) tau_star
        abs         S_n = |G_n * tau_star|
        none        S_n = |G_n * tau_n|                            no modulation by the others (ablation)

    (The paper has dR, not d ln R: one positive constant per expert, the same ranking.)
    The literal score is high where the aggregate makes the weight *larger*, whichever way expert n went;
    only the agreement score is negative where expert n and the aggregate disagree. (There the sign of 0 is that of
    the float, +0 or -0: `sa_merging` ranks no zeros.)

    Args: `theta_0`, the base; `flow`, theta -> Flow: `chain_flow` or `partial(clip_flow, heads=12)`;
    `modulation` as above; `flow_at`, where R is differentiated: "expert" (the preprint) or "merged", at
    theta_0 + tau_star (the conference abstract; then all experts share one G, and under literal and abs one S).
    Returns `score(taus)`, which gives one lazy `Params` per task vector: the flows are computed at once, a tensor's
    tau_star when the first S of it is read, S when it is read. So read a tensor's S before you change that tensor.
    Raises ValueError for an unknown modulation or flow_at, and if names or shapes are not the base's.

    Park et al., "Saliency-Aware Model Merging", arXiv:2606.00511, Algorithm 1; no public code.

    >>> base, update = {"weight": torch.tensor([[1.0, -2.0]])}, {"weight": torch.tensor([[0.5, 0.5]])}
    >>> flow_score(base, chain_flow)([update])[0]["weight"]          # 0.5 makes |1| larger and |-2| smaller
    tensor([[ 0.1667, -0.1667]])
    """
    if modulation not in MODULATIONS:
        raise ValueError(f"modulation: got {modulation!r}, expected one of {MODULATIONS}")
    if flow_at not in ("expert", "merged"):
        raise ValueError(f"flow_at: got {flow_at!r}, expected 'expert' or 'merged'")
    theta_0 = {key: working(theta_0[key]).detach() for key in theta_0}
    # new memory costs time, so one model's room is lent to one flow after the other; a flow keeps none of it
    room = {key: torch.empty_like(x) for key, x in theta_0.items()}

    def score(taus: Sequence[Params]) -> list[Lazy]:
        taus = _checked(theta_0, taus)
        tau_star = cache(partial(total, taus))  # added up when it is asked for first
        points = [Lazy(theta_0, tau_star)] * len(taus) if flow_at == "merged" else taus

        def in_room(n: int, key: str) -> Tensor:
            return torch.add(theta_0[key], working(points[n][key]), out=room[key])

        thetas = [Lazy(theta_0, partial(in_room, n), fresh=True) for n in range(len(taus))]
        flows = [flow(thetas[0])] * len(taus) if flow_at == "merged" else [flow(theta) for theta in thetas]

        def saliency(n: int, key: str) -> Tensor:
            S, tau_n = flows[n].gradient(key), working(taus[n][key])  # S is fresh, so it may be worked on in place
            if modulation == "agreement":
                S.copysign_(tau_n)  # one pass less than S *= tau_n.sign()
            elif modulation == "literal":
                S *= (theta_0[key] + working(points[n][key])).sign_()
            S *= tau_n if modulation == "none" else tau_star(key)
            return S.abs_() if modulation in ("abs", "none") else S

        return [Lazy(theta_0, partial(saliency, n)) for n in range(len(taus))]

    return score


def magnitude_score(modulation: str = "none") -> Score:
    """The same scores with the size of an update in place of its structural sensitivity (ablation).

        none        S_n = |tau_n|                                  `sa_merging` then is iterated trimming
        agreement   S_n = |tau_n| sign(tau_n) tau_star = tau_n * tau_star
        abs         S_n = |tau_n * tau_star|

    >>> taus = [{"w": torch.tensor([1.0, -2.0])}, {"w": torch.tensor([0.5, 3.0])}]
    >>> magnitude_score()(taus)[0]["w"], magnitude_score("agreement")(taus)[0]["w"]
    (tensor([1., 2.]), tensor([ 1.5000, -2.0000]))
    """
    if modulation not in (expected := ("none", "agreement", "abs")):
        raise ValueError(f"modulation: got {modulation!r}, expected one of {expected}")

    def score(taus: Sequence[Params]) -> list[Lazy]:
        taus = list(taus)
        tau_star = cache(partial(total, taus))  # added up when it is asked for first

        def saliency(n: int, key: str) -> Tensor:
            tau = working(taus[n][key])
            if modulation == "none":
                return tau.abs()
            return tau * tau_star(key) if modulation == "agreement" else (tau * tau_star(key)).abs()

        return [Lazy(taus[0], partial(saliency, n)) for n in range(len(taus))]

    return score


def random_score(generator: torch.Generator) -> Score:
    """A number from [0, 1) for each entry, new in each round: what pruning blindly would do (ablation).

    The paper's public review names this comparison as the one that would settle its premise.

    >>> taus = [{"w": torch.zeros(3)}]
    >>> S = random_score(torch.Generator().manual_seed(0))(taus)[0]
    >>> bool((S["w"] == S["w"]).all())                               # a tensor read twice is the same
    True
    """

    def score(taus: Sequence[Params]) -> list[Lazy]:
        taus = list(taus)
        names, device = sorted(taus[0]), generator.device
        seeds = torch.randint(2**62, (len(taus), len(names)), generator=generator, device=device).tolist()

        def saliency(n: int, key: str) -> Tensor:
            tau, own = working(taus[n][key]), torch.Generator(device).manual_seed(seeds[n][names.index(key)])
            return torch.rand(tau.shape, generator=own, device=device, dtype=tau.dtype).to(tau.device)

        return [Lazy(taus[0], partial(saliency, n)) for n in range(len(taus))]

    return score


def _checked(theta_0: Params, taus: Iterable[Params]) -> list[Params]:
    taus = list(taus)
    base = {key: shape for key, (shape, _) in structure(theta_0).items()}
    for n, tau in enumerate(taus):
        update = {key: shape for key, (shape, _) in structure(tau).items()}
        for key in [*base, *update]:
            if update.get(key) != base.get(key):
                got, expected = update.get(key, "no such tensor"), base.get(key, "no such tensor")
                raise ValueError(f"task vector {n}, key '{key}': got {got}, expected {expected}, as in theta_0")
    return taus
