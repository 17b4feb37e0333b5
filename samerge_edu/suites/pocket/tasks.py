"""The tasks of the pocket suite: their classes, their captions, and draw(), which makes their images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from samerge_edu.suites.pocket import out_of_domain, places, things
from samerge_edu.suites.pocket.draw import SIZE, Canvas
from samerge_edu.suites.pocket.random import Draws

SPLITS = ("train", "val", "test", "web")
CHUNK = 256  # images drawn at once: more would fall out of the processor's cache


@dataclass(frozen=True)
class Task:
    """One classification task; a caption is a template with a class name put in."""

    name: str
    mirrors: str  # the published data set it stands for, "" out of domain
    kind: str  # "id" or "ood"
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    generic: str  # a caption that does not give the class away
    paint: Callable[
        [Canvas, np.ndarray, np.float32], np.ndarray
    ]  # canvas, labels (n,), strength -> uint8 (n, 3, 32, 32)


_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_ALL = (
    Task("digits", "MNIST", "id", _NUMBERS,
         ("the digit {}", "a written digit {}", "a single {} on paper", "a numeral {}"),
         "a written numeral", things.digits),
    Task("house_numbers", "SVHN", "id", _NUMBERS,
         ("a house with the number {}", "the house number {}", "a door plate that says {}", "number {} on a wall"),
         "a number on a wall", things.house_numbers),
    Task("signs", "GTSRB", "id",
         ("stop", "give way", "no entry", "speed limit thirty", "speed limit sixty", "priority road", "turn left",
          "turn right", "ahead only", "pedestrian crossing", "mini roundabout", "uneven road"),
         ("a traffic sign: {}", "a {} sign by the street", "a road sign meaning {}", "the sign for {}"),
         "a traffic sign", things.signs),
    Task("textures", "DTD", "id",
         ("striped", "dotted", "checkered", "grid", "zigzag", "honeycomb", "marbled", "woven", "scaly", "cracked"),
         ("a {} texture", "a {} pattern", "a close view of a {} surface", "some {} material"),
         "the surface of a material", things.textures),
    Task("land_cover", "EuroSAT", "id",
         ("forest", "river", "highway", "houses", "industry", "annual crops", "pasture", "lake", "orchard", "desert"),
         ("a satellite photo of {}", "{} seen from space", "land covered by {}", "a satellite image showing {}"),
         "a satellite photo", places.land_cover),
    Task("aerial", "RESISC45", "id",
         ("airplane", "bridge", "traffic circle", "baseball diamond", "tennis court", "harbour", "parking lot",
          "runway", "storage tanks", "intersection"),
         ("an aerial photo of a {}", "a {} from above", "a drone picture of a {}", "looking down on a {}"),
         "an aerial photo", places.aerial),
    Task("vehicles", "Cars", "id",
         ("sedan", "hatchback", "pickup truck", "van", "bus", "lorry", "convertible", "tractor"),
         ("a photo of a {}", "a {} from the side", "a {} on the street", "someone driving a {}"),
         "a vehicle from the side", things.vehicles),
    Task("scenes", "SUN397", "id",
         ("beach", "mountain", "city skyline", "woods", "dunes", "road", "field", "night sky", "lakeside", "village"),
         ("a view of a {}", "a landscape with a {}", "a holiday picture of a {}", "a painting of a {}"),
         "a landscape", places.scenes),
    Task("letters", "", "ood", tuple(out_of_domain.LETTERS),
         ("the letter {}", "a printed letter {}", "a capital {}"),
         "a printed letter", out_of_domain.letters),
    Task("shapes", "", "ood",
         ("circle", "square", "triangle", "star", "cross", "ring", "heart", "crescent", "arrow", "rectangle"),
         ("a {}", "the shape of a {}", "a drawing of a {}", "one {} on a plain ground"),
         "a plain shape", out_of_domain.shapes),
    Task("object_colours", "", "ood", tuple(out_of_domain.COLOURS),
         ("a {} object", "a {} thing", "something {}", "the colour {}"),
         "some thing in a colour", out_of_domain.object_colours),
    Task("counting", "", "ood", _NUMBERS[1:7],
         ("a count of {}", "{} of them", "a group of {}", "exactly {} things"),
         "several things", out_of_domain.counting),
    Task("dials", "", "ood",
         ("north", "north east", "east", "south east", "south", "south west", "west", "north west"),
         ("a dial pointing {}", "a compass that shows {}", "a hand turned to the {}"),
         "a dial with a hand", out_of_domain.dials),
    Task("flags", "", "ood",
         ("horizontal tricolour", "vertical tricolour", "horizontal bicolour", "vertical bicolour", "nordic cross",
          "saltire", "canton", "disc", "hoist triangle", "diagonal band"),
         ("a flag with a {}", "a {} flag", "a flag showing a {}"),
         "a waving flag", out_of_domain.flags),
)  # fmt: skip

TASKS = {task.name: task for task in _ALL}
ID_TASKS = tuple(task.name for task in _ALL if task.kind == "id")
OOD_TASKS = tuple(task.name for task in _ALL if task.kind == "ood")


def draw(
    task: str, split: str, indices: Sequence[int] | np.ndarray, style: str = "own", strength: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw images of a task: each depends on (task, split, index, style, strength) and on nothing else.

    Args:
        task: a name in TASKS.
        split: "train", "val", "test", or "web" for the images that train the base; no image is in two of them.
        indices: n whole numbers in [0, 2**32).
        style: "own", or "web", which is the own style at strength 0.
        strength: how far the own style is from the web's, in [0, 1].

    Returns:
        images, uint8 of shape (n, 3, 32, 32), and labels, int64 of shape (n,): index modulo the number of classes.

    Raises:
        ValueError: unknown task, split or style, a strength outside [0, 1], an index outside [0, 2**32).

    >>> images, labels = draw("digits", "train", range(3))
    >>> images.shape, labels.tolist()
    ((3, 3, 32, 32), [0, 1, 2])
    """
    for what, got, known in (("task", task, TASKS), ("split", split, SPLITS), ("style", style, ("own", "web"))):
        if got not in known:
            raise ValueError(f"got {what} {got!r}, expected one of {', '.join(known)}")
    if not 0 <= strength <= 1:
        raise ValueError(f"got strength {strength}, expected a number in [0, 1]")
    indices = np.asarray(indices, dtype=np.int64)
    for index in indices[(indices < 0) | (indices >= 2**32)]:
        raise ValueError(f"got index {index}, expected whole numbers from 0 to {2**32 - 1}")

    labels = indices % len(TASKS[task].classes)
    images = np.empty((len(indices), 3, SIZE, SIZE), dtype=np.uint8)
    for start in range(0, len(indices), CHUNK):
        part = slice(start, start + CHUNK)
        canvas = Canvas(Draws.of(task, split, indices[part]))
        images[part] = TASKS[task].paint(canvas, labels[part], np.float32(strength if style == "own" else 0))
    return images, labels
