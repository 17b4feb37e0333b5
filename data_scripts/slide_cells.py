"""What a deck shows of a lesson, by a rule. Run by make_slides.py; by itself it does nothing.

Headings, formulas, lists, the first sentences of a text, short code, figures and what was printed. The whole text goes
into the speaker's notes; hints and solutions stay in the notebook.
"""

import re
from collections.abc import Iterator

import nbformat

from samerge_edu.course.classroom.plans import places

LINES = 16  # lines of text that fit on a slide below its heading
WORDS = 45  # of a text that is not code, formula or list
CODE, CODE_BY_A_FIGURE, PRINTED = 14, 5, 10  # lines of code and of output that are shown
FIGURE = 17  # lines: as high as a figure


def deck(lesson: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The slides of a lesson, as a notebook whose cells are slides, parts of slides, or notes."""
    cells, room, section = [], 0.0, ""
    for cell, place in zip(lesson.cells, places(lesson), strict=True):
        for part, height, begins in shown(cell):
            new = begins or (height > room and part.metadata.slideshow.slide_type != "notes")
            if new:
                level = "slide" if place.section != section or not cells else "subslide"
                part.metadata.slideshow.slide_type, room = level, LINES
                if level == "subslide" and not part.source.startswith("#"):
                    part.metadata.slideshow.slide_type = "-"
                    cells.append(words(f'<p class="again">{place.section}</p>', "subslide"))
                section = place.section
            room -= height
            cells.append(part)
    return nbformat.v4.new_notebook(cells=cells, metadata=lesson.metadata)


def shown(cell: nbformat.NotebookNode) -> Iterator[tuple[nbformat.NotebookNode, float, bool]]:
    """What a deck has of one cell: part, lines high, does it begin a slide?"""
    tags = set(cell.metadata.get("tags", []))
    if tags & {"setup", "settle"} or cell.source.startswith("*Double-click"):
        return
    if cell.cell_type == "markdown":
        answer = cell.source.startswith("<details>")
        if not answer:
            for text in pieces(summary(cell.source)):
                yield words(text), text_lines(text), text.startswith("#")
        if not answer or "<summary>Hint" not in cell.source:
            whole = re.sub(r"^\[!\[.*\n", "", cell.source, flags=re.MULTILINE)  # no badges
            yield words(whole.replace("<details>", "<details open>"), "notes"), 0, False
        return
    part, code = nbformat.v4.new_code_cell(cell.source), cell.source.splitlines()
    outputs = [] if "exercise" in tags else [short(output) for output in cell.outputs]
    figures = [output for output in outputs if "text/html" in output.get("data", {})]
    height = FIGURE * bool(figures) + sum(output.get("text", "").count("\n") for output in outputs)
    hidden = "quiz" in tags or len(code) > (CODE_BY_A_FIGURE if figures else CODE)
    part.outputs, part.metadata.slideshow = outputs, {"slide_type": "-" if "exercise" in tags else "fragment"}
    part.metadata.tags = ["hidden"] if hidden else []
    if outputs or not hidden:
        yield part, height * 0.75 + (0 if hidden else len(code) * 0.75), "quiz" in tags


def summary(text: str) -> str:
    """A text's headings, formulas, lists and small tables, and its first sentences."""
    text = re.sub(r"(?s)<details>.*?</details>", "", text.partition("\n## Further reading")[0]).strip()
    blocks, kept, spent = re.split(r"\n\n+", text), [], 0
    for block in blocks:
        if block.startswith(("#", "$$", "* ", "1. ", "|", "**You will")):
            kept.append(block)
        elif not block.startswith(("[![", "**Needs**", "*")) and spent < WORDS and "```" not in block:
            sentences = re.split(r"(?<=[.?!:])\s+(?=[A-Z*`$(])", block)
            while sentences and spent < WORDS:
                sentence = sentences.pop(0)
                spent += len(sentence.split())
                kept.append(sentence)
    return "\n\n".join(kept)


def pieces(text: str) -> list[str]:
    """A text in parts of which each fits on a slide."""
    parts = [""]
    for block in text.split("\n\n"):
        longer = f"{parts[-1]}\n\n{block}".strip()
        if parts[-1] and text_lines(longer) > LINES:
            parts.append(block)
        else:
            parts[-1] = longer
    return parts


def text_lines(text: str) -> float:
    """How many lines a text takes on a slide, about."""
    paragraphs = [p for p in text.splitlines() if p.strip() and not p.startswith("#")]
    return sum(1 + len(p) // 85 for p in paragraphs) + 2.0 * text.count("$$") + 0.4 * text.count("\n\n")


def short(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """An output, and of many printed lines the first."""
    lines = output.get("text", "").splitlines(keepends=True)
    if len(lines) > PRINTED:
        return nbformat.v4.new_output("stream", text="".join([*lines[: PRINTED - 1], "...\n"]))
    return output


def words(text: str, kind: str = "-") -> nbformat.NotebookNode:
    return nbformat.v4.new_markdown_cell(text, metadata={"slideshow": {"slide_type": kind}})
