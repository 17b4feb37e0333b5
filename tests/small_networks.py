"""Small chains and a small tower for the tests of alignment: seconds, not minutes."""

from itertools import pairwise

import torch
from open_clip.transformer import VisionTransformer

from samerge_edu.alignment.axes import vit_axes


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def mlp(*sizes, seed=0):
    """A chain of linear layers under nn.Sequential's names."""
    g = seeded(seed)
    theta = {}
    for i, (n, m) in enumerate(pairwise(sizes)):
        theta[f"{2 * i}.weight"] = torch.randn(m, n, generator=g) / n**0.5
        theta[f"{2 * i}.bias"] = torch.randn(m, generator=g)
    return theta


def answer(theta, x):
    """What a chain with one ReLU between its layers says to inputs x (n, inputs)."""
    *hidden, last = [key.removesuffix(".weight") for key in theta if key.endswith(".weight")]
    for layer in hidden:
        x = torch.relu(torch.nn.functional.linear(x, theta[f"{layer}.weight"], theta[f"{layer}.bias"]))
    return torch.nn.functional.linear(x, theta[f"{last}.weight"], theta[f"{last}.bias"])


def noisy(theta, level, seed=9):
    """With normal noise of `level` times the spread of each tensor."""
    g = seeded(seed)
    return {k: v + level * v.std() * torch.randn(v.shape, generator=g) for k, v in theta.items()}


def close(a, b, atol=1e-6):
    return all(torch.allclose(a[k], b[k], atol=atol) for k in a)


def small_tower():
    """A ViT of width 8 with two heads, large biases, and its module."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = VisionTransformer(8, 4, width=8, layers=2, heads=2, mlp_ratio=1.5, output_dim=5).eval()
    theta = noisy({k: v.detach() for k, v in module.state_dict().items()}, 0.3)
    theta = {k: v if v.isfinite().all() else module.state_dict()[k] for k, v in theta.items()}
    theta = {k: v + 0.3 * torch.randn(v.shape, generator=seeded(4)) for k, v in theta.items()}
    return theta, vit_axes(theta, 2), lambda theta, x: torch.func.functional_call(module, dict(theta), (x,))
