"""What is measured on data, before any merge: Fisher diagonals, input Grams, features, activations, gradients.

Each function looks at the first n images of one split of one task, under one set of parameters, and returns plain
tensors; a merge gets them as an argument. Who looks at what:

    features, activations, input_grams, fisher (kinds "true" and "batch")     images only
    gradients, fisher (kind "empirical")                                      images and labels

Test labels are refused always, test images unless the caller says `transductive=True`.
"""

from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call, grad, vjp, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from .params import Params
from .suites.suite import Suite

aten = torch.ops.aten

# ---------------------------------------------------------------------------- images


def unlabelled(suite: Suite, task: str, n: int, split: str = "train", transductive: bool = False) -> Tensor:
    """(n, 3, H, W): the first n images of a split, without their labels.

    Raises ValueError for a task without a head, for n < 1, and for the test split unless `transductive` is True.
    """
    return _images(suite, task, n, split, transductive)[0]


def labelled(suite: Suite, task: str, n: int, split: str = "train") -> tuple[Tensor, Tensor]:
    """(n, 3, H, W) images and (n,) labels of the train or val split.

    Raises ValueError as `unlabelled` does, for the test split always, and for a label that is no class of the task.
    """
    images, labels = _images(suite, task, n, split, transductive=False)
    classes = len(suite.heads[task])
    if not ((labels >= 0) & (labels < classes)).all():
        raise ValueError(f"labels of '{task}': got {labels.min()}..{labels.max()}, expected 0..{classes - 1}")
    return images, labels


def _images(suite: Suite, task: str, n: int, split: str, transductive: bool) -> tuple[Tensor, Tensor]:
    if task not in suite.heads:
        raise ValueError(f"task: got '{task}', which has no head; expected one of {', '.join(suite.heads)}")
    if n < 1:
        raise ValueError(f"n: got {n} images, expected at least 1")
    if split == "test" and not transductive:
        raise ValueError("split: got 'test', expected 'train' or 'val'; to adapt to test images say transductive=True")
    if split != "test" and transductive:
        raise ValueError(f"transductive: got True with split '{split}', expected split 'test'")
    return suite.images(task, split, n)


# ---------------------------------------------------------------------------- one pass forward


def embed(suite: Suite, theta: Params, images: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n dim"]:
    """(n, dim): image features of length 1, differentiable in theta, always in float32 (`suite.encode` is neither).

    Attention is written out: on a CPU the fused kernel's backward pass is slower, and `vmap` cannot batch it.
    """
    with sdpa_kernel(SDPBackend.MATH):
        return F.normalize(functional_call(suite.visual, dict(theta), (images,)), dim=-1)


def logits(suite: Suite, z: Float[Tensor, "n dim"], task: str) -> Float[Tensor, "n classes"]:
    """(n, classes): logit scale times the cosine of each feature z of length 1 and each class head."""
    return suite.logit_scale * z @ suite.heads[task].clone().T  # a head may come from inference mode: no gradients


def features(
    suite: Suite, theta: Params, task: str, n: int = 64, split: str = "train", transductive: bool = False
) -> Tensor:
    """(n, dim): image features of length 1."""
    return suite.encode(theta, unlabelled(suite, task, n, split, transductive)).clone()  # no inference tensor


def input_grams(
    suite: Suite,
    theta: Params,
    task: str,
    n: int = 64,
    split: str = "train",
    transductive: bool = False,
    batch: int = 64,
    names: Collection[str] | None = None,
) -> dict[str, Tensor]:
    """{name of W (out, in): (in, in)}: G = X^T X / rows, where the rows of X are all inputs that W has seen.

    One row a token, so 64 pocket images are 1088 rows; G is float64. The products are caught where PyTorch carries
    them out, because open_clip keeps q, k and v in one *fused* matrix, `attn.in_proj_weight`, that no nn.Linear owns
    and no hook on one sees (`attn.out_proj` neither: nn.MultiheadAttention never calls it). A matrix used as x @ W,
    such as `proj`, has its inputs on the other side and is left out, as in RegMean's own code. `names`: these only.
    Memory: 8 in^2 bytes a matrix (20 MiB for pocket, 1.4 GiB for ViT-B/32), and one batch's inputs.
    Limits: rank(G) <= rows. Inputs of a trained network are far from white: the condition number of a pocket G is
    10^6 and more, so solve, never invert.
    """
    sums: dict[str, Tensor] = {}
    rows: dict[str, int] = {}

    def see(key: str, x: Tensor) -> None:
        if names is None or key in names:
            x = x.double()  # in float32 a direction without any input would come out as noise, and be solved for
            sums[key] = sums.get(key, 0) + x.T @ x
            rows[key] = rows.get(key, 0) + len(x)

    _watch(suite, theta, unlabelled(suite, task, n, split, transductive), batch, see)
    return {key: sums[key] / rows[key] for key in sums}


def activations(
    suite: Suite,
    theta: Params,
    task: str,
    n: int = 16,
    split: str = "train",
    transductive: bool = False,
    batch: int = 64,
) -> dict[str, Tensor]:
    """{name of W (out, in): (rows, out)}: what each matrix answers, X W^T without the bias, one row a token.

    The order of the rows is the same for all models of one architecture: row i of two of them is the same token of
    the same image. Memory: 4 rows * out bytes a matrix.
    """
    seen: dict[str, list[Tensor]] = {}
    theta = on_device(suite, theta)

    def see(key: str, x: Tensor) -> None:
        seen.setdefault(key, []).append(x @ theta[key].T)

    _watch(suite, theta, unlabelled(suite, task, n, split, transductive), batch, see)
    return {key: torch.cat(seen[key]) for key in seen}


def _watch(suite: Suite, theta: Params, images: Tensor, batch: int, see: Callable[[str, Tensor], None]) -> None:
    theta = on_device(suite, theta)
    with torch.no_grad(), slow_attention():
        for x in images.split(batch):
            with _Products(theta, see):
                functional_call(suite.visual, theta, (x,))


@contextmanager
def slow_attention() -> Generator[None]:
    """Attention product by product: PyTorch has a kernel for the whole layer, for an even number of heads."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class _Products(TorchDispatchMode):
    """see(key, x (rows, in)) at each x W^T with a matrix W of theta."""

    def __init__(self, theta: Params, see: Callable[[str, Tensor], None]):
        super().__init__()
        self.see = see
        self.keys = {(W.data_ptr(), W.T.shape, W.T.stride()): key for key, W in theta.items() if W.ndim == 2}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func in (aten.mm.default, aten.addmm.default, aten.bmm.default):  # (x, W^T), (b, x, W^T), one a token
            x, Wt = args[-2:]
            Wt = Wt[0] if Wt.ndim == 3 else Wt
            key = self.keys.get((Wt.data_ptr(), Wt.shape, Wt.stride()))
            if key is not None:
                self.see(key, x.reshape(-1, x.shape[-1]))
        return func(*args, **(kwargs or {}))


# ---------------------------------------------------------------------------- and one backward


def gradients(
    suite: Suite, theta: Params, task: str, n: int = 64, split: str = "train", batch: int = 64
) -> dict[str, Tensor]:
    """{name: dL/dtheta}, L = mean cross-entropy of the n labelled images. Memory: one more model, and one batch's."""
    images, labels = labelled(suite, task, n, split)
    theta = {key: value.requires_grad_() for key, value in on_device(suite, theta).items()}
    for x, y in zip(images.split(batch), labels.split(batch), strict=True):
        (F.cross_entropy(logits(suite, embed(suite, theta, x), task), y, reduction="sum") / len(images)).backward()
    return {key: torch.zeros_like(value) if value.grad is None else value.grad for key, value in theta.items()}


Kind = Literal["true", "empirical", "batch"]


def fisher(
    suite: Suite,
    theta: Params,
    task: str,
    n: int = 64,
    split: str = "train",
    kind: Kind = "true",
    transductive: bool = False,
    batch: int = 16,
) -> dict[str, Tensor]:
    """{name: diagonal of the Fisher information}, how much each entry of each parameter matters to the task.

        "true"        F = 1/n sum_i sum_c p_ic (d log p_ic / d theta)^2       over the model's own labels, Matena and
                      Raffel (arXiv:2111.09832, eq. 3)
        "empirical"   F = 1/n sum_i (d log p_i,y_i / d theta)^2               at the given labels y: needs them
        "batch"       F = 1/n sum_batches (d/d theta sum_i sum_c stop(sqrt(p_ic)) log p_ic)^2
                      what MergeLM and FusionBench compute: one backward pass a batch. The square of a sum is not the
                      sum of squares: gradients of different images and classes cancel first, so it is no Fisher, and
                      it changes with `batch`. Here to be compared, and as their golden value.

    where p_i = softmax(logits of image i), C classes. Vectorised by torch.func: "true" takes the C gradients of one
    image together, "empirical" those of `batch` images. Memory: C, or `batch`, times the model.
    Raises ValueError as `unlabelled` and `labelled` do, and for an unknown kind.
    """
    if kind not in ("true", "empirical", "batch"):
        raise ValueError(f"kind: got '{kind}', expected 'true', 'empirical' or 'batch'")
    if kind == "empirical":
        images, labels = labelled(suite, task, n, split)
    else:
        images = unlabelled(suite, task, n, split, transductive)
    theta = on_device(suite, theta)

    def log_p(theta: Params, x: Tensor) -> Tensor:
        return logits(suite, embed(suite, theta, x), task).log_softmax(dim=-1)

    def at_label(theta: Params, x: Tensor, y: Tensor) -> Tensor:
        return log_p(theta, x[None])[0].gather(0, y[None])[0]

    def expected(theta: Params, x: Tensor) -> Tensor:
        lp = log_p(theta, x)
        return (lp.detach().exp().sqrt() * lp).sum()

    F_ = {key: torch.zeros_like(value) for key, value in theta.items()}
    if kind == "true":
        for x in images.split(1):
            lp, pull = vjp(lambda t, x=x: log_p(t, x)[0], theta)[:2]
            (g,) = vmap(pull)(lp.exp().sqrt().diag())  # row c: sqrt(p_c) d log p_c / d theta
            for key in F_:
                F_[key] += g[key].square().sum(dim=0)
    elif kind == "empirical":
        for x, y in zip(images.split(batch), labels.split(batch), strict=True):
            g = vmap(grad(at_label), in_dims=(None, 0, 0))(theta, x, y)
            for key in F_:
                F_[key] += g[key].square().sum(dim=0)
    else:
        for x in images.split(batch):
            g = grad(expected)(theta, x)
            for key in F_:
                F_[key] += g[key].square()
    return {key: F_[key] / len(images) for key in F_}


def on_device(suite: Suite, theta: Params) -> dict[str, Tensor]:
    """theta in float32 where the suite computes, without gradients; the tower is told not to train.

    What is so already is the caller's own tensor: clone before writing into it.
    """
    suite.visual.eval()
    return {key: theta[key].detach().to(suite.device, torch.float32) for key in theta}
