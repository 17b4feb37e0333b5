"""Figures of notebook 13: accuracy over the effective scale, an ablation with its spread."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from ... import plots


def over_the_scale(scales: Sequence[float], curves: Mapping[str, Sequence[float]]) -> tuple[Figure, str]:
    """One line for each way: "limiter" is the method, "by lot ..." its counterparts, "no limit" the ablation."""
    figure, axis = plt.subplots(figsize=(7, 3.4))
    for name, curve in curves.items():
        lot = name.startswith("by lot")
        look: dict[str, Any] = {"color": "0.6", "linestyle": ":", "marker": "."} if lot else {}
        axis.plot(scales, curve, label="factors by lot" if name == "by lot 0" else None if lot else name, **look)
    axis.set(xlabel="effective scale a", ylabel="accuracy (%), validation", xscale="log")
    axis.set_xticks(scales, [f"{a:g}" for a in scales])
    axis.minorticks_off()
    axis.legend()
    peaks = {name: max(curve) for name, curve in curves.items()}
    lots = [peak for name, peak in peaks.items() if name.startswith("by lot")]
    sentence = f"At its best scale the limiter reaches {peaks['limiter']:.1f} %, without it {peaks['no limit']:.1f} %, "
    sentence += f"with the same factors by lot {min(lots):.1f} to {max(lots):.1f} %."
    return plots.titled(figure, sentence), sentence


def ablation(gains: pd.DataFrame, whole: str) -> tuple[Figure, str]:
    """What each variant loses or gains beside the whole, with one standard deviation over the subsets of experts."""
    shown = gains[gains.variant != whole].iloc[::-1]
    figure, axis = plt.subplots(figsize=(7, 2.2))
    axis.errorbar(shown.id_gain, range(len(shown)), xerr=shown.id_spread, fmt="o", capsize=3, color=plots.COLOURS[0])
    axis.axvline(0, color="black", linewidth=1, linestyle=":")
    axis.set_yticks(range(len(shown)), shown.variant)
    axis.set(xlabel=f"ID accuracy beside {whole} (points; mean and spread)", ylim=(-0.6, len(shown) - 0.4))
    parts = [f"{row.variant} {row.id_gain:+.1f} (spread {row.id_spread:.1f})" for row in shown.iloc[::-1].itertuples()]
    sentence = f"Beside {whole}: " + ", ".join(parts) + " points."
    return plots.titled(figure, sentence), sentence
