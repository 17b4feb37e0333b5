"""Slow and obvious versions of the flow: walk every path, or let autograd differentiate every weight."""

import itertools
import math
from fractions import Fraction

import torch
import torch.nn.functional as F


def sum_over_paths(weights):
    """(R, [dR/d|W|, ...]) of a bias-free chain by walking each path from an input to an output, in float64."""
    sizes = [weights[0].shape[1]] + [W.shape[0] for W in weights]
    weights = [W.detach().double().abs().tolist() for W in weights]
    R, grads = 0.0, [torch.zeros(o, i, dtype=torch.float64).tolist() for i, o in itertools.pairwise(sizes)]
    for path in itertools.product(*(range(s) for s in sizes)):
        edges = [W[path[i + 1]][path[i]] for i, W in enumerate(weights)]
        R += math.prod(edges)
        for i in range(len(edges)):
            grads[i][path[i + 1]][path[i]] += math.prod(edges[:i] + edges[i + 1 :])
    return R, [torch.tensor(G, dtype=torch.float64) for G in grads]


def split_names(theta, blocks):
    """The same tower under Hugging Face's names, q, k and v apart."""
    out = {
        "vision_model.embeddings.class_embedding": theta["class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": theta["conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": theta["positional_embedding"],
        "visual_projection.weight": theta["proj"].T.contiguous(),
    }
    for kind in ("weight", "bias"):
        out[f"vision_model.pre_layrnorm.{kind}"] = theta[f"ln_pre.{kind}"]
        out[f"vision_model.post_layernorm.{kind}"] = theta[f"ln_post.{kind}"]
        for i in range(blocks):
            here, there = f"transformer.resblocks.{i}.", f"vision_model.encoder.layers.{i}."
            for which, part in zip("qkv", theta[f"{here}attn.in_proj_{kind}"].chunk(3), strict=True):
                out[f"{there}self_attn.{which}_proj.{kind}"] = part.clone()
            out[f"{there}self_attn.out_proj.{kind}"] = theta[f"{here}attn.out_proj.{kind}"]
            out[f"{there}layer_norm1.{kind}"] = theta[f"{here}ln_1.{kind}"]
            out[f"{there}layer_norm2.{kind}"] = theta[f"{here}ln_2.{kind}"]
            out[f"{there}mlp.fc1.{kind}"] = theta[f"{here}mlp.c_fc.{kind}"]
            out[f"{there}mlp.fc2.{kind}"] = theta[f"{here}mlp.c_proj.{kind}"]
    return out


def random_tower(
    generator, blocks=2, width=8, mlp=12, out=5, patch=2, tokens=5, scale=lambda: 1.0, dtype=torch.float32
):
    """A small CLIP image tower under open_clip's names, in which no two dimensions that could be mixed up are equal."""
    shapes = {"class_embedding": (width,), "positional_embedding": (tokens, width), "proj": (width, out)}
    shapes |= {"conv1.weight": (width, 3, patch, patch), "ln_pre.weight": (width,), "ln_pre.bias": (width,)}
    for i in range(blocks):
        layers = {"ln_1": (width,), "ln_2": (width,), "attn.out_proj": (width, width)}
        layers |= {"mlp.c_fc": (mlp, width), "mlp.c_proj": (width, mlp), "attn.in_proj": (3 * width, width)}
        for layer, shape in layers.items():
            dot = "_" if layer == "attn.in_proj" else "."
            shapes[f"transformer.resblocks.{i}.{layer}{dot}weight"] = shape
            shapes[f"transformer.resblocks.{i}.{layer}{dot}bias"] = shape[:1]
    shapes |= {"ln_post.weight": (width,), "ln_post.bias": (width,)}
    return {k: scale() * torch.randn(s, generator=generator, dtype=dtype) for k, s in shapes.items()}


def tower_strength(theta, heads, centre, logits, tokens=5):
    """R of the tower on an all-ones image, token by token and with a real soft-max, in the dtype given.

    What is said to have value 0 (biases, class token, positions) or 1 (the gate of a head) has it at `centre`;
    `logits` is a dict that the first call, at the centre, fills. R is read from token 0, which starts as one
    more copy of the patch token.
    """

    def offset(key):
        return theta[key].abs() - centre[key].abs()

    def norm(x, layer):
        return x * theta[layer + ".weight"].abs() + offset(layer + ".bias")

    def linear(x, weight):
        return x @ theta[weight].abs().T + offset(weight.removesuffix("weight") + "bias")

    W = theta["conv1.weight"].abs()
    image = torch.ones(1, 3, W.shape[-1], (tokens - 1) * W.shape[-1], dtype=W.dtype)
    patches = F.conv2d(image, W, stride=W.shape[-1]).flatten(2)[0].T  # (tokens - 1, width)
    x = torch.cat([patches[:1], patches]) + offset("class_embedding") + offset("positional_embedding")
    x = norm(x, "ln_pre")
    i = 0
    while (block := f"transformer.resblocks.{i}.") + "ln_1.weight" in theta:
        qkv = linear(norm(x, block + "ln_1"), block + "attn.in_proj_weight").chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (heads, -1)) for part in qkv)  # (tokens, heads, width of a head)
        logit = (q * k).sum(dim=-1, keepdim=True)  # every token with itself, and so with every other
        gate = logit / logits.setdefault(block, logit.detach())
        attention = torch.softmax(torch.einsum("ahd,bhd->hab", q, k), dim=-1)
        mixed = torch.einsum("hab,bhd->ahd", attention, v) * gate
        x = x + linear(mixed.flatten(1), block + "attn.out_proj.weight")
        x = x + linear(linear(norm(x, block + "ln_2"), block + "mlp.c_fc.weight"), block + "mlp.c_proj.weight")
        i += 1
    return (norm(x, "ln_post")[0] @ theta["proj"].abs()).sum()


def sa_merging_slowly(theta_0, taus, gradient, T, p, modulation):
    """Algorithm 1 with a loop for rounds, experts and entries. `gradient(theta)` -> {key: |dR/dtheta|}, any scale.

    Fractions and sorting in plain Python; survivors are remembered in a set, not read off the zeros.
    """
    p = Fraction(str(p))
    taus = [{k: t.clone() for k, t in tau.items()} for tau in taus]
    alive = [{k: set(range(t.numel())) for k, t in tau.items()} for tau in taus]
    for t in range(1, T + 1):
        total = {k: sum(tau[k] for tau in taus) for k in theta_0}
        new = [{k: v.clone() for k, v in tau.items()} for tau in taus]
        for n, tau in enumerate(taus):
            theta = {k: theta_0[k] + tau[k] for k in theta_0}
            G = gradient(theta)
            for k in theta_0:
                scores = []
                for i in alive[n][k]:
                    g, own, all_of_them = (x.flatten()[i].item() for x in (G[k], tau[k], total[k]))
                    S = {
                        "literal": math.copysign(1, theta[k].flatten()[i].item()) * g * all_of_them,
                        "agreement": g * math.copysign(1, own) * all_of_them,
                        "abs": abs(g * all_of_them),
                        "none": abs(g * own),
                    }[modulation]
                    scores.append((-S, i))
                keep = math.ceil((1 - p) ** t * tau[k].numel())
                alive[n][k] = {i for _, i in sorted(scores)[:keep]}
                for i in range(tau[k].numel()):
                    if i not in alive[n][k]:
                        new[n][k].view(-1)[i] = 0
        taus = new
    return taus
