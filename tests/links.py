"""The links of a page or a notebook, and what is wrong with them. Nothing is fetched: an outside link is only read."""

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt

MARKDOWN = MarkdownIt("commonmark").enable("table")


def texts(file: Path) -> list[str]:
    """A page's Markdown, or that of a notebook's text cells."""
    if file.suffix != ".ipynb":
        return [file.read_text(encoding="utf-8")]
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]


def links(file: Path) -> list[str]:
    """Every target of a link or an image, in order; what stands in code is no link."""
    found = []
    for text in texts(file):
        for token in _tokens(text):
            if token.type in ("link_open", "image"):
                found.append(token.attrGet("href") or token.attrGet("src") or "")
            if token.type.startswith("html"):
                found += re.findall(r'(?:href|src)="([^"]*)"', token.content)
    return found


def anchors(file: Path) -> set[str]:
    """What a link to a heading may say after #: as on GitHub, or in a notebook, where capitals and marks stay."""
    found: set[str] = set()
    for text in texts(file):
        tokens = MARKDOWN.parse(text)
        for heading, inline in pairwise(tokens):
            if heading.type == "heading_open":
                title = "".join(child.content for child in inline.children)
                kept = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
                found.add(title.replace(" ", "-") if file.suffix == ".ipynb" else kept)
    return found


def problems(file: Path) -> list[str]:
    """One line for each link that leads nowhere."""
    return [f"{file.name}: {target!r} {why}" for target in links(file) if (why := _wrong(file, target))]


def _wrong(file: Path, target: str) -> str:
    if re.match(r"[a-z][a-z0-9+.-]*:|//", target, flags=re.IGNORECASE):
        url = urlsplit(target)
        if url.scheme == "data" or (url.scheme == "attachment" and file.suffix == ".ipynb"):
            return ""
        well_formed = url.scheme == "https" and re.fullmatch(r"[\w-]+(\.[\w-]+)+(:\d+)?", url.netloc)
        return "" if well_formed and not re.search(r"\s|%20", target) else "is no address of the form https://host/..."
    path, _, anchor = target.partition("#")
    there = (file.parent / unquote(path)).resolve() if path else file
    if not there.exists():
        return "does not exist"
    if anchor and unquote(anchor) not in (anchors(there) if there.suffix in (".md", ".ipynb") else ()):
        return "has no such heading"
    return ""


def _tokens(text: str) -> Iterator:
    for token in MARKDOWN.parse(text):
        yield token
        yield from token.children or ()
