"""--jobs, --engine and --fresh: the words of every command that does many jobs, declared once.

A sweep (`samerge_edu.sweep`) is loaded when a command runs, not for `--help`.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .sweep.journal import Journal

Jobs = Annotated[int | None, typer.Option(min=1, help="Jobs at a time, a process each; as many as cores if left out.")]
Engine = Annotated[
    str,
    typer.Option(help="Where the jobs run: loky, here; dask:local; dask:tcp://HOST:PORT; ray:auto (docs/cluster.md)."),
]
Fresh = Annotated[
    bool,
    typer.Option(
        "--fresh",
        help="Compute everything anew. Else what finished before is taken from SAMERGE_CACHE or the user's "
        "cache folder, samerge_edu; it is kept of the suites that come with the package.",
    ),
]


def journal(sweep: str, again: Mapping[str, Any], fresh: bool) -> "Journal | None":
    """What a sweep has kept, `sweep.journal.kept`; None, with a line on stderr, where nothing can be written."""
    from .sweep.journal import kept

    try:
        return kept(sweep, again, fresh)
    except OSError as e:  # a home that cannot be written to is no reason not to measure
        typer.echo(f"samerge-edu: results are not kept: {e}", err=True)
        return None


@contextmanager
def stoppable(what_is_left: str) -> Generator[None]:
    """Ctrl-C ends the command with one line, "stopped; " and what is left of its work, and with exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"\nstopped; {what_is_left}", err=True)
        raise typer.Exit(130) from None
