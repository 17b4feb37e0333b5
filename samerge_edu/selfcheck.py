"""Are these the models and the images that they should be? A minute or two, before any result is believed.

    findings = check(load_suite("vit-b-32", per_class=25))
    all(f.problem is None for f in findings)

Nobody could run the real files where this package was built, so each first contact with them is a test. It looks at
every task for what has gone wrong elsewhere (docs/faults.md): a base that is not the experts' own, the other
activation, labels in another order than the class names, a broken adapter, a test split with images missing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from .doctor import relative_size
from .evaluate import check_model, scores
from .params import Params, task_vectors
from .suites.published.data import DATA
from .suites.published.manifest import SUITES
from .suites.published.names import activation
from .suites.published.numbers import ALONE, Alone
from .suites.suite import Suite

POCKET = Alone(
    "measured when it was built",
    {"digits": 81.8, "house_numbers": 80.8, "signs": 83.4, "textures": 37.8}
    | {"land_cover": 57.2, "aerial": 54.4, "vehicles": 53.4, "scenes": 56.6},
    {"digits": 99.6, "house_numbers": 99.4, "signs": 99.8, "textures": 90.8}
    | {"land_cover": 94.0, "aerial": 95.6, "vehicles": 97.8, "scenes": 96.0},
)
REFERENCES = {name: ALONE[which] for name, which in SUITES.items()} | {"pocket": POCKET}

SLACK = 6.0
"""Percent points between a published accuracy and ours on the first images of each class, besides three standard
errors: classes are counted alike here, images there."""

FAR = 0.5
"""|tau| / |theta_0| of an expert of another base: unrelated weights of one size have 1.4, real experts about 0.01, the
pocket suite's 0.04 to 0.08, the miniature's 0.12."""


@dataclass(frozen=True)
class Finding:
    """What was seen of one task; accuracies in percent on `images` images. `problem` is None or one sentence."""

    task: str
    images: int
    zero_shot: float
    expert: float
    distance: float
    band: tuple[float, float]
    least: float
    problem: str | None = None

    def __str__(self) -> str:
        low, high = self.band
        return (
            f"{self.task:<18}{self.images:5} images   zero-shot {self.zero_shot:5.1f} ({low:.0f} to {high:.0f})   "
            f"expert {self.expert:5.1f} ({self.least:.0f} to 100)   |tau| / |theta_0| {self.distance:.3f}   "
            f"{'PROBLEM: ' + self.problem if self.problem else 'ok'}"
        )


def check(suite: Suite) -> Iterator[Finding]:
    """One finding a task of the suite's experts, as soon as it is known.

    In this order, and only the first that applies is named, since each makes those after it meaningless:

        1  the tower computes the activation that its weights were trained with (published suites)
        2  |theta_n - theta_0| / |theta_0| < FAR                  else the base is another model's
        3  the test split has as many images as published, and its labels are 0 ... classes - 1, each of them there
        4  the expert is right after its answers are renamed, but not before: labels in another order
        5  zero-shot within the published value +- (3 standard errors + SLACK)
        6  the expert not below zero-shot - SLACK                 else it is broken, and spoils every merge
        7  the expert at least the published value - SLACK

    Where no number is published, for 5 every accuracy will do and for 7 zero-shot. Nothing is raised for what is
    found; errors of downloads and files are (`hub.locate`).
    """
    for task in suite.id_tasks:
        yield _check_task(suite, task)


def _check_task(suite: Suite, task: str) -> Finding:
    known = REFERENCES.get(suite.name)
    theta = check_model(suite, suite.experts[task])
    distance = relative_size(suite.theta_0, task_vectors(suite.theta_0, [theta]))
    zero_shot = scores(suite, suite.theta_0, tasks=[task])[task]
    predicted, labels = answers(suite, theta, task)
    expert = 100 * (predicted == labels).double().mean().item()
    band = _band(known.zero_shot.get(task) if known else None, len(labels))
    least = (known.experts.get(task) if known else None) or zero_shot
    problem = (
        _wrong_activation(suite)
        or _wrong_base(distance)
        or _wrong_split(suite, task, known.test_images.get(task) if known else None)
        or _wrong_accuracies(zero_shot, expert, band, least - SLACK, renamed(predicted, labels))
    )
    return Finding(task, len(labels), zero_shot, expert, distance, band, least - SLACK, problem)


def _band(published: float | None, n: int) -> tuple[float, float]:
    if published is None:
        return 0.0, 100.0
    room = 3 * (published * (100 - published) / n) ** 0.5 + SLACK
    return max(0.0, published - room), min(100.0, published + room)


def answers(suite: Suite, theta: Params, task: str) -> tuple[Tensor, Tensor]:
    """(predicted classes, labels) on a test split."""
    ((_, z, labels),) = suite.features(theta, [task])
    return (z @ suite.heads[task].T).argmax(dim=1), labels


def renamed(predicted: Tensor, labels: Tensor) -> float:
    """Accuracy in percent if each answer meant the label that most of its images have: what another order would give.

    >>> import torch
    >>> renamed(torch.tensor([0, 0, 1, 1]), torch.tensor([1, 1, 0, 0]))
    100.0
    """
    right = sum(labels[predicted == c].bincount().max().item() for c in predicted.unique())
    return 100 * right / len(labels)


# ---------------------------------------------------------------------------- the tests: None, or what is wrong


def _wrong_activation(suite: Suite) -> str | None:
    if suite.name in SUITES and (got := activation(suite.visual)) != "quick_gelu":
        return f"the tower computes '{got}', OpenAI's weights were trained with 'quick_gelu': wrong activation"
    return None


def _wrong_base(distance: float) -> str | None:
    if distance < FAR:
        return None
    return f"the expert is {distance:.2f} of the base's length away from it: not its base, or not its expert"


def _wrong_split(suite: Suite, task: str, expected: int | None) -> str | None:
    published, classes = suite.name in SUITES, len(suite.tasks[task].classes)
    every = suite.draw(task, "test", None) if published else suite.images(task)  # however few are tested
    labels = every[1]
    expected = expected or (DATA[task].test_images if published else len(labels))
    if len(labels) != expected:
        return f"the test split has {len(labels)} images, expected {expected}: truncated, or another copy"
    if (seen := labels.unique().tolist()) != list(range(classes)):
        return f"{len(seen)} labels from {seen[0]} to {seen[-1]}, expected 0 to {classes - 1}: another set of classes"
    return None


def _wrong_accuracies(
    zero_shot: float, expert: float, band: tuple[float, float], least: float, after_renaming: float
) -> str | None:
    """Tests 4 to 7; `after_renaming` is the expert's accuracy as `renamed` gives it."""
    if expert < least <= after_renaming and after_renaming > 2 * expert:
        return (
            f"the expert has {after_renaming:.0f} instead of {expert:.0f} once its answers are renamed: the labels are "
            "shuffled, in another order than the class names"
        )
    if not band[0] <= zero_shot <= band[1]:
        return f"zero-shot is outside {band[0]:.1f} to {band[1]:.1f}: other images, other labels or other class names"
    if expert < zero_shot - SLACK:
        return f"the expert is worse than the base on its own task ({expert:.1f} < {zero_shot:.1f}): a broken one"
    if expert < least:
        return f"the expert has {expert:.1f}, expected at least {least:.1f}: a broken one, or another checkpoint"
    return None
