"""Check a built site or a deck: every link leads somewhere, every picture has words, nothing comes from outside.

    python data_scripts/check_site.py build/site/html

One line for each problem; exits with 1 if there is any. Links to other hosts are for the reader to follow and are
not fetched; a script, style, font or picture of another host is a problem. Seconds.
"""

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}


class Page(HTMLParser):
    """The links, ids and pictures of one page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[tuple[str, str, str]] = []
        self.ids: set[str] = set()
        self.mute: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        self.links += [(tag, name, given[name]) for name in ("href", "src") if given.get(name)]
        if tag == "img" and not given.get("alt"):
            self.mute.append(given.get("src", "")[:60])


read = cache(Page)


def problems(folder: Path) -> list[str]:
    """Everything that is wrong, as "page: what"."""
    found = []
    for file in sorted(f for f in folder.rglob("*.html") if "_static" not in f.parts):
        name = file.relative_to(folder)
        found += [f"{name}: a picture without words: {src}" for src in read(file).mute]
        for tag, attribute, target in read(file).links:
            if why := wrong(file, tag, attribute, target):
                found.append(f"{name}: {target[:100]} {why}")
    return found


def wrong(file: Path, tag: str, attribute: str, target: str) -> str:
    """What is wrong with one link, or nothing."""
    url = urlsplit(target)
    if url.scheme in ("http", "https") or target.startswith("//"):
        loaded = (tag, attribute) in LOADED
        return "is loaded from another host" if loaded else ""
    if url.scheme or target == "#":  # data:, javascript:, mailto:
        return ""
    there = (file.parent / unquote(url.path)).resolve() if url.path else file
    if not there.is_file():
        return "does not exist"
    if url.fragment and there.suffix == ".html" and unquote(url.fragment) not in read(there).ids | {""}:
        return "has no such place"
    return ""


if __name__ == "__main__":
    messages = problems(Path(sys.argv[1]))
    print("\n".join(messages) or "no problem")
    sys.exit(bool(messages))
