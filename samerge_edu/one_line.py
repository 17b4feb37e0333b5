"""How a command ends that cannot do what it is asked: with one line."""

from collections.abc import Generator
from contextlib import contextmanager

import typer


@contextmanager
def one_line_errors() -> Generator[None]:
    """Turn a complaint about input, files or memory into one line on stderr and exit code 2."""
    try:
        yield
    except (ValueError, OSError, MemoryError, ImportError) as e:
        typer.echo(f"samerge-edu: {' '.join(str(e).split())}", err=True)
        raise typer.Exit(2) from None
