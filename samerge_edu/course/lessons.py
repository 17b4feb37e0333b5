"""Where the notebooks of the course are."""

from pathlib import Path


def notebook_folder() -> Path:
    """Where the course is: inside an installed package, or beside the package in a checkout."""
    package = Path(__file__).parents[1]
    folders = [package / "notebooks", package.parent / "notebooks"]
    for folder in folders:
        if any(folder.glob("*.ipynb")):
            return folder
    raise ValueError("this installation has no notebooks: install samerge-edu again")


def lessons() -> dict[str, Path]:
    """The notebook of each lesson: "01" -> .../01_task_vectors.ipynb, in order."""
    files = sorted(notebook_folder().glob("[0-9][0-9]*_*.ipynb"))
    return {path.stem.partition("_")[0]: path for path in files}
