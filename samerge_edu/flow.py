"""The path strength of any module: `module_flow(model, example)` -> theta -> Flow, for `flow_score` and SA-Merging.

SynFlow sends ones through |theta|. A network is more than a chain of absolute matrices, so its own forward pass is
run once, on tensors that know what each operation means for a flow, and every operation has its stand-in:

    linear, convolution        |W| x                         a bias: value 0, the gradient of an offset
    floating input             ones                          an embedding of the input's ids: the sum of all |rows|
    activation                 itself                        GELU, SiLU, tanh, sigmoid, ... pass what comes
    norm                       |gain| * x                    BatchNorm: |gain| / sqrt(running variance)
    x + branch                 kept, and brought back to mean 1; the logarithm of the mean is remembered
    attention                  gate * v, one gate per head   tokens are equal, so each may attend to itself; the gate's
                                                             value is 1, its gradient the relative change of q . k
    x * y (SwiGLU)             x y / sqrt(mean x mean y)     a product of two flows, brought back to the size of one
    positions, class token     value 0, the gradient of an offset; the same for every position
    pooling, reshaping         themselves

Anything else is refused, with the path of the module that it happened in: better no saliency than a wrong one.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from .params import Params, structure, working
from .saliency import Flow

FAR_FROM_ONE = 1e12
"""A layer's mean beyond this, or below its inverse, is brought back to 1 at once: float32 ends at 1e38."""


def module_flow(model: nn.Module, example: object, unreached: str = "refuse") -> Callable[[Params], Flow]:
    """theta -> Flow for any module, by the rules above.

    Args:
        model: a module of the architecture; its own weights are not used, and it is not changed.
        example: what it is called with: a tensor, a tuple of arguments, or a dict of keyword arguments. Of floating
            tensors only the shape counts (ones are sent through), of integers that they are ids: of which does not.
        unreached: what to do about tensors that no flow passes through (a pooler that the output does not use, a
            mask token): "refuse" names them; "size" gives each a constant gradient, so that its entries are ranked by
            the updates' size alone, and lists them in `.unreached` of what is returned.
    R is the sum of one output: of several, the one that most tensors lead to. Biases of attention (relative
    positions) change nothing between equal tokens; they are treated as "size" says.
    The returned function takes a mapping with the names of `model.state_dict()` and costs one forward and one backward
    pass; the gradient of each tensor is as large as the tensor. It raises ValueError for missing and unknown names, an
    operation without a rule (names it and its module), a flow that is zero or not finite.
    On a CLIP image tower it equals `saliency.clip_flow`, on a bias-free ReLU network SynFlow (both tested).

    >>> net = nn.Sequential(nn.Linear(2, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False))
    >>> theta = {"0.weight": torch.tensor([[1.0, -2.0]]), "2.weight": torch.tensor([[-3.0]])}
    >>> flow = module_flow(net, torch.zeros(1, 2))(theta)
    >>> round(math.exp(flow.log_R), 3), flow.gradient("2.weight")      # |1 * -3| + |-2 * -3|, and 3 of it per unit
    (9.0, tensor([[0.3333]]))
    """
    if unreached not in ("refuse", "size"):
        raise ValueError(f"unreached: got {unreached!r}, expected 'refuse' or 'size'")
    if example is None:
        raise ValueError("example: got None, expected what the model is called with, a tensor or a dict of tensors")
    return _ModuleFlow(model, example, unreached)


class _ModuleFlow:
    def __init__(self, model: nn.Module, example: object, unreached: str):
        self.net, self.where = copy.deepcopy(model).eval().requires_grad_(False), ["the model"]
        self.policy, self.unreached, self.leaves = unreached, [], {}
        self.args, self.kwargs = _call(example)
        self.spec = {k: s for k, (s, dtype) in structure(self.net.state_dict()).items() if dtype.is_floating_point}
        self.first = _first_names(self.net)
        config: Any = getattr(self.net, "config", None)
        if hasattr(config, "use_cache"):
            config.use_cache = False  # a cache of keys is another output, and of no use here
        for path, module in self.net.named_modules():
            _stand_in(module)
            module.register_forward_pre_hook(lambda m, a, path=path or "the model": self.where.append(path))
            module.register_forward_hook(lambda m, a, y: self.where.pop() and None)

    @torch.enable_grad()
    def __call__(self, theta: Params) -> Flow:
        self._check(theta)
        device = next(iter(self.net.state_dict().values())).device
        self.leaves, self.constant = {}, set()
        for key in self.spec:
            if self.first[key] == key:  # of tied weights one is enough
                self.leaves[key] = working(theta[key]).detach().to(device).requires_grad_()
        weights: dict[str, Tensor] = {key: Traced.weight(leaf, key, self) for key, leaf in self.leaves.items()}
        self.where = ["the model"]
        args, kwargs = (
            _mapped(given, lambda x: Traced.input(x.to(device), self)) for given in (self.args, self.kwargs)
        )
        result = functional_call(self.net, weights, args, kwargs)
        return self._finish(_outputs(result))

    def _check(self, theta: Params) -> None:
        got = {k: s for k, (s, _) in structure(theta).items()}
        for key in self.spec:
            if key not in got and self.first[key] == key:
                raise ValueError(f"missing key '{key}': the model has such a tensor")
            if key in got and got[key] != self.spec[key]:
                raise ValueError(f"'{key}': got shape {got[key]}, expected {self.spec[key]}, as in the model")
        if more := sorted(got.keys() - self.spec.keys()):
            raise ValueError(f"unknown key '{more[0]}' ({len(more)} in all): the model has no such tensor")

    def _finish(self, outputs: "list[Traced]") -> Flow:
        if not outputs:
            raise ValueError("got no output that a flow has reached, expected a tensor, a tuple or a dict of them")
        leaves, best = list(self.leaves.values()), (-1, 0.0, ())  # how many are reached, ln R, gradients
        for y in outputs:  # R is one of them: that which most tensors lead to
            R = y.raw().sum()
            if not (R.isfinite() and R > 0):
                raise ValueError(f"path strength R: got {R.item()}, expected a positive finite number")
            grads = torch.autograd.grad(R.log(), leaves, allow_unused=True, retain_graph=True)
            reached = sum(g is not None for g in grads)
            if reached > best[0]:
                best = reached, y.log_scale + R.log().item(), grads
        _, log_R, grads = best
        lost = [k for k, g in zip(self.leaves, grads, strict=True) if g is None and k not in self.constant]
        if lost and self.policy == "refuse":
            raise ValueError(
                f"no flow passes through '{lost[0]}' ({len(lost)} in all: {', '.join(lost[:6])}); "
                "module_flow(..., unreached='size') ranks their entries by the size of the updates alone"
            )
        self.unreached = [k for k, g in zip(self.leaves, grads, strict=True) if g is None]
        of = {}
        for (key, leaf), g in zip(self.leaves.items(), grads, strict=True):
            of[key] = torch.ones_like(leaf) if g is None else g.abs()
            if not of[key].isfinite().all():
                raise ValueError(f"'{key}': the gradient of ln R is NaN or infinite, expected finite numbers")
        return Flow(
            log_R, {key: (of[self.first[key]], torch.ones((), device=of[self.first[key]].device)) for key in self.spec}
        )


# ---------------------------------------------------------------------------- tensors that know the rules


class Traced(Tensor):
    """A tensor on its way through the surrogate: `kind`, and for a flow `log_scale`, ln of what was divided out of it.

    kind: "ones" (floating input), "ids" (integer input), "flow", "weight" (a parameter, signed; `key` is its name),
    "scores" (q k^T, before the soft-max), "attention" (after it).
    """

    kind: str
    run: _ModuleFlow
    log_scale: float
    key: str

    @staticmethod
    def make(x: Tensor, kind: str, run: _ModuleFlow, log: float = 0.0, key: str = "") -> "Traced":
        y = x.as_subclass(Traced)
        y.kind, y.run, y.log_scale, y.key = kind, run, log, key
        return y

    @staticmethod
    def weight(leaf: Tensor, key: str, run: _ModuleFlow) -> "Traced":
        return Traced.make(leaf.view_as(leaf), "weight", run, key=key)

    @staticmethod
    def input(x: Tensor, run: _ModuleFlow) -> "Traced":
        if x.is_floating_point():
            return Traced.make(torch.ones_like(x, dtype=_dtype(run)), "ones", run)
        return Traced.make(x, "ids", run)

    def raw(self) -> Tensor:
        return self.as_subclass(Tensor)

    def like(self, x: Tensor, kind: str | None = None) -> "Traced":
        """The same kind of thing with other numbers."""
        return Traced.make(x, kind or self.kind, self.run, self.log_scale, self.key)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            traced = [x for x in _flat([args, kwargs]) if isinstance(x, Traced)]
            name = func.__name__.strip("_")
            if name == "get":  # a property: shape, dtype, device; or T, mT
                value = func(_raw(args[0]))
                return args[0].like(value) if isinstance(value, Tensor) else value
            if name in QUESTIONS:
                return func(*_mapped(args, _raw), **_mapped(kwargs, _raw))
            run = traced[0].run
            if all(x.kind == "ids" for x in traced) and name not in MOVES:
                return func(*_mapped(args, _raw), **_mapped(kwargs, _raw))  # masks and positions, made from ids
            rule = RULES.get(name)
            if rule is None:
                raise ValueError(
                    f"'{run.where[-1]}': module_flow does not know the operation '{name}' on a "
                    f"{', '.join(dict.fromkeys(x.kind for x in traced))} (its rules are in samerge_edu/flow.py)"
                )
            return rule(func, *args, **kwargs)


def _raw(x):
    return x.as_subclass(Tensor) if isinstance(x, Traced) else x


def _kind(x) -> str:
    return x.kind if isinstance(x, Traced) else "constant"


def _dtype(run: _ModuleFlow) -> torch.dtype:
    return next((leaf.dtype for leaf in run.leaves.values()), torch.float32)


def _refuse(x: Traced, why: str):
    raise ValueError(f"'{x.run.where[-1]}': {why}")


def _scaled(x: Traced, always: bool = False) -> Traced:
    """x divided by its mean, which its logarithm remembers."""
    mean = x.raw().abs().mean().item()
    if not 0 < mean < math.inf:
        _refuse(x, f"got a flow of {mean} out of this layer, expected a positive finite number")
    if not always and 1 / FAR_FROM_ONE < mean < FAR_FROM_ONE:
        return x
    return Traced.make(x.raw() / mean, x.kind, x.run, x.log_scale + math.log(mean))


def _aligned(xs: Sequence[Traced]) -> tuple[list[Tensor], float]:
    """Several flows in one unit, and its logarithm."""
    log = max(x.log_scale for x in xs)
    return [x.raw() * math.exp(x.log_scale - log) if x.log_scale != log else x.raw() for x in xs], log


def _offset(w: Traced, y: Tensor) -> Tensor:
    """What a parameter adds to the flow y: the value 0, and a gradient.

    Of a parameter with a row for each position every row counts as if it were all positions': tokens are equal.
    """
    leaf = w.run.leaves[w.key] if w.key else w.raw()
    by_position = leaf.ndim >= 2 and w.ndim >= 2 and y.ndim <= 3 and leaf.shape[-1] == w.shape[-1] == y.shape[-1]
    if by_position:
        row = leaf.flatten(0, -2).sum(dim=0)
        return row - row.detach()
    return w.raw() - w.raw().detach()


# ---------------------------------------------------------------------------- the rules

QUESTIONS = set(
    "size dim ndimension numel stride is_contiguous is_floating_point is_complex len repr get_device zeros_like "
    "ones_like empty_like new_zeros new_ones new_full new_empty new_tensor element_size data_ptr storage_offset hash "
    "type is_nested is_inference".split()
)
"""Answered about the numbers as they are: the answer is no flow."""
MOVES = set(
    "view reshape permute transpose swapaxes flatten unflatten squeeze unsqueeze expand expand_as contiguous getitem "
    "chunk split unbind tensor_split clone detach repeat repeat_interleave narrow select movedim t roll view_as "
    "reshape_as tile broadcast_to index_select pad".split()
)
"""Entries get another place."""
POOLS = set(
    "mean sum avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d max_pool1d max_pool2d adaptive_max_pool2d "
    "boolean_dispatch fn neg interpolate".split()
)
"""Done as they are. ("fn" is how PyTorch calls max_pool2d; "neg" is half of a rotation of q and k.)"""
NOTHING = set(
    "gelu relu silu sigmoid tanh hardswish hardsigmoid leaky_relu elu selu mish softplus relu6 hardtanh clamp "
    "clamp_min dropout dropout1d dropout2d feature_dropout alpha_dropout to float double half bfloat16 type_as cuda "
    "cpu".split()
)
"""Activations, what does nothing in evaluation, and changes of dtype: the flow is kept as precise as it is."""


def _moves(func, x, *args, **kwargs):
    if not isinstance(x, Traced):
        _refuse(next(a for a in args if isinstance(a, Traced)), f"a flow as an index of '{func.__name__}'")
    y = func(x.raw(), *_mapped(args, _raw), **_mapped(kwargs, _raw))
    return type(y)(x.like(part) for part in y) if isinstance(y, tuple | list) else x.like(y)


def _pools(func, x, *args, **kwargs):
    kind = "flow" if x.kind == "ones" else x.kind
    return _mapped(func(x.raw(), *args, **kwargs), lambda y: x.like(y, kind) if y.is_floating_point() else y)


def _nothing(func, x, *args, **kwargs):
    return x


def _linear(func, x, W, b=None, *args, **kwargs):
    if _kind(x) not in ("ones", "flow") or _kind(W) != "weight":
        _refuse(W if isinstance(W, Traced) else x, f"'{func.__name__}' of a {_kind(x)} by a {_kind(W)}")
    y = func(x.raw(), W.raw().abs(), None, *args, **kwargs)
    if b is not None:
        shape = (-1,) + (1,) * (y.ndim - 2) if func.__name__.startswith("conv") else (-1,)
        y = y + (b.raw() - b.raw().detach()).view(shape)
    return _scaled(Traced.make(y, "flow", x.run, x.log_scale), always=x.kind == "ones")


def _matmul(func, a, b):
    if _kind(b) == "weight" or _kind(a) == "weight":
        weight, x = (b, a) if _kind(b) == "weight" else (a, b)
        y = func(_raw(a).abs() if weight is a else _raw(a), _raw(b).abs() if weight is b else _raw(b))
        return _scaled(Traced.make(y, "flow", weight.run, x.log_scale))
    if _kind(a) == "attention" and _kind(b) == "flow":
        return b.like(a.raw() @ b.raw())
    if _kind(a) == "flow" == _kind(b):
        return a.like(a.raw() @ b.raw(), "scores")
    _refuse(a if isinstance(a, Traced) else b, f"a product of a {_kind(a)} and a {_kind(b)}")


def _gate(logit: Tensor) -> Tensor:
    """Value 1, gradient the logit's relative change."""
    return 1 + (logit - logit.detach()) / logit.detach()


def _softmax(func, scores, *args, **kwargs):
    if _kind(scores) != "scores" or scores.shape[-1] != scores.shape[-2]:
        _refuse(
            scores, f"a soft-max of a {_kind(scores)} of shape {tuple(scores.shape)}, expected q k^T of one sequence"
        )
    return scores.like(torch.diag_embed(_gate(scores.raw().diagonal(dim1=-2, dim2=-1))), "attention")


def _attention(func, q, k, v, attn_mask=None, *args, **kwargs):
    _only_biases(attn_mask)
    if q.shape[-2] != k.shape[-2]:
        _refuse(q, f"attention of {q.shape[-2]} tokens to {k.shape[-2]} others: only self-attention has a rule")
    groups = q.shape[-3] // k.shape[-3]  # grouped queries share a key and a value
    k_raw, v_raw = (x.raw().repeat_interleave(groups, dim=-3) for x in (k, v))
    return v.like(_gate((q.raw() * k_raw).sum(dim=-1, keepdim=True)) * v_raw)


def _only_biases(mask) -> None:
    """Masks and relative positions change nothing between equal tokens."""
    if isinstance(mask, Traced) and mask.kind == "weight":
        mask.run.constant.add(mask.key)


def _multi_head(func, query, key, value, width, heads, W_in, b_in, bias_k, bias_v, zero, drop, W_out, b_out, **kwargs):
    if W_in is None or query.shape != key.shape or bias_k is not None:
        _refuse(query, "MultiheadAttention with separate or extra keys: only self-attention has a rule")
    qkv = _linear(F.linear, query, W_in, b_in)
    q, k, v = (x.unflatten(-1, (heads, -1)) for x in qkv.raw().chunk(3, dim=-1))
    gated = _gate((q * k).sum(dim=-1, keepdim=True)) * v
    return _linear(F.linear, qkv.like(gated.flatten(-2)), W_out, b_out), None


def _embedding(func, ids, W, *args, **kwargs):
    if _kind(ids) == "ids":  # the first layer: every row is as likely as any other
        x = W.raw().abs().sum(dim=0).expand(*ids.shape, W.shape[1])
        return _scaled(Traced.make(x, "flow", W.run), always=True)
    return W.like(func(_raw(ids), W.raw()))


def _norm(gain: Traced | None, bias: Traced | None, x: Traced, channels: int, variance: Tensor | float = 1.0) -> Traced:
    """y = |gain| x, entry by entry, along the dimension `channels` of x (-1: the last ones)."""

    def along(w: Tensor) -> Tensor:
        return w if channels == -1 else w.view((-1,) + (1,) * (x.ndim - 1 - channels))

    y = x.raw() / (along(_raw(variance)).abs().sqrt() if isinstance(variance, Tensor) else 1)
    y = y if gain is None else along(gain.raw()).abs() * y
    y = y if bias is None else y + along(bias.raw() - bias.raw().detach())
    return Traced.make(y, "flow", x.run, x.log_scale)


def _layer_norm(func, x, shape, weight=None, bias=None, eps=1e-5):
    return _norm(weight, bias, x, -1)


def _rms_norm(func, x, shape, weight=None, eps=None):
    return _norm(weight, None, x, -1)


def _group_norm(func, x, groups, weight=None, bias=None, eps=1e-5):
    return _norm(weight, bias, x, 1)


def _batch_norm(func, x, mean, variance, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    mu = _raw(mean).view((-1,) + (1,) * (x.ndim - 2))
    return _norm(weight, bias, x.like(x.raw() - (mu - mu.detach())), 1, _raw(variance).abs() + eps)


def _add(func, a, b, *args, alpha=1, **kwargs):
    kinds = {_kind(a), _kind(b)}
    if kinds & {"scores", "attention"}:
        _only_biases(a), _only_biases(b)
        return a if _kind(a) in ("scores", "attention") else b
    if kinds == {"flow"}:
        (x, y), log = _aligned([a, b])
        return _scaled(Traced.make(x + alpha * y, "flow", a.run, log), always=True)
    if kinds <= {"flow", "constant", "ids", "ones"}:  # a constant is an offset that nobody learns
        x = a if _kind(a) in ("flow", "ones") else b
        return x.like(x.raw().expand(torch.broadcast_shapes(a.shape if isinstance(a, Tensor) else (),
                                                            b.shape if isinstance(b, Tensor) else ())))  # fmt: skip
    if kinds == {"flow", "weight"}:
        x, w = (a, b) if _kind(a) == "flow" else (b, a)
        shape = torch.broadcast_shapes(x.shape, w.shape)
        return x.like(x.raw().expand(shape) + _offset(w, x.raw().expand(shape)))
    if kinds == {"weight", "constant"}:
        return (a if _kind(a) == "weight" else b).like(_raw(a) + _raw(b))
    _refuse(a if isinstance(a, Traced) else b, f"a sum of a {_kind(a)} and a {_kind(b)}")


def _mul(func, a, b, *args, **kwargs):
    x, y = (a, b) if isinstance(a, Traced) else (b, a)
    kinds = {_kind(a), _kind(b)}
    if kinds & {"scores", "attention"} or "constant" in kinds or "ids" in kinds:
        return x.like(_raw(a) * _raw(b)) if _kind(y) in ("constant", "ids") else x
    if kinds == {"flow", "weight"} or kinds == {"ones", "weight"}:
        flow = x if x.kind != "weight" else y
        return Traced.make(flow.raw() * (y if flow is x else x).raw().abs(), "flow", x.run, flow.log_scale)
    if kinds == {"flow"}:
        means = x.raw().abs().mean() * y.raw().abs().mean()
        return Traced.make(x.raw() * y.raw() / means.detach().sqrt(), "flow", x.run, (x.log_scale + y.log_scale) / 2)
    _refuse(x, f"a product of a {_kind(a)} and a {_kind(b)}")


def _div(func, a, b, *args, **kwargs):
    if isinstance(b, Traced):
        _refuse(b, f"a division by a {_kind(b)}")
    return a.like(a.raw() / b)


def _sub(func, a, b, *args, **kwargs):
    if isinstance(a, Traced) and isinstance(b, Traced):
        _refuse(b, f"a {_kind(b)} is subtracted from a {_kind(a)}")
    return a if isinstance(a, Traced) else b


def _cat(func, parts, dim=0, **kwargs):
    dim = kwargs.get("dim", kwargs.get("axis", dim))
    flows = [x for x in parts if _kind(x) == "flow"]
    if not flows:
        if {_kind(x) for x in parts} <= {"ids", "constant"} or len({_kind(x) for x in parts}) == 1:
            return next(x for x in parts if isinstance(x, Traced)).like(func([_raw(x) for x in parts], dim=dim))
        _refuse(next(x for x in parts if isinstance(x, Traced)), "a concatenation without a flow")
    aligned, log = _aligned(flows)
    tokens, offsets, whole = iter(aligned), [], []
    for x in parts:
        if _kind(x) == "flow":
            whole.append(next(tokens))
        elif _kind(x) == "weight":  # a class token: one more of the equal tokens, and an offset
            whole.append(aligned[0].mean(dim=dim, keepdim=True).expand(x.shape))
            offsets.append(x)
        elif x.numel():
            _refuse(flows[0], f"a concatenation of a flow and a {_kind(x)}")
    y = func(whole, dim=dim)
    for w in offsets:
        y = y + _offset(w, y)
    return Traced.make(y, "flow", flows[0].run, log)


def _masked(func, x, *args, **kwargs):
    if _kind(x) == "scores":
        return x
    _refuse(next(a for a in (x, *args) if isinstance(a, Traced)), f"'{func.__name__}' of a {_kind(x)}")


RULES: dict[str, Callable] = (
    dict.fromkeys(MOVES, _moves)
    | dict.fromkeys(POOLS, _pools)
    | dict.fromkeys(NOTHING | {f"{name}_" for name in NOTHING}, _nothing)
    | dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d"), _linear)
    | dict.fromkeys(("matmul", "bmm", "rmatmul", "mm"), _matmul)
    | dict.fromkeys(("add", "iadd", "radd", "add_"), _add)
    | dict.fromkeys(("mul", "imul", "rmul", "mul_", "multiply"), _mul)
    | dict.fromkeys(("div", "truediv", "itruediv", "div_", "true_divide"), _div)
    | dict.fromkeys(("sub", "isub", "rsub", "sub_"), _sub)
    | dict.fromkeys(("masked_fill", "masked_fill_"), _masked)
    | dict.fromkeys(("cat", "concat", "concatenate"), _cat)
    | dict.fromkeys(("softmax", "log_softmax"), _softmax)
    | {
        "scaled_dot_product_attention": _attention,
        "multi_head_attention_forward": _multi_head,
        "embedding": _embedding,
        "layer_norm": _layer_norm,
        "rms_norm": _rms_norm,
        "group_norm": _group_norm,
        "batch_norm": _batch_norm,
    }
)


# ---------------------------------------------------------------------------- modules that are one rule


def _stand_in(module: nn.Module) -> None:
    """Activations and root-mean-square norms that are written out in Python are known by their class's name."""
    name = type(module).__name__
    if any(True for _ in module.children()):
        return
    own = dict(module.named_parameters(recurse=False))
    if not own and any(
        word in name.lower() for word in ("gelu", "silu", "swish", "activation", "relu", "tanh", "sigmoid")
    ):
        module.forward = lambda x, *args, **kwargs: x
    elif list(own) == ["weight"] and own["weight"].ndim == 1 and ("RMSNorm" in name or name == "T5LayerNorm"):
        if not isinstance(module, nn.RMSNorm):
            module.forward = lambda x: _norm(_gain_of(module), None, x, -1)


def _gain_of(norm: nn.Module) -> Traced:
    """The gain of a root-mean-square norm: its weight, or 1 + its weight, as Gemma has it."""
    weight: Any = norm.weight  # a Traced by now: `functional_call` has put it there
    return weight.like(1 + weight.raw()) if type(norm).__name__.startswith("Gemma") else weight


# ---------------------------------------------------------------------------- what goes in and comes out


def _call(example: object) -> tuple[tuple, dict]:
    if isinstance(example, Mapping):
        return (), dict(example)
    return (tuple(example) if isinstance(example, tuple | list) else (example,)), {}


def _mapped(tree, f: Callable):
    """f of every tensor in tuples, lists and dictionaries."""
    if isinstance(tree, Tensor):
        return f(tree)
    if isinstance(tree, tuple | list) and not isinstance(tree, torch.Size):
        return (
            type(tree)([_mapped(x, f) for x in tree])
            if type(tree) in (tuple, list)
            else tuple(_mapped(x, f) for x in tree)
        )
    return {k: _mapped(x, f) for k, x in tree.items()} if isinstance(tree, dict) else tree


def _flat(tree) -> list:
    if isinstance(tree, tuple | list):
        return [leaf for x in tree for leaf in _flat(x)]
    return [leaf for x in tree.values() for leaf in _flat(x)] if isinstance(tree, dict) else [tree]


def _outputs(result: object) -> list[Traced]:
    """Every flow in a model's result, one level deep."""
    if isinstance(result, Mapping):
        result = list(result.values())
    results = result if isinstance(result, tuple | list) else [result]
    return [y for y in results if isinstance(y, Traced) and y.kind == "flow"]


def _first_names(model: nn.Module) -> dict[str, str]:
    """Name -> the first name of the same tensor: tied weights are one."""
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    first: dict[int, str] = {}
    for key, x in named:
        first.setdefault(id(x), key)
    return {key: first[id(x)] for key, x in named}
