"""What others print for these experts, by checkpoint family. Never compare across families.

TA    the Task Arithmetic authors' checkpoints       FB    FusionBench's      TALL  inflated by a leak in DTD's test set

    PUBLISHED      tables of merging methods on the eight tasks, CLIP ViT-B/32
    ALONE          the base and each expert on its own task, every suite: what `samerge-edu check` compares with
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .manifest import TA8, TALL20, WORKSHOP


@dataclass(frozen=True)
class Published:
    """One row of a published table; accuracies in percent, in the order of `manifest.TA8`, or only their mean."""

    method: str
    family: str
    source: str
    average: float
    tasks: tuple[float, ...] = ()

    def on(self, tasks) -> float | None:
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
    """Accuracies in percent on whole test sets: the base's (`zero_shot`) and each expert's on its own task."""

    source: str
    zero_shot: Mapping[str, float]
    experts: Mapping[str, float]


def _by_task(accuracies: Sequence[float], tasks: Sequence[str] = TALL20) -> dict[str, float]:
    return dict(zip(tasks, accuracies, strict=True))


_TABLES = "FusionBench, docs/modelpool/clip_vit.md at 26ffec5, the tables of the 20-task model collections"
_B_32 = Alone(
    _TABLES,
    _by_task(
        (63.18, 59.58, 60.27, 45.00, 31.63, 32.53, 48.26, 44.20, 66.45, 60.64)
        + (41.25, 83.32, 97.12, 63.72, 89.83, 82.36, 63.01, 11.98, 9.95, 58.65)
    ),
    _by_task(
        (74.86, 78.52, 95.14, 99.07, 97.27, 98.91, 99.58, 79.68, 88.55, 87.96)
        + (71.61, 92.45, 97.55, 88.38, 97.60, 88.41, 94.75, 95.62, 98.23, 71.28)
    ),
)
_B_16 = Alone(
    _TABLES,
    _by_task(
        (65.54, 64.68, 66.38, 54.11, 51.99, 43.45, 51.73, 45.00, 71.31, 54.02)
        + (46.39, 88.44, 98.25, 66.33, 90.77, 87.01, 67.30, 12.44, 11.21, 60.57)
    ),
    _by_task(
        (78.92, 85.90, 96.56, 99.00, 97.61, 98.99, 99.70, 82.34, 94.88, 90.55)
        + (72.76, 94.49, 98.15, 88.78, 98.28, 91.87, 94.53, 95.28, 98.10, 75.73)
    ),
)
_L_14 = Alone(
    _TABLES,
    _by_task(
        (68.22, 77.86, 71.33, 61.19, 58.43, 50.52, 76.31, 55.53, 79.25, 51.21)
        + (49.96, 93.21, 99.36, 75.05, 95.59, 91.18, 66.96, 12.34, 9.71, 68.92)
    ),
    _by_task(
        (82.76, 92.77, 97.38, 99.11, 97.92, 99.24, 99.76, 85.48, 97.67, 91.13)
        + (75.93, 95.75, 99.23, 93.00, 99.13, 94.77, 95.28, 95.43, 98.30, 80.45)
    ),
)
# Without SUN397, whose adapter is broken: manifest.WARNINGS. For ViT-L/14 we know no table of KnOTS'.
_KNOTS = _by_task((74.0, 88.4, 99.0, 96.2, 92.7, 99.3, 58.3), TA8[1:])
_LORA_16 = _by_task((70.8, 72.3, 88.9, 97.1, 93.2, 91.0, 98.4, 67.9), TA8)
_MINIATURE = _by_task((0.0, 0.0, 0.0, 0.0), WORKSHOP)
ALONE = {  # (architecture, LoRA experts?)
    ("ViT-B-32", False): _B_32,
    ("ViT-B-16", False): _B_16,
    ("ViT-L-14", False): _L_14,
    ("ViT-B-32", True): Alone(f"{_TABLES}; experts: KnOTS' own values", _B_32.zero_shot, _KNOTS),
    ("ViT-B-16", True): Alone(f"{_TABLES}, and of LoRA-16", _B_16.zero_shot, _LORA_16),
    ("ViT-L-14", True): Alone(_TABLES, _L_14.zero_shot, {}),
}
