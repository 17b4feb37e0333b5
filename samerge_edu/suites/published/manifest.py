"""What the real suites are made of: every file on the hub, its size, its hash, its licence.

Three checkpoint families are in use in the literature and their numbers must not be mixed: "TA" (the Task
Arithmetic authors' pickles), "FB" (FusionBench's re-training) and "TALL" (inflated by a leak in DTD). The
suites here are FB; the LoRA adapters are KnOTS'.

A file with `sha256` is checked against it. Where it is None we did not know the hash when this was written: the
hub names every large file by its sha256, and the download is checked against that name.
"""

from collections.abc import Sequence
from dataclasses import dataclass

TA8 = ("sun397", "stanford-cars", "resisc45", "eurosat", "svhn", "gtsrb", "mnist", "dtd")
TALL14 = (*TA8, "oxford_flowers102", "pcam", "fer2013", "oxford-iiit-pet", "stl10", "cifar100")
TALL20 = (*TALL14, "cifar10", "food101", "fashion_mnist", "emnist_letters", "kmnist", "rendered-sst2")
WORKSHOP = ("mnist", "svhn", "eurosat", "gtsrb")
"""The default of a class: small test sets, minutes on a free GPU."""
OOD = ("cifar10", "fashion_mnist")
"""The default of tasks without an expert."""


@dataclass(frozen=True)
class Asset:
    """One file on the hub. `mb` is its size in 10^6 bytes, as the hub's page rounds it."""

    repo: str
    filename: str
    mb: float
    licence: str
    needed_by: str
    revision: str = "main"
    sha256: str | None = None


_FB_VAL = "the experts were trained on these images, too: a scale chosen on them is optimistic"
_TINY_VAL = "of no use: the miniature's experts were trained on it"


@dataclass(frozen=True)
class Model:
    """Where an architecture's base, full experts and LoRA experts are; `{task}` stands for the task's name.

    `family` and `lora_family` say whose training runs they are, `validation` and `lora_validation` what our "val" split
    is to them: printed beside every number.
    """

    base: str
    base_mb: float
    expert: str
    expert_mb: float
    lora: str
    lora_file: str
    lora_mb: float
    family: str = "FB: FusionBench's experts"
    lora_family: str = "KnOTS' LoRA experts"
    validation: str = _FB_VAL
    lora_validation: str = "five of the experts stopped early on a fifth of their test images: optimistic"


MODELS = {
    "ViT-B-32": Model(
        "timm/vit_base_patch32_clip_224.openai", 605, "tanganke/clip-vit-base-patch32_{task}", 350,
        "hoffman-lab/KnOTS-ViT-B-32_lora_R16_{task}", "adapter_model.bin", 4.75,
    ),
    "ViT-B-16": Model(
        "timm/vit_base_patch16_clip_224.openai", 599, "tanganke/clip-vit-base-patch16_{task}", 343,
        "tanganke/clip-vit-base-patch16_{task}_lora-16", "adapter_model.safetensors", 2.37,
        lora_family="FB: FusionBench's LoRA experts", lora_validation=_FB_VAL,
    ),
    "ViT-L-14": Model(
        "timm/vit_large_patch14_clip_224.openai", 1710, "tanganke/clip-vit-large-patch14_{task}", 1213,
        "hoffman-lab/KnOTS-ViT-L-14_lora_R16_{task}", "adapter_model.bin", 12.7,
    ),
    # The same format in miniature, made and served by tests/hub_server.py; it exists on no public hub.
    "ViT-tiny": Model(
        "samerge-edu/tiny-clip", 7, "samerge-edu/tiny-clip_{task}", 0.6,
        "samerge-edu/tiny-clip_lora_R4_{task}", "adapter_model.bin", 0.05,
        "tiny: made by tests/tiny_hub.py", "tiny: made by tests/tiny_hub.py", _TINY_VAL, _TINY_VAL,
    ),
}  # fmt: skip

SUITES = {  # the name for load_suite and the command line -> (architecture, LoRA experts?)
    "vit-b-32": ("ViT-B-32", False),
    "vit-b-32-lora": ("ViT-B-32", True),
    "vit-b-16": ("ViT-B-16", False),
    "vit-b-16-lora": ("ViT-B-16", True),
    "vit-l-14": ("ViT-L-14", False),
    "vit-l-14-lora": ("ViT-L-14", True),
    "vit-tiny": ("ViT-tiny", False),
    "vit-tiny-lora": ("ViT-tiny", True),
}

REVISIONS = {  # the commit that was current when this was written; "main" where we did not know it
    "timm/vit_base_patch32_clip_224.openai": "a6f597a30f7b82c51704746581f9a4e41421e878",
    "timm/vit_base_patch16_clip_224.openai": "977e3dd0ec55ab8da155f2fbeb6b5f54948b6e3d",
    "timm/vit_large_patch14_clip_224.openai": "18d0535469bb561bf468d76c1d73aa35156c922b",
    "tanganke/clip-vit-base-patch32_stanford-cars": "0fa3456c60f15e5cec5275c5b88851c1dca503a8",
    "tanganke/clip-vit-base-patch32_resisc45": "24dc3a3a4f1eda0090829d399edcda9963f462a2",
    "tanganke/clip-vit-base-patch32_eurosat": "7c114f53697b7acca1147a0d1e8b7c769979b57b",
    "tanganke/clip-vit-base-patch32_gtsrb": "7b11ced426cc9cd0430650be19d75748f3bd64d0",
    "tanganke/clip-vit-base-patch32_mnist": "9dd72a0941ca32ac7a796f0975d1fea496645b7f",
    "tanganke/clip-vit-base-patch32_cifar10": "1a596838cb54a5d34b68380dbf60891847e229b1",
}
HASHES = {  # sha256 of the repository's weights at that commit, as its page, or a cache's name for the file, shows it
    "timm/vit_base_patch32_clip_224.openai": "e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31",
    "timm/vit_base_patch16_clip_224.openai": "4b8699299b1e8997753c64b052ba32031449d5d853f55a039148560ee02b820f",
    "timm/vit_large_patch14_clip_224.openai": "9ce2e8a8ebfff3793d7d375ad6d3c35cb9aebf3de7ace0fc7308accab7cd207e",
    "tanganke/clip-vit-base-patch32_sun397": "12f022a6b6d2757cb3f109faa54bab6031cec0da5626ac7cdfc13f6ddad02725",
    "tanganke/clip-vit-base-patch32_eurosat": "36e0a56cf1a475df2338b573a8eebebe3592f94404c324c1ee103cda390532a8",
    "tanganke/clip-vit-base-patch32_svhn": "5885065fa8ac4b891213fd0bc61163dbfa08f316e031ee916f596394e4c66a63",
    "tanganke/clip-vit-base-patch32_gtsrb": "e87740392ae79431f180d5a80670095e403739912552d3a7d01fc5ca6d39c8a2",
    "tanganke/clip-vit-base-patch32_mnist": "2f314468305297b901243938151fc791ab92c5953a64568cf9213e2ff4e9e19e",
    "tanganke/clip-vit-base-patch32_cifar10": "effafc81bf88709c9cb125a69fbea14c01a052231425db8f732620b00337acb4",
    "hoffman-lab/KnOTS-ViT-B-32_lora_R16_dtd": "87d7e9f028d4d22341475ad4dc04fc641f6fe409de61bcb1b120a31a2bad8661",
    "hoffman-lab/KnOTS-ViT-B-32_lora_R16_svhn": "bcda4cc5d34c5448a5605c8b6b907e66adf00f4334025730989f296eb1c9dd56",
    "hoffman-lab/KnOTS-ViT-B-32_lora_R16_sun397": "c1c1f89aa5bcd28c284a647aeae56d1d1eb6324dc429cbcc8dd48383c02215ba",
    "hoffman-lab/KnOTS-ViT-B-32_lora_R16_eurosat": "8cfa1fcd1a0183e4036b47f27c7ae5ca5488a2dd1b0a3f7aa8078ad1f851c240",
}

WARNINGS = {  # what is known to be wrong with a repository's file: said before it is fetched and when it is loaded
    "hoffman-lab/KnOTS-ViT-B-32_lora_R16_sun397": "a broken adapter: 19.6 % on SUN397, where the base alone has 62.0 "
    "(KnOTS on GitHub, issue 13); it spoils every merge that it is in",
    "hoffman-lab/KnOTS-ViT-L-14_lora_R16_sun397": "a doubtful adapter: 70.8 % on SUN397 instead of 79.6 "
    "(KnOTS on GitHub, issue 13)",
}

_LICENCES = {"timm": "MIT (OpenAI; the copy says Apache-2.0)", "samerge-edu": "Apache-2.0"}
_NOTEBOOK = "12_real_clip"


def task_names(tasks: Sequence[str] | str | int) -> tuple[str, ...]:
    """Names in a list, or in a string with commas; 8, 14 and 20 stand for the literature's lists.

    Raises ValueError for another number, and for a task that no suite has.
    """
    lists = {"8": TA8, "14": TALL14, "20": TALL20}
    if isinstance(tasks, int) and str(tasks) not in lists:
        raise ValueError(f"tasks: got {tasks}, expected 8, 14, 20 or names")
    written = str(tasks).split(",") if isinstance(tasks, str | int) else tasks
    names = lists.get(str(tasks)) or tuple(t.strip() for t in written if t.strip())
    if unknown := [t for t in names if t not in TALL20]:
        raise ValueError(f"task: got '{unknown[0]}', expected one of {', '.join(TALL20)}")
    return names


def base_assets(model: str) -> list[Asset]:
    """The base of an architecture: a whole CLIP in open_clip's format, with its configuration."""
    m = MODELS[model]
    return [_asset(m.base, "open_clip_config.json", 0.001), _asset(m.base, "open_clip_model.safetensors", m.base_mb)]


def expert_assets(model: str, task: str, lora: bool = False) -> list[Asset]:
    """One expert: its configuration and its weights."""
    m = MODELS[model]
    if not lora:
        repo = m.expert.format(task=task)
        return [_asset(repo, "config.json", 0.001), _asset(repo, "model.safetensors", m.expert_mb)]
    repo = m.lora.format(task=task.replace("-", "_") if m.lora.startswith("hoffman-lab/") else task)
    return [_asset(repo, "adapter_config.json", 0.001), _asset(repo, m.lora_file, m.lora_mb)]


def _asset(repo: str, filename: str, mb: float) -> Asset:
    licence = _LICENCES.get(repo.split("/")[0], "none stated by its authors")
    sha256 = None if filename.endswith(".json") else HASHES.get(repo)
    return Asset(repo, filename, mb, licence, _NOTEBOOK, REVISIONS.get(repo, "main"), sha256)
