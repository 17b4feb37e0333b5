"""Make a deck of each lesson: reveal.js slides that need no network.

    python data_scripts/make_slides.py           all lessons, into build/slides; open its index.html
    python data_scripts/make_slides.py 01 03     two of them

`make slides` installs what it needs and calls this. What is shown of a lesson is decided by a rule (slide_cells.py);
its whole text is in the speaker's notes (key S). reveal.js and MathJax are copied beside the decks, from two Python
packages that ship them. Seconds.
"""

import argparse
import importlib.util
import shutil
import sys
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from nbconvert.preprocessors import TagRemovePreprocessor
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from data_scripts.slide_cells import deck  # noqa: E402 - only now is this checkout on the path
from samerge_edu.course.lessons import lessons  # noqa: E402

OUT = ROOT / "build" / "slides"
REVEAL = ["dist/reveal.js", "dist/reveal.css", "dist/theme/white.css", "dist/theme/fonts", "plugin/notes/notes.js"]
PARTS = {  # (package, folder in it, folder beside the decks) -> what a deck loads, and its licence
    ("sphinx_revealjs", "_static/revealjs", "reveal"): [*REVEAL, "LICENSE"],
    ("sphinx-mathjax-offline", "static/mathjax", "mathjax"): ["tex-chtml.js", "output/chtml/fonts/woff-v2"],
}


def copy_parts(folder: Path) -> None:
    """reveal.js and MathJax, of each what a deck loads."""
    for (package, inside, name), files in PARTS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            sys.exit(f"the package {package} is missing: pip install 'samerge-edu[site]'")
        for file in files:
            source, target = Path(spec.origin).parent / inside / file, folder / name / file
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copy(source, target)


def exporter() -> SlidesExporter:
    """nbconvert's slides with the template of docs/site/slides."""
    settings = {"reveal_url_prefix": "reveal", "reveal_theme": "white", "template_name": "slides"}
    settings |= {"reveal_width": "1280", "reveal_height": "770"}
    slides = SlidesExporter(
        config=Config(SlidesExporter=settings), extra_template_basedirs=[str(ROOT / "docs" / "site")]
    )
    slides.register_preprocessor(TagRemovePreprocessor(remove_input_tags={"hidden"}), enabled=True)
    return slides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", help="numbers such as 00 01; all of them if none is given")
    arguments = parser.parse_args()
    notebooks = lessons()
    if unknown := set(arguments.lessons) - notebooks.keys():
        parser.error(f"no lesson {', '.join(sorted(unknown))}, there are {', '.join(notebooks)}")
    copy_parts(OUT)
    slides, links = exporter(), []
    for number in arguments.lessons or notebooks:
        lesson = deck(nbformat.read(notebooks[number], as_version=4))
        lesson.metadata.title = lesson.cells[0].source.partition("\n")[0].removeprefix("# ")
        html, _ = slides.from_notebook_node(lesson)
        (target := OUT / f"{notebooks[number].stem}.html").write_text(html, encoding="utf-8")
        links.append(f'<li><a href="{target.name}">{lesson.metadata.title}</a></li>')
        print(f"{target}: {target.stat().st_size / 1000:.0f} kB")
    head = '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Slides</title><h1>Slides</h1>'
    (OUT / "index.html").write_text(f"{head}<ul>{''.join(links)}</ul></html>\n", encoding="utf-8")


if __name__ == "__main__":
    main()
