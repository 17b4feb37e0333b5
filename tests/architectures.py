"""Small models of the architectures people have, from their configurations, at random: nothing is downloaded."""

import warnings
from collections.abc import Callable

import torch
from torch import nn

IMAGE, IDS = (1, 3, 32, 32), torch.arange(2, 10)[None]


def _hf(model: str, config: str, **sizes) -> nn.Module:
    import transformers

    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    return getattr(transformers, model)(
        getattr(transformers, config)(**(sizes if "d_model" in sizes else small | sizes))
    )


def _resnet18() -> nn.Module:
    from torchvision.models import resnet18

    return resnet18(num_classes=10)


def _torchvision_vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=48, num_classes=5)


def _timm(name: str, **options) -> nn.Module:
    import timm

    return timm.create_model(name, num_classes=5, **options)


TEXT = {"vocab_size": 50, "max_position_embeddings": 20}
ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], object]] = {
    "torchvision ResNet-18": (_resnet18, torch.zeros(IMAGE)),
    "torchvision ViT": (_torchvision_vit, torch.zeros(IMAGE)),
    "timm ViT": (lambda: _timm("vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=24), torch.zeros(IMAGE)),
    "timm ConvNeXt": (lambda: _timm("convnext_atto", depths=(1, 1, 2, 1), dims=(8, 12, 16, 20)), torch.zeros(IMAGE)),
    "CLIPVisionModel": (
        lambda: _hf("CLIPVisionModel", "CLIPVisionConfig", image_size=32, patch_size=16),
        {"pixel_values": torch.zeros(IMAGE)},
    ),
    "ViTModel": (
        lambda: _hf("ViTModel", "ViTConfig", image_size=32, patch_size=16),
        {"pixel_values": torch.zeros(IMAGE)},
    ),
    "RobertaModel": (lambda: _hf("RobertaModel", "RobertaConfig", **TEXT), {"input_ids": IDS}),
    "T5 encoder": (
        lambda: _hf("T5EncoderModel", "T5Config", vocab_size=50, d_model=32, d_kv=16, d_ff=48, num_layers=2),
        {"input_ids": IDS},
    ),
    "LLaMA": (
        lambda: _hf("LlamaForCausalLM", "LlamaConfig", num_key_value_heads=1, **TEXT),
        {"input_ids": IDS},
    ),
}  # fmt: skip


def architecture(name: str, seed: int = 0) -> tuple[nn.Module, object]:
    """(model in evaluation mode, example): every floating number drawn anew, so that none is zero by initialisation."""
    build, example = ARCHITECTURES[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build().eval()
        with torch.no_grad():
            for key, x in model.state_dict().items():
                if x.is_floating_point():
                    x.copy_(torch.rand_like(x) + 0.5 if key.endswith("running_var") else 0.3 * torch.randn_like(x))
    return model, example


def expert_of(model: nn.Module, seed: int, step: float = 0.02) -> dict[str, torch.Tensor]:
    """A state dict a little away from the model's."""
    g = torch.Generator().manual_seed(seed)
    moved, seen = {}, {}
    for key, x in model.state_dict().items():
        if x.data_ptr() not in seen:  # tied weights stay tied
            noise = step * torch.randn(x.shape, generator=g) if x.is_floating_point() else 0
            seen[x.data_ptr()] = x + noise if x.is_floating_point() else x.clone()
        moved[key] = seen[x.data_ptr()]
    return moved


def floats(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.detach() for k, v in model.state_dict().items() if v.is_floating_point()}


# ---------------------------------------------------------------------------- the matrix architecture x method

QUICK = {"T": 1, "steps": 2}
"""Knobs that make a method quick, where it has them: whether it runs is the question here, not how well."""


def verdicts() -> dict[str, dict[str, str]]:
    """architecture -> method -> "" where `se.merge` works, and the result loads; else the sentence of the refusal."""
    import samerge_edu as se
    from samerge_edu.merging import knobs_of
    from samerge_edu.methods import Checkpoints

    table = {}
    for name in ARCHITECTURES:
        model, example = architecture(name)
        experts = [expert_of(model, seed) for seed in (1, 2)]
        table[name] = {}
        for method, row in se.METHODS.items():
            try:
                knobs = knobs_of(row.recipe(Checkpoints({}, flow=lambda theta: None)))
                quick = {k: v for k, v in QUICK.items() if k in knobs}
                loaded, _ = architecture(name)
                with warnings.catch_warnings():  # two small experts may be just as many equations as inputs
                    warnings.simplefilter("ignore", UserWarning)
                    merged = se.merge(model, experts, method, model=model, example=example, **quick)
                loaded.load_state_dict(merged)
                table[name][method] = ""
            except ValueError as e:
                table[name][method] = " ".join(str(e).split())
    return table


def as_markdown(table: dict[str, dict[str, str]]) -> str:
    """One row a method, one column an architecture: yes, or the number of the sentence below."""
    sentences = list(dict.fromkeys(s for column in table.values() for s in column.values() if s))
    methods = list(next(iter(table.values())))
    lines = [
        "# Which method works on which architecture",
        "",
        "Written by `python tests/architectures.py`, checked by tests/test_architectures.py: small models of random",
        "weights, two experts each, merged by `se.merge(..., model=model, example=example)` and loaded again.",
        "",
        "| method | " + " | ".join(table) + " |",
        "|---" * (len(table) + 1) + "|",
    ]
    for method in methods:
        cells = [
            f"no ({sentences.index(column[method]) + 1})" if column[method] else "yes" for column in table.values()
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    lines += ["", *(f"{n}. {sentence}" for n, sentence in enumerate(sentences, 1)), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    from pathlib import Path

    Path(__file__).parent.parent.joinpath("docs", "architectures.md").write_text(
        as_markdown(verdicts()), encoding="utf-8"
    )
