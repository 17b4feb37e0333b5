"""Make a page of each notebook, for readers without Jupyter: `folder/NN_name.html`.

    python data_scripts/export_notebooks.py --to pages          all notebooks
    python data_scripts/export_notebooks.py --to pages 00 03    two of them

The pages hold their pictures, with alternative text; long lines of code are broken, not cut. Seconds; no download,
but a page fetches the fonts of its formulas when it is opened. Slides: every cell has its tag, so that
`jupyter nbconvert --to slides notebooks/00_start_here.ipynb` makes them.
"""

import argparse
from pathlib import Path

from nbconvert import HTMLExporter
from nbconvert.preprocessors import TagRemovePreprocessor

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
BREAK_LINES = """\
<style>
.jp-Cell pre { white-space: pre-wrap; overflow-wrap: anywhere; }
</style>
</head>"""


def page(notebook: Path) -> str:
    """The notebook as HTML, without the code of the setup cells."""
    exporter = HTMLExporter()
    exporter.register_preprocessor(TagRemovePreprocessor(remove_input_tags={"setup"}), enabled=True)
    html, _ = exporter.from_filename(str(notebook))
    return html.replace("</head>", BREAK_LINES, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", help="numbers such as 00 01; all of them if none is given")
    parser.add_argument("--to", type=Path, required=True, help="folder for the pages; made if it does not exist")
    arguments = parser.parse_args()
    notebooks = {path.stem.partition("_")[0]: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]*_*.ipynb"))}
    if unknown := set(arguments.lessons) - notebooks.keys():
        parser.error(f"no lesson {', '.join(sorted(unknown))}, there are {', '.join(notebooks)}")
    arguments.to.mkdir(parents=True, exist_ok=True)
    for number in arguments.lessons or notebooks:
        target = arguments.to / f"{notebooks[number].stem}.html"
        target.write_text(page(notebooks[number]), encoding="utf-8")
        print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
