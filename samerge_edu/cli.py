"""The command line: samerge-edu doctor | leaderboard | ablate | prefetch | check | merge | lab | notebooks | course.

Commands import what they need when they run, so that `--help` and a mistyped name answer at once. A mistake of
the caller ends with one line on stderr and exit code 2, before any work. The first sentence of a command's docstring
is its line in `--help`, which has room for 62 characters.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from . import __version__, names

app = typer.Typer(
    help="Model merging to learn from: SA-Merging, LwPTV and their rivals on real CLIP experts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

PerClass = Annotated[
    int | None,
    typer.Option(min=1, help="Look at so many test and validation images of each class (published suites)."),
]


def complete(known: Callable[[], list[str]]) -> Callable[[str], list[str]]:
    """What the shell offers after TAB: what is typed, whatever its case, completed to the known names."""
    return lambda incomplete: [
        incomplete + name[len(incomplete) :] for name in known() if name.lower().startswith(incomplete.lower())
    ]


def complete_methods(incomplete: str) -> list[str]:
    """The same for the last name of a list with commas."""
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in complete(names.methods)(last)]


SuiteName = Annotated[
    str,
    typer.Option(
        "--suite",
        help="Base, experts and tasks: pocket comes with the package.",
        autocompletion=complete(names.suites),
    ),
]


def print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"samerge-edu {__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    """Model merging to learn from: SA-Merging, LwPTV and their rivals on real CLIP experts."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a complaint about input, files or memory into one line on stderr and exit code 2."""
    try:
        yield
    except (ValueError, OSError, MemoryError, ImportError) as e:
        typer.echo(f"samerge-edu: {' '.join(str(e).split())}", err=True)
        raise typer.Exit(2) from None


# ---------------------------------------------------------------------------- leaderboard


@app.command()
def leaderboard(
    suite: SuiteName = "pocket",
    methods: Annotated[
        str | None,
        typer.Option(help="Names, separated by commas; all of them if left out.", autocompletion=complete_methods),
    ] = None,
    per_class: PerClass = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    csv: Annotated[Path | None, typer.Option(help="Also write the rows to this CSV file.")] = None,
    json: Annotated[Path | None, typer.Option(help="Also write the whole record to this JSON file.")] = None,
    png: Annotated[Path | None, typer.Option(help="Also draw ID against OOD accuracy into this PNG file.")] = None,
) -> None:
    """Merge by every method and print the table.

    Each method is measured at its published scale and at the one chosen on validation images.
    """
    with one_line_errors():
        named = named_methods(methods)
        suite = names.one_of("suite", suite, names.suites())
        from tqdm import tqdm

        from . import leaderboard as board

        board.check_writable([csv, json, png])
        loaded = loaded_suite(suite, device, per_class=per_class)
        chosen = chosen_methods(named, lora=bool(loaded.adapters))
    typer.echo(f"suite {loaded.name}, checkpoint family: {loaded.family}\nvalidation: {loaded.validation}")
    typer.echo(board.heading())

    def each(record: dict, rows: list[dict]) -> None:
        with tqdm.external_write_mode():
            typer.echo("\n".join(map(board.line, rows)))
        board.write(record, csv, json)

    try:
        with one_line_errors():  # the disk may fill up meanwhile
            record = board.run(loaded, chosen, progress=True, each=each)
            board.write(record, csv, json, png)
    except KeyboardInterrupt:
        written = " and ".join(str(path) for path in (csv, json) if path)
        typer.echo(f"\nstopped; the rows above are finished{' and in ' + written if written else ''}", err=True)
        raise typer.Exit(130) from None


@app.command()
def ablate(
    method: Annotated[
        str,
        typer.Argument(
            help="sa-merging, in-front, lwptv, or sa-lora (with --suite pocket-lora).",
            autocompletion=complete(names.studies),
        ),
    ],
    suite: SuiteName = "pocket",
    images: Annotated[int, typer.Option(help="Images a task, for choosing lam on validation and for the test.")] = 60,
    out: Annotated[Path, typer.Option(help="Folder for the table, the picture and every single merge.")] = Path(
        "demo/ablations"
    ),
) -> None:
    """Take a method apart: every variant, with its spread.

    Each variant is measured on several subsets of the experts. This takes minutes.
    """
    with one_line_errors():
        method = names.one_of("method", method, names.studies())
        suite = names.one_of("suite", suite, names.suites())
        from . import studies
        from .studies.ablation import table
        from .suites.suite import check_n

        check_n(images)
        studies.check_folder(out)
        loaded = loaded_suite(suite)
        rows = studies.study(loaded, method, n=images, progress=sys.stderr.isatty())
    reference = "Task Arithmetic" if method == "sa-merging" else "TA"
    gains = table(rows, reference)
    typer.echo(gains.round(2).to_string(index=False))
    with one_line_errors():
        studies.write(rows, gains, reference, out, method)


def named_methods(listed: str | None) -> list[str]:
    """The names in a list with commas, as the table spells them; none if there is no list: all methods are meant."""
    if listed is None:
        return []
    if not (named := [name for name in listed.split(",") if name.strip()]):
        raise ValueError(f"--methods: got '{listed}', expected names separated by commas")
    return [names.one_of("method", name.strip(), names.methods()) for name in named]


def chosen_methods(named: Sequence[str], lora: bool = False) -> dict:
    """The rows that were named, in the table's order; all if none was. `lora`: the rows of adapters, too."""
    from .methods import LORA_METHODS, METHODS

    rows = METHODS | LORA_METHODS if lora else METHODS
    if others := [name for name in named if name not in rows]:
        raise ValueError(f"method: '{others[0]}' needs LoRA experts: take --suite pocket-lora")
    return {name: method for name, method in rows.items() if not named or name in named}


def loaded_suite(name: str, device: str = "cpu", tasks: str = "", per_class: int | None = None):
    """`load_suite`, after a look at the names, the device, and at what there is to choose from in the suite."""
    name = names.one_of("suite", name, names.suites())
    import torch

    from .suites import load_suite
    from .suites.published.manifest import SUITES

    if tasks and name not in SUITES:
        raise ValueError(f"--tasks: the experts of '{name}' are fixed; a choice have {', '.join(SUITES)}")
    if per_class and name not in SUITES:
        raise ValueError(f"--per-class: the images of '{name}' are fixed; a choice have {', '.join(SUITES)}")
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    if device not in devices:
        raise ValueError(f"unknown device '{device}'; here there are: {', '.join(devices)}")
    chosen = ({"tasks": tasks} if tasks else {}) | ({"per_class": per_class} if per_class else {})
    return load_suite(name, device=device, **chosen)


# ---------------------------------------------------------------------------- published experts

Tasks = Annotated[
    str, typer.Option(help="Names with commas, or 8, 14, 20 for the literature's lists; four small ones if left out.")
]


@app.command()
def prefetch(
    suite: Annotated[
        str,
        typer.Option(help="Which experts: vit-b-32-lora is the smallest.", autocompletion=complete(names.published)),
    ] = "vit-b-32-lora",
    tasks: Tasks = "",
    images: Annotated[bool, typer.Option("--images", help="The tasks' test images, too.")] = False,
    ood: Annotated[str, typer.Option(help="And of tasks without an expert: names, or 'default'.")] = "",
    val: Annotated[bool, typer.Option("--val", help="And the splits that hold the validation images.")] = False,
    to: Annotated[Path | None, typer.Option(help="Also copy all files there, for machines without a network.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print sizes and licences, fetch nothing.")] = False,
) -> None:
    """Download published experts and check them.

    Prints first what they weigh; a second call only checks. Afterwards the suite works without a network here, and
    elsewhere with SAMERGE_ASSETS=DIR of `--to DIR`; a classroom that also
    chooses scales and looks at OOD tasks needs --images --val --ood default.
    """
    with one_line_errors():
        from .suites.published.clip_vit import prefetch_suite
        from .suites.published.hub import cache_folder
        from .suites.published.manifest import OOD, WORKSHOP

        abroad = OOD if ood == "default" else ood
        prefetch_suite(
            suite, tasks or WORKSHOP, images=images, ood=abroad, val=val, dry_run=dry_run, to=to, say=typer.echo
        )
        typer.echo(f"{'would be kept' if dry_run else 'kept'} in {cache_folder()}")


@app.command()
def check(
    suite: SuiteName = "pocket",
    tasks: Tasks = "",
    per_class: Annotated[int, typer.Option(min=1, help="Test images of each class (published suites).")] = 25,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Are these the right models and images? One line a task.

    Run it before you believe a result. Exit code 1 if something is wrong: another base or activation, shuffled labels,
    a broken adapter, a truncated split.
    """
    with one_line_errors():
        from .suites.published.manifest import SUITES

        loaded = loaded_suite(suite, device, tasks, per_class if suite in SUITES else None)
        raise typer.Exit(0 if print_findings(loaded) else 1)


def print_findings(suite) -> bool:
    """Print the self-check of a suite line by line, as it goes on; whether all is well."""
    from . import selfcheck

    known = selfcheck.REFERENCES.get(suite.name)
    typer.echo(f"suite {suite.name}: {suite.family}\nin brackets: {known.source if known else 'nothing is published'}")
    well = True
    for finding in selfcheck.check(suite):
        typer.echo(finding)
        well = well and finding.problem is None
    typer.echo("All is well." if well else "Do not use these numbers before the problem is solved.")
    return well


@app.command()
def merge(
    method: Annotated[str, typer.Option(help="One row of the leaderboard.", autocompletion=complete(names.methods))],
    out: Annotated[Path, typer.Option(help="The safetensors file to write, best in a folder of its own.")],
    suite: SuiteName = "pocket",
    tasks: Tasks = "",
    lam: Annotated[float | None, typer.Option(help="Scale of the merged update; the paper's if left out.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Merge a suite's experts into one file.

    It is done tensor by tensor where the method allows. Prints how much memory that takes, and refuses what would not
    fit before any expert is read. The file holds the recipe and the hashes of its inputs; that of a published suite is
    a whole CLIP, which open_clip loads.
    """
    with one_line_errors():
        method = names.one_of("method", method, names.methods())
        suite = names.one_of("suite", suite, names.suites())
        from tqdm import tqdm

        from .forecast import forecast
        from .leaderboard import check_writable
        from .streaming import merge_suite

        name, row = chosen_method(method)
        check_writable([out])
        loaded = loaded_suite(suite, device, tasks)
        typer.echo(f"{name} of {', '.join(loaded.experts)} ({loaded.family})")
        plan = forecast([loaded.theta_0, *loaded.experts.values()], row.per_tensor, loaded.device)
        typer.echo(f"{plan}\nthis command: {plan.streamed}")
        lam = row.lam if lam is None else lam
        with tqdm(total=len(loaded.theta_0), leave=False, delay=1, unit="tensor", disable=None) as bar:
            merge_suite(
                loaded,
                row.recipe(loaded),
                out,
                lam=lam,
                per_tensor=row.per_tensor,
                recipe=name,
                progress=lambda key: bar.update(),
            )
        typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB, lam = {lam:g}")


def chosen_method(name: str) -> tuple:
    """(name, row) of METHODS."""
    return name, chosen_methods([name])[name]


# ---------------------------------------------------------------------------- doctor


@app.command()
def doctor(
    suite: Annotated[
        str,
        typer.Option(
            help="Measure this suite's acceptance bands again, from its weights.", autocompletion=complete(names.suites)
        ),
    ] = "",
    per_class: Annotated[int, typer.Option(min=1, help="Test images of each class (published suites).")] = 25,
) -> None:
    """Look for what is missing, and say what mends it.

    Prints versions, device, memory and the suite's acceptance bands. Exit code 1 if something is missing or a band is
    missed; targets, aimed at beside the bands, do not count.
    """
    with one_line_errors():
        suite = names.one_of("suite", suite, names.suites()) if suite else ""
        published = suite in names.published()
        from . import doctor as checks

        loaded = loaded_suite(suite, per_class=per_class if published else None) if suite else None
    for name, value in checks.machine().items():
        typer.echo(f"{name:<16} {value}")
    well, measured = True, []
    if published:  # pocket's bands are about pocket; a published suite has its own
        typer.echo()
        with one_line_errors():
            well = print_findings(loaded)
    else:
        measured = checks.bands(loaded) if loaded else checks.recorded_bands() or []
    if measured:
        typer.echo(f"\n{suite or 'pocket'} suite, {'measured now' if suite else 'as recorded when it was built'}:")
    for band in measured:
        verdict = ("missed" if checks.is_target(band) else "OUTSIDE") if checks.outside(band) else "inside"
        typer.echo(f"  {band['name']:<45} {band['low']:7.2f} .. {band['high']:6.2f} {band['value']:9.2f}  {verdict}")
    missing = checks.missing()
    typer.echo("\nNothing is missing." if not missing else "\nMissing:")
    for what, repair in missing.items():
        typer.echo(f"  {what}\n      {repair}")
    if missing or not well or any(checks.outside(band) and not checks.is_target(band) for band in measured):
        raise typer.Exit(1)


# ---------------------------------------------------------------------------- notebooks


def notebook_folder() -> Path:
    """Where the course is: inside an installed package, or beside the package in a checkout."""
    here = Path(__file__).parent
    folders = [here / "notebooks", here.parent / "notebooks"]
    for folder in folders:
        if any(folder.glob("*.ipynb")):
            return folder
    raise ValueError("this installation has no notebooks: install samerge-edu again")


@app.command()
def notebooks(folder: Annotated[Path, typer.Argument(help="Where to; made if it does not exist.")]) -> None:
    """Copy the notebooks of the course into a folder of yours. A file that you changed is never overwritten."""
    with one_line_errors():
        copy_notebooks(notebook_folder(), folder)


def copy_notebooks(source: Path, folder: Path) -> None:
    """Copy *.ipynb; where the name is taken by something else, write NAME.new.ipynb beside it and say so."""
    folder.mkdir(parents=True, exist_ok=True)
    for notebook in sorted(source.glob("*.ipynb")):
        target, fresh = folder / notebook.name, folder / f"{notebook.stem}.new.ipynb"
        if not os.path.lexists(target):  # a link to nothing is there, too: one would write through it
            shutil.copyfile(notebook, target)
            typer.echo(f"{target}: copied")
        elif same_bytes(notebook, target):
            typer.echo(f"{target}: already here")
        elif not os.path.lexists(fresh) or same_bytes(notebook, fresh):
            shutil.copyfile(notebook, fresh)
            typer.echo(f"{target}: yours differs and is kept; the original is {fresh.name}")
        else:
            typer.echo(f"{target}: yours differs and is kept, {fresh.name} too; move one away to get the original")


def same_bytes(a: Path, b: Path) -> bool:
    """Whether two files have the same content; a link to nothing has none."""
    return b.exists() and a.read_bytes() == b.read_bytes()


@app.command()
def lab(
    folder: Annotated[
        Path | None, typer.Argument(help="Your copy of the notebooks; made if it does not exist.")
    ] = None,
) -> None:
    """Open your copy of the notebooks in JupyterLab.

    It is in ./samerge-notebooks unless you name a folder, and stays as it is if it is there already.
    """
    with one_line_errors():
        if find_spec("jupyterlab") is None:
            raise ValueError("JupyterLab is not installed: pip install jupyterlab")
        source, folder = notebook_folder(), folder or Path("samerge-notebooks")
        if folder.resolve() == source.resolve():
            raise ValueError(f"{folder} holds the originals: name another folder, they are copied there")
        copy_notebooks(source, folder)
    raise typer.Exit(run_jupyterlab(folder))


def run_jupyterlab(folder: Path) -> int:
    """JupyterLab's exit code. Ctrl-C reaches both of us: JupyterLab asks what is meant, and here nothing is done."""
    server = subprocess.Popen([sys.executable, "-m", "jupyterlab", str(folder)])
    while True:
        try:
            return server.wait()
        except KeyboardInterrupt:
            continue


# ---------------------------------------------------------------------------- course


@app.command()
def course(
    audit: Annotated[
        bool, typer.Option("--audit", help="Check the exercises: what happens without any option, too.")
    ] = False,
    attack: Annotated[bool, typer.Option("--attack", help="Change every solution: is it noticed?")] = False,
) -> None:
    """Check the exercises themselves, and print the table.

    Is every reference accepted, and every typical mistake caught with its own hint? Under a minute.
    """
    well = True
    if audit or not attack:
        from .course.audit import audit as run_audit

        well = run_audit()
    if attack:
        from .course.attack import attack as run_attack

        well = run_attack() and well
    raise typer.Exit(0 if well else 1)


def main() -> None:
    """The program: `samerge-edu`, `python -m samerge_edu`, `python -m samerge_edu.cli`."""
    app(prog_name="samerge-edu")


if __name__ == "__main__":
    main()
