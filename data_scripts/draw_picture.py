"""Draw docs/picture.svg, the picture of the README: experts in, one model out.

    python data_scripts/draw_picture.py

The images are the pocket suite's own, drawn by its renderer; nothing is downloaded, a second at most. Its colours are
those of LIGHT or, where the reader's system asks for it, of DARK; a page that holds the picture itself can set them as
--picture-panel, --picture-ink and so on. No font is embedded: any will do.
"""

import base64
import io
from pathlib import Path
from xml.sax.saxutils import escape

import typer
from PIL import Image

from samerge_edu.suites.pocket.tasks import ID_TASKS, OOD_TASKS, TASKS, draw

FILE = Path(__file__).resolve().parents[1] / "docs" / "picture.svg"
WIDTH, HEIGHT = 880, 330
LIGHT = {"panel": "#f6f4ee", "ink": "#22252b", "quiet": "#555a63", "accent": "#9a3412", "box": "#e4dfd2"}
DARK = {"panel": "#1d2025", "ink": "#eceae4", "quiet": "#b4b8c0", "accent": "#ffab7a", "box": "#31353d"}
GROUPS = [(0, 280), (324, 216), (592, 274)]  # where on the way from left to right: from x, how wide
TILE = 52
STEPS = [  # what happens on the way, top to bottom
    ("subtract", "tau_n = theta_n - theta_0"),
    ("score", "S_n, one number per entry"),
    ("keep the best", "m_n in {0, 1}"),
    ("multiply", "m_n * tau_n"),
    ("merge", "tau_m"),
    ("add", "theta_0 + lam * tau_m"),
]


def main(out: Path = FILE) -> None:
    """Write the picture."""
    out.write_text(picture(), encoding="utf-8")


def picture() -> str:
    """The whole SVG: experts on the left, the steps in the middle, one model on the right."""
    shapes = [drawn(task) for task in TASKS]
    shapes += [f'<rect width="{WIDTH}" height="{HEIGHT}" rx="14" class="picture-panel"/>']
    shapes += [
        text(24, 34, "eight experts", 17, "ink", bold=True),
        text(24, 53, "theta_1 .. theta_8, one task each", 12),
    ]
    for i, task in enumerate(ID_TASKS):
        shapes += tile(task, 24 + 64 * (i % 4), 66 + 78 * (i // 4), label=True)
    shapes += [
        '<rect x="24" y="236" width="244" height="70" rx="8" class="picture-box"/>',
        text(146, 266, "one base, theta_0", 15, "ink", bold=True, anchor="middle"),
        text(146, 286, "a CLIP, fine-tuned into each of them", 12, anchor="middle"),
        *arrow(282, 165, 322),
    ]
    for i, (verb, result) in enumerate(STEPS):
        y = 58 + 47 * i
        shapes += [text(342, y, verb, 15, "accent", bold=True), text(342, y + 17, result, 12.5, "ink", mono=True)]
    shapes += [
        *arrow(546, 165, 586),
        '<rect x="602" y="20" width="254" height="286" rx="8" class="picture-box"/>',
        text(729, 48, "one model, theta", 17, "ink", bold=True, anchor="middle"),
        text(729, 72, "at home: the experts' tasks", 12, anchor="middle"),
    ]
    for i, task in enumerate(ID_TASKS):
        shapes += tile(task, 618 + 58 * (i % 4), 82 + 58 * (i // 4), size=48)
    shapes.append(text(729, 219, "abroad: tasks no expert saw", 12, anchor="middle"))
    for i, task in enumerate(OOD_TASKS):
        shapes += tile(task, 613 + 39.5 * i, 232, size=34)
    shapes.append(text(729, 290, "no training, no data", 13, "accent", bold=True, anchor="middle"))
    title = "Eight experts and their base go in; score, mask and merge; one model comes out"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
            f"<title>{title}</title>",
            f"<style>{style()}</style>",
            '<g id="picture">',
            *shapes,
            "</g>",
            "</svg>\n",
        ]
    )


def style() -> str:
    """The colours by name; dark ones where the picture is a file of its own (svg:root) and the system is dark."""
    light = "".join(f".picture-{name}{{fill:var(--picture-{name},{colour})}}" for name, colour in LIGHT.items())
    return f"{light}@media(prefers-color-scheme:dark){{svg:root{{{dark()}}}}}"


def dark() -> str:
    return ";".join(f"--picture-{name}:{colour}" for name, colour in DARK.items())


def for_a_page() -> str:
    """The picture for a page that may be narrow: whole, and its groups below each other. CSS shows one of the two."""
    groups = [f'<svg viewBox="{x} 0 {width} {HEIGHT}"><use href="#picture"/></svg>' for x, width in GROUPS]
    wide = picture().replace("<svg ", '<svg class="picture-wide" ', 1).strip()
    narrow = f'<div class="picture-narrow" aria-hidden="true">{"".join(groups)}</div>'
    return f"<style>html[data-theme=dark]{{{dark()}}}</style>\n{wide}\n{narrow}"


def drawn(task: str) -> str:
    """One test image of a task, in its own style, to be used by name."""
    images, _ = draw(task, "test", range(1))
    Image.fromarray(images[0].transpose(1, 2, 0)).save(file := io.BytesIO(), "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    image = f'<image width="32" height="32" style="image-rendering:pixelated" href="data:image/png;base64,{data}"/>'
    return f'<symbol id="{task}" viewBox="0 0 32 32">{image}</symbol>'


def tile(task: str, x: float, y: float, size: int = TILE, label: bool = False) -> list[str]:
    """A task's image, with its name below it."""
    shapes = [f'<use href="#{task}" x="{x:g}" y="{y:g}" width="{size}" height="{size}"/>']
    if label:
        shapes.append(text(x + size / 2, y + size + 14, task.replace("_", " "), 9.5, "ink", anchor="middle"))
    return shapes


def text(x, y, words, size, colour="quiet", *, bold=False, mono=False, anchor="start") -> str:
    family = "ui-monospace, Menlo, Consolas, monospace" if mono else "system-ui, Helvetica, Arial, sans-serif"
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-family="{family}" font-size="{size}"{weight} class="picture-{colour}" '
        f'text-anchor="{anchor}">{escape(words)}</text>'
    )


def arrow(x: float, y: float, to: float) -> list[str]:
    return [
        f'<rect x="{x}" y="{y - 2}" width="{to - 8 - x}" height="4" class="picture-accent"/>',
        f'<path d="M{to - 12} {y - 9} L{to} {y} L{to - 12} {y + 9} Z" class="picture-accent"/>',
    ]


if __name__ == "__main__":
    typer.run(main)
