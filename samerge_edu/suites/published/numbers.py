"""What others print for these experts, by checkpoint family. Never compare across families.

TA    the Task Arithmetic authors' checkpoints       FB    FusionBench's      TALL  inflated by a leak in DTD's test set

    PUBLISHED      tables of merging methods on the eight tasks, CLIP ViT-B/32
    ALONE          the base and each expert on its own task, every suite: what `samerge-edu check` compares with
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .manifest import TA8


@dataclass(frozen=True)
class Published:
    """One row of a published table; accuracies in percent, in the order of `manifest.TA8`, or only their mean."""

    method: str
    family: str
    source: str
    average: float
    tasks: tuple[float, ...] = ()

    def on(self, tasks: Sequence[str]) -> float | None:
        """The mean over some of the eight tasks; None where the table does not print them one by one.

        >>> round(PUBLISHED[0].on(("mnist", "svhn")), 1)                          # zero-shot: 48.2 and 31.6
        39.9
        """
        if not self.tasks or not set(tasks) <= set(TA8):
            return None
        return sum(self.tasks[TA8.index(t)] for t in tasks) / len(tasks)


_FB = "FusionBench documentation"
_WUDI = "WUDI-Merging README (TA family)"
PUBLISHED = (
    Published("zero-shot", "FB", _FB, 48.2, (63.2, 59.8, 60.7, 46.0, 31.6, 32.5, 48.2, 43.9)),
    Published("experts", "FB", _FB, 90.3, (75.0, 78.3, 95.2, 99.0, 97.3, 98.9, 99.6, 79.7)),
    Published("Average", "FB", _FB, 66.5, (65.4, 62.6, 70.8, 76.9, 64.5, 54.9, 86.3, 50.9)),
    Published("Task Arithmetic", "FB", _FB, 68.0, (57.1, 55.7, 64.9, 76.7, 77.9, 68.5, 96.1, 47.2)),
    Published("TIES (sum)", "FB", _FB, 72.2, (67.1, 64.2, 74.1, 76.8, 77.7, 69.4, 94.1, 54.0)),
    Published("RegMean", "FB", _FB, 82.4, (68.6, 70.0, 84.6, 95.4, 92.6, 83.4, 98.4, 66.1)),
    Published("WUDI", "FB", _FB, 84.5, (68.0, 72.5, 85.0, 94.6, 94.8, 94.9, 99.3, 66.6)),
    Published("Iso-C", "FB", _FB, 82.8, (69.8, 72.9, 86.0, 89.8, 87.6, 92.4, 98.5, 65.5)),
    Published("Iso-CTS", "FB", _FB, 82.7, (71.1, 74.6, 86.5, 89.0, 83.4, 90.4, 98.1, 68.5)),
    Published("TSV-M", "FB", "FusionBench, pull request 52 (83.07)", 83.1),
    Published("zero-shot", "TA", _WUDI, 48.0, (62.3, 59.7, 60.7, 45.5, 31.4, 32.6, 48.5, 43.8)),
    Published("Average", "TA", _WUDI, 65.8, (65.3, 63.4, 71.4, 71.7, 64.2, 52.8, 87.5, 50.1)),
    Published("Task Arithmetic", "TA", _WUDI, 69.1, (55.2, 54.9, 66.7, 78.9, 80.2, 69.7, 97.3, 50.4)),
    Published("TIES", "TA", _WUDI, 72.4, (59.8, 58.6, 70.7, 79.7, 86.2, 72.1, 98.3, 54.2)),
    Published("WUDI", "TA", _WUDI, 85.2),
    Published("SA-Merging", "TA, inferred", "third-party notes on arXiv:2606.00511", 85.9),
)


# ---------------------------------------------------------------------------- records, with 14 and 20 tasks


@dataclass(frozen=True)
class Record:
    """One line of docs/records.md: ViT-B/32, top-1 average over 8, 14 and 20 tasks, in percent.

    `kind` is who says so: "paper", "repository" (the authors' files or documentation), "note" (somebody's summary; the
    paper's own table was not read here) or "log" (a research run without review).
    """

    method: str
    year: int
    needs: str
    family: str
    kind: str
    source: str
    eight: float
    fourteen: float | None = None
    twenty: float | None = None


_ISO = "arXiv:2502.04959, Table 1"
_SVC = "public notes on arXiv:2602.05536; experts of its repository"
_ACTMAT = "repository of arXiv:2604.01329, artifacts/results/ViT-B-32/group-legacy-fft"
_TACT = "progress log of TACT, mean of 3 seeds"
_IMAGES, _TEST = "unlabelled training images", "unlabelled test images"
RECORDS = (
    Record("Average", 2022, "none", "TALL", "paper", _ISO, 66.3),
    Record("Task Arithmetic", 2023, "none", "TALL", "paper", _ISO, 70.8),
    Record("TIES", 2023, "none", "TALL", "paper", _ISO, 75.1),
    Record("Consensus TA", 2024, "labelled validation images", "TALL", "paper", _ISO, 75.0),
    Record("TSV-M", 2025, "none", "TALL", "paper", _ISO, 85.9, 80.1, 77.1),
    Record("Iso-C", 2025, "labelled validation images", "TALL", "paper", _ISO, 86.3, 80.3, 75.5),
    Record("Iso-CTS", 2025, "labelled validation images", "TALL", "paper", _ISO, 86.2, 81.7, 78.1),
    Record("Task Arithmetic", 2023, "none", "TA", "repository", _WUDI, 69.1),
    Record("TIES", 2023, "none", "TA", "repository", _WUDI, 72.4),
    Record("AdaMerging", 2024, _TEST, "TA", "repository", _WUDI, 80.1),
    Record("AdaMerging++", 2024, _TEST, "TA", "repository", _WUDI, 81.1),
    Record("Iso-C", 2025, "labelled validation images", "TA", "paper", "arXiv:2502.04959, Table 4", 84.1),
    Record("Iso-CTS", 2025, "labelled validation images", "TA", "paper", "arXiv:2502.04959, Table 4", 84.3),
    Record("WUDI", 2025, "none", "TA", "repository", _WUDI, 85.2),
    Record("SA-Merging", 2026, "none", "TA, inferred", "note", "public notes on arXiv:2606.00511", 85.9),
    Record("Task Arithmetic", 2023, "none", "FB", "repository", _FB, 68.0),
    Record("TIES (sum)", 2024, "none", "FB", "repository", _FB, 72.2),
    Record("RegMean", 2023, _IMAGES, "FB", "repository", _FB, 82.4),
    Record("Iso-CTS", 2025, "none", "FB", "repository", _FB, 82.7),
    Record("Iso-C", 2025, "none", "FB", "repository", _FB, 82.8),
    Record("RegMean++", 2025, _IMAGES, "FB", "repository", _FB, 84.4),
    Record("WUDI", 2025, "none", "FB", "repository", _FB, 84.5),
    Record("Iso-C + LARV", 2026, "none", "FB", "paper", "arXiv:2602.09413, abstract", 85.9),
    Record("Task Arithmetic", 2023, "none", "SVC's", "note", _SVC, 68.9),
    Record("Iso-CTS", 2025, "none", "SVC's", "note", _SVC, 81.4),
    Record("SVC + Task Arithmetic", 2026, "none", "SVC's", "note", _SVC, 81.9),
    Record("Iso-C", 2025, "none", "SVC's", "note", _SVC, 83.1),
    Record("TSV-M", 2025, "none", "SVC's", "note", _SVC, 84.0),
    Record("SVC + Iso-C", 2026, "none", "SVC's", "note", _SVC, 84.6),
    Record("SVC + TSV-M", 2026, "none", "SVC's", "note", _SVC, 84.8),
    Record("SVC + Iso-CTS", 2026, "none", "SVC's", "note", _SVC, 85.6),
    Record("ACTMat", 2026, "none", "ACTMat's", "repository", _ACTMAT, 82.9, None, 75.6),
    Record("TSV-M, simplified", 2025, "none", "TACT's, 7 tasks", "log", _TACT, 73.0),
    Record("Iso-C", 2025, "none", "TACT's, 7 tasks", "log", _TACT, 77.4),
    Record("RegMean", 2023, _IMAGES, "TACT's, 7 tasks", "log", _TACT, 79.6),
    Record("ACTMat", 2026, "none", "TACT's, 7 tasks", "log", _TACT, 83.9),
    Record("TACT", 2026, "none", "TACT's, 7 tasks", "log", _TACT, 86.1),
)
"""By family, and in a family by the average over eight tasks. Between families nothing can be compared."""

PER_TASK = {  # what is printed task by task, for the two readings of SA-Merging in docs/records.md
    "WUDI (TA, its README)": dict(zip(TA8, (71.1, 71.0, 85.7, 95.6, 94.2, 94.7, 99.5, 69.7), strict=True)),
    "SA-Merging (a public result page, incomplete)": {
        "stanford-cars": 71.8, "resisc45": 86.5, "gtsrb": 95.0, "mnist": 99.6, "dtd": 71.0,
    },
}  # fmt: skip


# ---------------------------------------------------------------------------- one model at a time


@dataclass(frozen=True)
class Alone:
    """Accuracies in percent on whole test sets: the base's (`zero_shot`) and each expert's on its own task.

    `test_images`, where the data are not those of `data.DATA`: how many images a test split has.
    """

    source: str
    zero_shot: Mapping[str, float]
    experts: Mapping[str, float]
    test_images: Mapping[str, int] = field(default_factory=dict)


_TABLES = "FusionBench, docs/modelpool/clip_vit.md at commit 26ffec5"
_TWENTY = {
    "sun397": (63.18, 74.86, 65.54, 78.92, 68.22, 82.76),  # zero-shot and expert: B/32, B/16, L/14
    "stanford-cars": (59.58, 78.52, 64.68, 85.90, 77.86, 92.77),
    "resisc45": (60.27, 95.14, 66.38, 96.56, 71.33, 97.38),
    "eurosat": (45.00, 99.07, 54.11, 99.00, 61.19, 99.11),
    "svhn": (31.63, 97.27, 51.99, 97.61, 58.43, 97.92),
    "gtsrb": (32.53, 98.91, 43.45, 98.99, 50.52, 99.24),
    "mnist": (48.26, 99.58, 51.73, 99.70, 76.31, 99.76),
    "dtd": (44.20, 79.68, 45.00, 82.34, 55.53, 85.48),
    "oxford_flowers102": (66.45, 88.55, 71.31, 94.88, 79.25, 97.67),
    "pcam": (60.64, 87.96, 54.02, 90.55, 51.21, 91.13),
    "fer2013": (41.25, 71.61, 46.39, 72.76, 49.96, 75.93),
    "oxford-iiit-pet": (83.32, 92.45, 88.44, 94.49, 93.21, 95.75),
    "stl10": (97.12, 97.55, 98.25, 98.15, 99.36, 99.23),
    "cifar100": (63.72, 88.38, 66.33, 88.78, 75.05, 93.00),
    "cifar10": (89.83, 97.60, 90.77, 98.28, 95.59, 99.13),
    "food101": (82.36, 88.41, 87.01, 91.87, 91.18, 94.77),
    "fashion_mnist": (63.01, 94.75, 67.30, 94.53, 66.96, 95.28),
    "emnist_letters": (11.98, 95.62, 12.44, 95.28, 12.34, 95.43),
    "kmnist": (9.95, 98.23, 11.21, 98.10, 9.71, 98.30),
    "rendered-sst2": (58.65, 71.28, 60.57, 75.73, 68.92, 80.45),
}


def _column(i: int) -> dict[str, float]:
    return {task: row[i] for task, row in _TWENTY.items()}


# Without SUN397, whose adapter is broken: manifest.WARNINGS.
_KNOTS = dict(zip(TA8[1:], (74.0, 88.4, 99.0, 96.2, 92.7, 99.3, 58.3), strict=True))
_LORA_16 = dict(zip(TA8, (70.8, 72.3, 88.9, 97.1, 93.2, 91.0, 98.4, 67.9), strict=True))
_MINIATURE = {"mnist": 80, "svhn": 80, "eurosat": 80, "gtsrb": 344}
_MINIATURE_ZERO_SHOT = {"mnist": 10.0, "svhn": 10.0, "eurosat": 6.2, "gtsrb": 4.1}

ALONE = {  # (architecture, LoRA experts?)
    ("ViT-B-32", False): Alone(_TABLES, _column(0), _column(1)),
    ("ViT-B-16", False): Alone(_TABLES, _column(2), _column(3)),
    ("ViT-L-14", False): Alone(_TABLES, _column(4), _column(5)),
    ("ViT-B-32", True): Alone(f"{_TABLES}; the adapters by KnOTS' own values", _column(0), _KNOTS),
    ("ViT-B-16", True): Alone(f"{_TABLES}; the adapters by its table of LoRA-16", _column(2), _LORA_16),
    ("ViT-L-14", True): Alone(f"{_TABLES}; SUN397's adapter by KnOTS' issue 13", _column(4), {"sun397": 79.6}),
    # measured here, the experts' rounded down: they are trained anew on every machine
    ("ViT-tiny", False): Alone(
        "the miniature", _MINIATURE_ZERO_SHOT, {"mnist": 99, "svhn": 99, "eurosat": 99, "gtsrb": 50}, _MINIATURE
    ),
    ("ViT-tiny", True): Alone(
        "the miniature", _MINIATURE_ZERO_SHOT, {"mnist": 25, "svhn": 28, "eurosat": 48, "gtsrb": 10}, _MINIATURE
    ),
}
