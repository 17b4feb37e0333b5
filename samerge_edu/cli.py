"""The command line: samerge-edu doctor | check | leaderboard | methods | suites | ablate | prefetch | merge | lab | ...

Commands import what they need when they run, so that `--help` and a mistyped name answer at once. A mistake of
the caller ends with one line on stderr and exit code 2, before any work. The first sentence of a command's docstring
is its line in `--help`, which has room for 62 characters.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import __version__, names
from .beforehand import check_fillable, check_n, check_new, check_there, check_writable
from .course.classroom import cli as classroom
from .course.lessons import notebook_folder
from .one_line import one_line_errors
from .options import Engine, Fresh, Jobs, journal, stoppable

if TYPE_CHECKING:  # it loads torch, which `--help` does not need
    from .suites.suite import Suite

app = typer.Typer(
    help="Model merging to learn from: SA-Merging, LwPTV and their rivals on real CLIP experts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(classroom.app, name="class")

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


# ---------------------------------------------------------------------------- leaderboard


@app.command()
def leaderboard(
    suite: SuiteName = "pocket",
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            "--only",
            help="Names, separated by commas; all of them if left out.",
            autocompletion=complete_methods,
        ),
    ] = None,
    add: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Your own: a file with METHODS = {'mine': function}.")
    ] = None,
    needs: Annotated[str, typer.Option(help="Rows that need this data: none, unlabelled, labelled or all.")] = "none",
    per_class: PerClass = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    jobs: Jobs = None,
    engine: Engine = "loky",
    fresh: Fresh = False,
    csv: Annotated[Path | None, typer.Option(help="Also write the rows to this CSV file.")] = None,
    json: Annotated[Path | None, typer.Option(help="Also write the whole record to this JSON file.")] = None,
    png: Annotated[Path | None, typer.Option(help="Also draw ID against OOD accuracy into this PNG file.")] = None,
) -> None:
    """Merge by every method and print the table.

    Each method is measured at its published scale and at the one chosen on validation images.
    """
    with one_line_errors():
        needs = names.one_of("needs", needs, ["none", "unlabelled", "labelled", "all"])
        suite, device = checked_suite(suite, device)
        check_writable([csv, json, png])
        check_there(add or [])
        own = own_rows(add or [])
        named = named_methods(methods, own)
        check_adapters(named, suite)
        from tqdm import tqdm

        from . import leaderboard as board
        from .sweep import check_engine, cores

        check_engine(engine)
        if own and engine != "loky":
            raise ValueError(f"--engine {engine}: your own methods run in this process: leave --engine out")
        loaded = loaded_suite(suite, device, per_class=per_class)
        chosen = chosen_methods(named, lora=bool(loaded.adapters), own=own, needs=needs)
    typer.echo(f"suite {loaded.name}, checkpoint family: {loaded.family}\nvalidation: {loaded.validation}")
    beside = any(method.repair or method.beside for method in chosen.values())
    typer.echo(board.heading(beside))

    def each(record: dict, rows: list[dict]) -> None:
        with tqdm.external_write_mode():
            typer.echo("\n".join(board.line(row, beside) for row in rows))
        board.write(record, csv, json)

    written = " and ".join(str(path) for path in (csv, json) if path)
    with (
        stoppable(f"the rows above are finished{' and in ' + written if written else ''}"),
        one_line_errors(),  # the disk may fill up meanwhile
    ):
        n_jobs = 1 if own or device != "cpu" else jobs or cores()
        again = {"name": suite, "device": device} | ({"per_class": per_class} if per_class else {})
        # rows of one's own, and images that others keep, may change without a word
        keep = not own and suite not in names.published() and device == "cpu"
        known = journal("leaderboard", again, fresh) if keep else None
        record = board.run(
            loaded, chosen, progress=True, each=each, n_jobs=n_jobs, again=again, engine=engine, journal=known
        )
        board.write(record, csv, json, png)


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
    jobs: Jobs = None,
    engine: Engine = "loky",
    fresh: Fresh = False,
    out: Annotated[Path, typer.Option(help="Folder for the table, the picture and every single merge.")] = Path(
        "demo/ablations"
    ),
) -> None:
    """Take a method apart: every variant, with its spread.

    Each variant is measured on several subsets of the experts. This takes minutes.
    """
    with one_line_errors():
        method = names.one_of("method", method, names.studies())
        suite, _ = checked_suite(suite)
        check_n(images)
        check_fillable(out)
        check_adapters([method], suite)
        from . import studies
        from .studies.ablation import table
        from .sweep import check_engine, cores

        check_engine(engine)
        keep = suite not in names.published()
    with stoppable("finished merges are kept" if keep else "nothing is kept of a published suite"), one_line_errors():
        known = journal("ablate", {"name": suite}, fresh) if keep else None
        rows = studies.study(
            suite, method, images, sys.stderr.isatty(), n_jobs=jobs or cores(), engine=engine, journal=known
        )
        reference = "Task Arithmetic" if method == "sa-merging" else "TA"
        gains = table(rows, reference)
        typer.echo(gains.round(2).to_string(index=False))
        studies.write(rows, gains, reference, out, method)


@app.command()
def study(
    name: Annotated[
        str,
        typer.Argument(
            help="storage, scale, more-experts, sparse, soup or osrm.", autocompletion=complete(names.questions)
        ),
    ],
    images: Annotated[int | None, typer.Option(min=2, help="Images a task; its own number if left out.")] = None,
    jobs: Jobs = None,
    engine: Engine = "loky",
    fresh: Fresh = False,
    out: Annotated[Path, typer.Option(help="Folder for the record, its tables and its picture.")] = Path(
        "demo/studies"
    ),
) -> None:
    """Answer a question by many merges, with its spread.

    storage: what a megabyte beside one merged model buys. scale: six methods on 1 to 8 experts. more-experts: what
    each further one gains. sparse: experts trained for merging, and masks on them. soup: many runs of one task. osrm:
    LoRA begun orthogonally. Each takes minutes.
    """
    with one_line_errors():
        name = names.one_of("study", name, names.questions())
        from tqdm import tqdm

        from . import studies
        from .sweep import check_engine, cores

        check_engine(engine)
        check_fillable(out)
        chosen = studies.QUESTIONS[name]
        knobs = {} if images is None else {"n": images}
    with stoppable("what had finished is kept"), one_line_errors():
        known = journal("study", {"name": name}, fresh)
        parts = chosen.run(**knobs, n_jobs=jobs or cores(), engine=engine, journal=known)
        record: dict = {}
        for record in tqdm(parts, leave=False, unit="part", disable=None):
            studies.write_json(record, out, name)  # an interruption leaves what is done
        studies.write_tables(record, out, name)
        typer.echo(chosen.report(record))


def own_rows(paths: Sequence[Path]) -> dict:
    """The rows of files and of installed packages, checked (`own_methods`); without any, torch is not loaded."""
    from importlib.metadata import entry_points

    if not paths and not entry_points(group="samerge_edu.methods"):
        return {}
    from .own_methods import from_file, from_packages

    rows = from_packages()
    for path in paths:
        rows |= from_file(path)
    return rows


def named_methods(listed: str | None, own: Iterable[str] = ()) -> list[str]:
    """The names in a list with commas, as the table spells them; none if there is no list: all methods are meant."""
    if listed is None:
        return []
    if not (named := [name for name in listed.split(",") if name.strip()]):
        raise ValueError(f"--methods: got '{listed}', expected names separated by commas")
    return [names.one_of("method", name.strip(), [*names.methods(), *own]) for name in named]


def chosen_methods(named: Sequence[str], lora: bool = False, own: dict | None = None, needs: str = "none") -> dict:
    """The rows that were named, in the table's order; if none was, those that need this kind of data.

    `lora`: the rows of adapters, too; `own`: rows of the caller.
    """
    from .methods import DATA_METHODS, LORA_METHODS, METHODS

    rows = (METHODS | LORA_METHODS if lora else METHODS) | DATA_METHODS | (own or {})
    if others := [name for name in named if name not in rows]:
        raise ValueError(f"method: '{others[0]}' needs LoRA experts: take --suite pocket-lora")
    return {name: row for name, row in rows.items() if (name in named if named else needs in ("all", row.needs))}


def checked_suite(name: str, device: str = "cpu", tasks: str = "", per_class: int | None = None) -> tuple[str, str]:
    """(suite, device) as they are spelt; ValueError for what can be told to be wrong before torch is there."""
    name = names.one_of("suite", name, names.suites())
    published = names.published()
    if tasks and name not in published:
        raise ValueError(f"--tasks: the experts of '{name}' are fixed; a choice have {', '.join(published)}")
    if per_class and name not in published:
        raise ValueError(f"--per-class: the images of '{name}' are fixed; a choice have {', '.join(published)}")
    if tasks:
        from .suites.published.manifest import task_names

        task_names(tasks)
    return name, names.one_of("device", device, ["cpu", "cuda"])


def check_adapters(named: Sequence[str], suite: str) -> None:
    """ValueError for a row or a study of LoRA experts where the suite's are full models."""
    if "-lora" not in suite and (lora := [name for name in named if name in [*names.lora_methods(), "sa-lora"]]):
        raise ValueError(f"method: '{lora[0]}' needs LoRA experts: take --suite pocket-lora")


def loaded_suite(name: str, device: str = "cpu", tasks: str = "", per_class: int | None = None) -> "Suite":
    """`load_suite`, after a look at what there is to choose from in the suite, and at the device."""
    name, device = checked_suite(name, device, tasks, per_class)
    import torch

    from .suites import load_suite

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
        from .suites.published.manifest import OOD, WORKSHOP, task_names

        suite = names.one_of("suite", suite, names.published())
        abroad = OOD if ood == "default" else ood
        task_names(tasks), task_names(abroad)
        from .suites.published.clip_vit import prefetch_suite
        from .suites.published.hub import cache_folder

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
        loaded = loaded_suite(suite, device, tasks, per_class if suite in names.published() else None)
        raise typer.Exit(0 if print_findings(loaded) else 1)


def print_findings(suite: "Suite") -> bool:
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
    method: Annotated[
        str, typer.Option(help="A name that samerge-edu methods lists.", autocompletion=complete(names.methods))
    ],
    out: Annotated[Path, typer.Option(help="The safetensors file to write, or a new folder.")],
    suite: SuiteName = "pocket",
    tasks: Tasks = "",
    base: Annotated[Path | None, typer.Option(help="Your own base: a safetensors file or a model's folder.")] = None,
    expert: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Your own expert: a file, a folder, a PEFT adapter. Repeat it."),
    ] = None,
    lam: Annotated[float | None, typer.Option(help="Scale of the merged update; the paper's if left out.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A knob of the method. Repeat it.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what it would read and hold, and stop.")] = False,
) -> None:
    """Merge experts into one model: a suite's, or your own.

    samerge-edu merge --base B --expert E1 --expert E2 --method TIES --out DIR

    It is done tensor by tensor where the method allows. Prints how much memory that takes, and refuses what would not
    fit before any expert is read. The file holds the recipe and the hashes of its inputs. A folder gets the base's
    shards, configuration and tokenizer, and loads as the base does; the file of a published suite is a whole CLIP.
    """
    with one_line_errors():
        method = names.one_of("method", method, names.methods())
        if base or expert:
            if not (base and expert):
                raise ValueError("--base and --expert go together: one base, one expert or more")
            return merge_own(method, out, base, expert, lam, knobs(settings or []), device, dry_run)
        if settings or dry_run:
            raise ValueError("--set and --dry-run are for models of your own: give --base and --expert")
        suite, device = checked_suite(suite, device, tasks)
        check_writable([out])
        check_adapters([method], suite)
        from tqdm import tqdm

        from .forecast import forecast
        from .streaming import merge_suite

        name, row = chosen_method(method)
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


def merge_own(
    method: str,
    out: Path,
    base: Path,
    experts: list[Path],
    lam: float | None,
    settings: dict,
    device: str,
    dry_run: bool,
) -> None:
    """Merge files and folders: see `merging_files`. A warning about another base is printed and does not stop it."""
    import warnings

    if out.suffix == ".safetensors":
        check_writable([out])
    else:
        check_new(out)
    check_there([base, *experts])
    from tqdm import tqdm

    from .merging_files import merge_files, prepare

    job = prepare(base, experts, method, lam, settings, device)
    typer.echo(str(job.plan))
    if dry_run:
        return
    with (
        warnings.catch_warnings(record=True) as caught,
        tqdm(total=len(job.base.params), leave=False, delay=1, unit="tensor") as bar,
    ):
        warnings.simplefilter("always")
        written = merge_files(job, out, progress=lambda key: bar.update())
    for warning in caught:
        typer.echo(f"samerge-edu: {warning.message}", err=True)
    typer.echo(f"{out}: {sum(f.stat().st_size for f in written) / 1e6:.1f} MB in {len(written)} files")


def knobs(words: list[str]) -> dict[str, object]:
    """["density=0.1", "scope=tensor"] -> {"density": 0.1, "scope": "tensor"}."""
    from ast import literal_eval

    found: dict[str, object] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError(f"--set: got '{word}', expected name=value, such as density=0.1")
        try:
            found[name] = literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found


@app.command()
def methods(
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON, for programs.")] = False,
) -> None:
    """List the methods: scale, needs, knobs, paper.

    The scale is the published one; a knob is set by `merge --set name=value`, and stands here with its default.
    """
    import json

    from .catalogue import method_rows

    rows = method_rows()
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    width = max(map(len, rows))
    for name, row in rows.items():
        typer.echo(f"{name:<{width}}  lam {row['lam']:<4g} needs {row['needs']:<10} {row['year']} arXiv:{row['paper']}")
        if row["knobs"]:
            typer.echo(f"{'':<{width}}  {', '.join(f'{knob}={value}' for knob, value in row['knobs'].items())}")


@app.command()
def suites(as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False) -> None:
    """List the suites: a base, its experts and their tasks."""
    import json

    from .catalogue import suite_rows

    rows = suite_rows()
    typer.echo(json.dumps(rows, indent=1) if as_json else "\n".join(f"{name:<16}{what}" for name, what in rows.items()))


def chosen_method(name: str) -> tuple:
    """(name, row) of a table of methods."""
    row = chosen_methods([name])[name]
    if row.repair or row.beside:
        raise ValueError(f"method: '{name}' keeps something for each task beside the model: no single file")
    return name, row


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
    if loaded and published:  # pocket's bands are about pocket; a published suite has its own
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


@app.command()
def notebooks(folder: Annotated[Path, typer.Argument(help="Where to; made if it does not exist.")]) -> None:
    """Copy the notebooks into a folder of yours. A file that you changed is never overwritten."""
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


@app.command()
def submit(
    file: Annotated[Path | None, typer.Argument(help="Your submission: my_method.py.")] = None,
    images: Annotated[int, typer.Option(help="Validation images a task.")] = 100,
    new: Annotated[
        Path | None, typer.Option(help="Begin: put a submission that runs, template and rubric into this folder.")
    ] = None,
) -> None:
    """Check your own method before you hand it in.

    It is merged in a process of its own, within limits of time and memory, and measured on validation images only: look
    as often as you like. Exit code 1 if a check fails.
    """
    with one_line_errors():
        from .course.capstone import submission as handed_in

        if new is not None:
            for path in handed_in.new(new):
                typer.echo(f"{path}: yours")
            return
        if file is None:
            raise ValueError("submit: got no file, expected my_method.py, or --new FOLDER to begin one")
        check_n(images)
        read = handed_in.read(file)
        from .course.capstone import ranking
        from .leaderboard import heading, line

        found, tau_m = ranking.merge(read)
        typer.echo(ranking.report(read, found))
        if tau_m is None:
            raise typer.Exit(1)
        suite = loaded_suite("pocket")
        experts = ranking.own_accuracy(suite, "val", images)
        about = {"method": read.name, "needs": read.needs, "seconds": found["seconds"]}
        typer.echo(f"\nvalidation, {images} images a task\n{heading()}")
        for row in ranking.measure(suite, tau_m, read.lam, experts, "val", images):
            typer.echo(line(about | row))


@app.command()
def class_leaderboard(
    folder: Annotated[Path, typer.Argument(help="A folder of submissions, one file each.")],
    exam: Annotated[
        int, typer.Option(help="Any number: draws test images that nobody has seen. 0: the public ones.")
    ] = 0,
    images: Annotated[int, typer.Option(help="Images a task, for choosing lam on validation and for the test.")] = 200,
    json: Annotated[Path | None, typer.Option(help="Also write the rows to this JSON file.")] = None,
) -> None:
    """Rank a folder of submissions.

    Each is merged in a process of its own, within limits, and measured on test images at the scale that validation
    images choose. What cannot be measured is listed last, with the reason.
    """
    with one_line_errors():
        check_n(images)
        check_writable([json])
        check_there([folder])
        from json import dumps

        from .course.capstone import ranking

        good, bad = ranking.folder(folder)
        suite = ranking.examined(loaded_suite("pocket"), exam)
        rows = ranking.class_table(suite, good, images)
        rows += bad
        typer.echo(f"suite pocket, exam {exam}, {images} images a task\n{ranking.text(rows)}")
        if json:
            record = {"suite": "pocket", "exam": exam, "images": images, "rows": rows}
            json.write_text(dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def main() -> None:
    """The program: `samerge-edu`, `python -m samerge_edu`, `python -m samerge_edu.cli`."""
    app(prog_name="samerge-edu")


if __name__ == "__main__":
    main()
