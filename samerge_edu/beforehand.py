"""What can be refused before any work, and without torch: numbers, files and folders of a command.

torch takes seconds to load; a mistyped path should not.
"""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


def check_n(n: int | None) -> None:
    """Raise ValueError unless n is a number of images, at least 1, or None for all of them."""
    if n is not None and (not isinstance(n, int) or n < 1):
        raise ValueError(f"n: got {n!r}, expected a whole number of images, at least 1, or None for all")


def check_writable(paths: Iterable[Path | None]) -> None:
    """Raise ValueError for a file that could not be written or is named twice."""
    paths = [path for path in paths if path is not None]
    for path in paths:
        if path.is_dir():
            raise ValueError(f"cannot write {path}: it is a folder")
        if not path.parent.is_dir():
            raise ValueError(f"cannot write {path}: there is no folder {path.parent}")
        if path.exists() and not os.access(path, os.W_OK):
            raise ValueError(f"cannot write {path}: the file is read-only")
        try:
            tempfile.TemporaryFile(dir=path.parent).close()
        except OSError as e:
            raise ValueError(f"cannot write {path}: {e.strerror}") from e
    if len({path.resolve() for path in paths}) < len(paths):
        raise ValueError(f"the same file is named twice: {', '.join(map(str, paths))}")


def check_fillable(folder: Path) -> None:
    """Raise ValueError or OSError for a folder that could not be made or filled."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise ValueError(f"cannot write into {folder}: {existing} is no folder")
    tempfile.TemporaryFile(dir=existing).close()


def check_new(folder: Path) -> None:
    """Raise ValueError for a folder that has something in it, or a file of that name."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ValueError(f"{folder} exists already: choose a new folder")


def check_there(paths: Iterable[Path]) -> None:
    """Raise FileNotFoundError for a file or folder that is to be read and does not exist."""
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"no such file or folder: {path}")
