"""The figures of notebook 01: the curve over lam, forgetting, a straight line between models, cosines."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ...plots import titled


def curve_over_lam(lams: Sequence[float], curves: Mapping[str, Sequence[float]], N: int) -> tuple[Figure, str]:
    """ID average over the scale of the sum, one line a split; 1/N is where the sum is the average."""
    figure, axis = plt.subplots(figsize=(6, 3.4))
    for (split, curve), look in zip(curves.items(), ("o-", "s--"), strict=False):
        axis.plot(lams, curve, look, label=split)
    axis.axvline(1 / N, color="0.6", linestyle=":", marker="")
    axis.text(1 / N, axis.get_ylim()[0], " 1/N: the average", fontsize=8, va="bottom")
    axis.set(xlabel="lam", ylabel="ID average (%)")
    axis.legend()
    name, curve = next(iter(curves.items()))
    sentence = f"On {name} the ID average is {curve[0]:.0f} % at lam = {lams[0]:g}, {max(curve):.0f} % at its best "
    sentence += f"and {curve[-1]:.0f} % at lam = {lams[-1]:g}."
    return titled(figure, sentence), sentence


def abroad(lams: Sequence[float], curve: Sequence[float]) -> tuple[Figure, str]:
    """OOD average over the scale of the sum."""
    figure, axis = plt.subplots(figsize=(6, 3.2))
    axis.plot(lams, curve, "D-")
    axis.set(xlabel="lam", ylabel="OOD average (%)")
    sentence = f"The OOD average goes from {curve[0]:.0f} % at lam = {lams[0]:g} to {curve[-1]:.0f} % at {lams[-1]:g}."
    return titled(figure, sentence), sentence


def forgetting(
    target: str, lams: Sequence[float], forgotten: Tensor, kept: Tensor, lam: float, keep: float = 0.95
) -> tuple[Figure, str]:
    """Accuracy of the task to be forgotten and of the control tasks while lam goes below 0; `lam` is the chosen one."""
    figure, axis = plt.subplots(figsize=(6, 3.4))
    axis.plot(lams, forgotten, "o-", label=f"{target}, to be forgotten")
    axis.plot(lams, kept, "s--", label="control: the tasks abroad")
    axis.axhline(keep * float(kept[0]), color="0.6", linestyle=":", marker="")
    axis.invert_xaxis()
    axis.set(xlabel="lam", ylabel="accuracy on validation (%)")
    axis.legend()
    i = list(lams).index(lam)
    sentence = f"At lam = {lam:g}, {target} goes from {forgotten[0]:.0f} % to {forgotten[i]:.0f} % on validation, "
    sentence += f"the control tasks from {kept[0]:.0f} % to {kept[i]:.0f} %."
    return titled(figure, sentence), sentence


def straight_line(alphas: Sequence[float], walk: Sequence[Mapping[str, float]]) -> tuple[Figure, str]:
    """Accuracy on the tasks of two experts along the line between them: `walk` has {task a: %, task b: %} a point."""
    a, b = walk[0]
    figure, axis = plt.subplots(figsize=(6, 3.4))
    for task, look in ((a, "o-"), (b, "s--")):
        axis.plot(alphas, [point[task] for point in walk], look, label=task)
    axis.set(xlabel=f"alpha: from the expert of {a} to that of {b}", ylabel="accuracy (%)")
    axis.legend()
    middle = walk[list(alphas).index(0.5)]
    sentence = f"Half way between two experts the model reaches {middle[a]:.0f} % on {a} and {middle[b]:.0f} % on {b}."
    return titled(figure, sentence), sentence


def cosines(C: Tensor, tasks: Sequence[str]) -> tuple[Figure, str]:
    """The cosines between N task vectors, (N, N)."""
    off = C - torch.diag(C.diag())
    figure, axis = plt.subplots(figsize=(5, 4.2))
    shown = axis.imshow(off, cmap="RdBu_r", vmin=-0.3, vmax=0.3)
    axis.set_xticks(range(len(tasks)), tasks, rotation=45, ha="right")
    axis.set_yticks(range(len(tasks)), tasks)
    axis.grid(visible=False)
    figure.colorbar(shown, label="cosine (diagonal left out)")
    n, m = divmod(int(off.argmax()), len(tasks))
    sentence = f"Cosines between task vectors are at most {off.abs().max():.2f}: {tasks[n]} and {tasks[m]} are closest."
    return titled(figure, sentence), sentence
