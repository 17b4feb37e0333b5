"""Build the site: the executed notebooks, the pages of docs/ and an API reference, as HTML that needs no network.

    python data_scripts/build_site.py           into build/site/html; open its index.html

`make site` installs what it needs and calls this. The pages are laid out in build/site/source and read by Sphinx with
docs/conf.py; every warning is an error. Two minutes on two cores.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from data_scripts import draw_picture  # noqa: E402 - only now is this checkout on the path
from data_scripts.check_site import problems  # noqa: E402
from samerge_edu import BRANCH, REPOSITORY  # noqa: E402

OUT = ROOT / "build" / "site"
TOC = {  # caption -> pages in order; a * takes, in order of name, what no other line names
    "The course": ["notebooks/*"],
    "Results": ["docs/results", "docs/ablations/*", "docs/records", "docs/data", "docs/beyond", "docs/speed"],
    "Use it": ["docs/merge_your_own", "docs/your_own_method", "docs/published", "docs/cluster", "docs/architectures"],
    "Teach with it": ["docs/instructors", "docs/teaching_plans"],
    "How it is made": ["docs/architecture", "docs/letters", "docs/limits", "docs/*", "CONTRIBUTING", "CHANGELOG"],
    "Reference": ["api/core", "api/transforms", "api/merges", "api/*"],
}
NO_PAGES = {"docs/README", "docs/index"}  # GitHub's index; the first page, which lies at the top of the site
CALLED = {"core": "Arithmetic, measuring, files", "course": "The course's machinery"}  # rooms by another name
NOT_TAUGHT = ("course.bank", "course.drawings", "course.capstone.examples", "__main__")


def pages() -> list[str]:
    """Every page of the site but the first and those of the reference, without its suffix."""
    files = [*ROOT.glob("notebooks/*.ipynb"), *(ROOT / "docs").rglob("*.md")]
    files += [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    return sorted({file.relative_to(ROOT).with_suffix("").as_posix() for file in files} - NO_PAGES)


def contents(names: list[str]) -> dict[str, list[str]]:
    """The table of contents: the pages under each caption. A page that is named and not there is left out."""
    named = {name for lines in TOC.values() for name in lines}
    found = {}
    for caption, lines in TOC.items():
        found[caption] = []
        for line in lines:
            folder = line.removesuffix("*")
            one = sorted(n for n in names if n.startswith(folder) and "/" not in n[len(folder) :] and n not in named)
            found[caption] += one if line.endswith("*") else [line] if line in names else []
    return found


def modules() -> dict[str, list[str]]:
    """Room -> its modules, as they are imported; those at the top of the package are the room "core"."""
    rooms: dict[str, list[str]] = {"core": []}
    for file in sorted((ROOT / "samerge_edu").rglob("*.py")):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        inner = name.removeprefix("samerge_edu").removeprefix(".")
        if not inner.startswith(NOT_TAUGHT):
            room = inner.partition(".")[0] if (ROOT / "samerge_edu" / inner.partition(".")[0]).is_dir() else "core"
            rooms.setdefault(room if inner else "core", []).append(name)
    return rooms


def reference(room: str, names: list[str]) -> str:
    """A page of the API reference: one section a module."""
    sections = [
        f"## {name.removeprefix('samerge_edu.').removeprefix(room + '.')}\n\n"
        f"`{name}`\n\n```{{eval-rst}}\n.. automodule:: {name}\n```\n"
        for name in names
    ]
    return "\n".join([f"# {CALLED.get(room, room.capitalize())}\n", *sections])


def first_page(table: dict[str, list[str]]) -> str:
    """docs/index.md, seen from the top of the site, with the table of contents."""
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    text = re.sub(r"\]\((?!https?:|#|\.\./)", "](docs/", text).replace("](../", "](")
    text = re.sub(r"!\[[^]]*\]\(docs/picture\.svg\)", lambda _: draw_picture.for_a_page(), text)
    trees = [
        "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *names, "```", ""])
        for caption, names in table.items()
        if names
    ]
    return "\n".join([text, *trees])


def lesson(text: str) -> str:
    """A notebook for reading: the setup folded away, no badges, since the page has buttons for the same."""
    notebook = json.loads(text)
    cells = notebook["cells"]
    title = "".join(cells[0]["source"])
    cells[0]["source"] = "\n\n".join(p for p in title.split("\n\n") if not p.startswith("[!["))
    for cell in cells:
        if "setup" in (tags := cell["metadata"].get("tags", [])):
            tags.append("hide-cell")
    return json.dumps(notebook)


def page(text: str, name: str) -> str:
    """A page: with a title, if it is only tables; GitHub's index is the first page here; sources are read on GitHub."""

    def target(match: re.Match) -> str:
        file = (ROOT / name).parent.joinpath(match[1]).resolve()
        if not file.exists() or file.is_relative_to(ROOT / "docs") or file.suffix in (".md", ".ipynb"):
            return match[0]
        return f"]({REPOSITORY}/{'tree' if file.is_dir() else 'blob'}/{BRANCH}/{file.relative_to(ROOT).as_posix()}"

    title = "" if text.startswith("# ") else f"# Tables: {name.rpartition('/')[2].removesuffix('-tables')}\n\n"
    text = re.sub(r"\]\(([\w./-]+)", target, text)
    return title + text.replace("](docs/README.md", "](index.md").replace("](README.md", "](../index.md")


def lay_out(source: Path) -> None:
    """All pages and pictures, where Sphinx reads them."""
    shutil.rmtree(source, ignore_errors=True)
    rooms = modules()
    for name in pages():
        file = next(f for f in (ROOT / f"{name}.md", ROOT / f"{name}.ipynb") if f.exists())
        text = file.read_text(encoding="utf-8")
        target = source / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(lesson(text) if file.suffix == ".ipynb" else page(text, name), encoding="utf-8")
    for file in (ROOT / "docs").rglob("*"):
        if file.suffix in (".png", ".svg", ".csv", ".json") and (source / file.relative_to(ROOT)).parent.is_dir():
            shutil.copy(file, source / file.relative_to(ROOT))
    (source / "api").mkdir()
    for room, names in rooms.items():
        (source / "api" / f"{room}.md").write_text(reference(room, names), encoding="utf-8")
    table = contents([*pages(), *(f"api/{room}" for room in rooms)])
    (source / "index.md").write_text(first_page(table), encoding="utf-8")


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    lay_out(OUT / "source")
    sphinx = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-j", "2", "-c", str(ROOT / "docs")]
    subprocess.run([*sphinx, str(OUT / "source"), str(OUT / "html")], check=True)
    if wrong := problems(OUT / "html"):
        sys.exit("\n".join(wrong))
    print(f"{len(list((OUT / 'html').rglob('*.html')))} pages: {OUT / 'html' / 'index.html'}")


if __name__ == "__main__":
    main()
