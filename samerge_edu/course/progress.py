"""What you have solved, over all notebooks: a small file on this computer, and only if you ask for it.

    se.progress(keep=True)      from now on, note which exercises pass
    se.progress()               show it
    se.progress(forget=True)    delete the file

The file holds the ids of exercises and the day on which each passed first: nothing else, and it is sent nowhere.
SAMERGE_PROGRESS names another place for it, such as a folder on a mounted drive.
"""

import contextlib
import datetime
import json
import os
import tempfile
from pathlib import Path

from .bank import chapter, numbers


def place() -> Path:
    """The file: what SAMERGE_PROGRESS says, or .samerge_progress.json in the home folder."""
    return Path(os.environ.get("SAMERGE_PROGRESS") or Path.home() / ".samerge_progress.json").expanduser()


def progress(keep: bool = False, forget: bool = False) -> None:
    """Print which exercises you have solved so far; `keep` starts to note them, `forget` deletes what was noted.

    Nothing is kept before you have asked for it once. What passed before that is noted when it is checked again.
    """
    try:
        if forget:
            place().unlink(missing_ok=True)
            print("forgotten: nothing is kept any more")
            return
        if keep and not place().is_file():
            place().parent.mkdir(parents=True, exist_ok=True)
            _write({})
        if not place().is_file():
            print("nothing is kept: se.progress(keep=True) begins to, in one file on this computer")
            return
        print("\n".join([*map(_line, numbers()), f"kept in {place()}; se.progress(forget=True) deletes it"]))
    except OSError as e:  # as with the checks, no notebook stops here
        print(f"your progress could not be kept or shown: {e}")


def remember(id: str) -> None:
    """Note that an exercise passed, if its learner has asked for that. Never raises."""
    with contextlib.suppress(OSError):
        if place().is_file() and id not in (solved := _read()):
            _write(solved | {id: datetime.date.today().isoformat()})


def _line(number: str) -> str:
    solved, ids = _read(), [task.id for task in chapter(number).EXERCISES]
    done = [id for id in ids if id in solved]
    left = [id for id in ids if id not in solved]
    return f"{number:<4} {len(done)} of {len(ids)}   {' '.join([*(f'✓{id}' for id in done), *left])}"


def _read() -> dict[str, str]:
    """What the file says; nothing if somebody else has written into it."""
    with contextlib.suppress(ValueError, UnicodeError):
        noted = json.loads(place().read_text(encoding="utf-8"))
        if isinstance(noted, dict) and isinstance(noted.get("solved"), dict):
            return noted["solved"]
    return {}


def _write(solved: dict[str, str]) -> None:
    """All or nothing: two notebooks may write at once."""
    with tempfile.NamedTemporaryFile("w", dir=place().parent, delete=False, encoding="utf-8") as file:
        json.dump({"solved": solved}, file, indent=1)
    os.replace(file.name, place())
