"""What the papers print for CLIP ViT-B/32 on the eight tasks, by checkpoint family. Never compare across families.

TA    the Task Arithmetic authors' checkpoints       FB    FusionBench's      TALL  inflated by a leak in DTD's test set
"""

from dataclasses import dataclass

from .manifest import TA8


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
    Published("TSV-M", "FB", "MASS, as noted by third parties", 83.2),
    Published("zero-shot", "TA", _WUDI, 48.0, (62.3, 59.7, 60.7, 45.5, 31.4, 32.6, 48.5, 43.8)),
    Published("Average", "TA", _WUDI, 65.8, (65.3, 63.4, 71.4, 71.7, 64.2, 52.8, 87.5, 50.1)),
    Published("Task Arithmetic", "TA", _WUDI, 69.1, (55.2, 54.9, 66.7, 78.9, 80.2, 69.7, 97.3, 50.4)),
    Published("TIES", "TA", _WUDI, 72.4, (59.8, 58.6, 70.7, 79.7, 86.2, 72.1, 98.3, 54.2)),
    Published("WUDI", "TA", _WUDI, 85.2),
    Published("SA-Merging", "TA, inferred", "third-party notes on arXiv:2606.00511", 85.9),
)
