"""samerge-edu class: handout | check-submission | grade | report."""

from pathlib import Path
from typing import Annotated

import typer

from ...one_line import one_line_errors
from ...options import Jobs

app = typer.Typer(
    help="For those who teach: hand out, grade, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def listed(words: str) -> list[str]:
    """What stands between the commas."""
    return [word.strip() for word in words.split(",") if word.strip()]


@app.command()
def handout(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made if it does not exist.")],
    lessons: Annotated[str, typer.Option(help="Numbers with commas, such as 01,02b; all if left out.")] = "",
    plan: Annotated[str | None, typer.Option(help="Cut down to a plan: workshop-90, half-day or semester.")] = None,
    format: Annotated[str, typer.Option(help="plain or nbgrader.")] = "plain",
    solutions: Annotated[str, typer.Option(help="In the student's edition: no, folded, or yes.")] = "no",
    hints: Annotated[str, typer.Option(help="Keep the folded hints: yes or no.")] = "yes",
    seed: Annotated[int | None, typer.Option(help="Of nbgrader's hidden checks; drawn if left out.")] = None,
) -> None:
    """Write the notebooks for a class.

    Plain: a student's edition and a solved one. nbgrader: what `nbgrader generate_assignment` starts from, with hidden
    checks. Nothing that is there is written over.
    """
    with one_line_errors():
        from .handout import exercises_in
        from .handout import handout as write

        if hints not in ("yes", "no"):
            raise ValueError(f"hints: got '{hints}', expected yes or no")
        written, used = write(folder, listed(lessons), plan, format, solutions, hints == "yes", seed)
        for path in written:
            typer.echo(path)
        if plan is not None:
            set_by_it = ",".join(exercises_in(written))
            typer.echo(f"to grade what this plan sets: samerge-edu class grade FOLDER --exercises {set_by_it}")
        if format == "nbgrader":
            typer.echo(f"seed {used}: keep it to yourself. `samerge-edu class grade --seed {used}` asks the same")


@app.command()
def check_submission(
    file: Annotated[Path, typer.Argument(help="Your notebook, as you are about to hand it in.")],
) -> None:
    """Look for what nbgrader would stumble over in a file.

    Names cells that were copied, lost their metadata or were changed: nbgrader fails at them, and does not say why.
    Runs nothing. Exit code 1 if something is wrong.
    """
    with one_line_errors():
        from .before import problems

        found = problems(file)
    typer.echo("\n".join(found) if found else f"{file}: nothing is in nbgrader's way")
    raise typer.Exit(1 if found else 0)


@app.command()
def grade(
    folder: Annotated[Path, typer.Argument(help="STUDENT/NN_lesson.ipynb, or NN_lesson_STUDENT.ipynb.")],
    out: Annotated[Path, typer.Option(help="The table, a CSV file.")] = Path("grades.csv"),
    seed: Annotated[int | None, typer.Option(help="Also ask other shapes and numbers, drawn with this.")] = None,
    exercises: Annotated[str, typer.Option(help="Ids with commas, where only some were set: 01.1,01.3.")] = "",
    jobs: Jobs = None,
    feedback: Annotated[str, typer.Option(help="A page a student: html, markdown or no.")] = "html",
) -> None:
    """Grade a folder of notebooks.

    Functions are found by name and examined within limits, without files, network or other processes; nothing but
    imports and definitions is run. A job is a notebook, and all of them stay on this machine. One row a student and
    exercise, and a page for each student in OUT_feedback.
    """
    with one_line_errors():
        from ...leaderboard import check_writable
        from ...sweep import cores
        from ..bank import exercise
        from ..draws import check_seed
        from . import grade as grading

        if feedback not in (*grading.PAGES, "no"):
            raise ValueError(f"feedback: got '{feedback}', expected one of {', '.join(grading.PAGES)}, no")
        check_writable([out])
        if seed is not None:
            check_seed(seed)
        only = listed(exercises)
        try:
            for id in only:
                exercise(id)
        except KeyError as e:
            raise ValueError(e.args[0]) from None
        graded = []
        for student, path, found in grading.grade(folder, seed, jobs or cores()):
            graded.append((student, path, found))
            right = sum(answer["verdict"] == "PASS" for answer in found.get("exercises", []))
            says = found.get("problem") or f"{right} of {len(found['exercises'])}"
            typer.echo(f"{student:<24} {path.name:<40} {says}")
        table = grading.rows(graded, folder, only)
        grading.write_csv(table, out)
        typer.echo(f"{out}: {len(table)} rows")
        if feedback != "no":
            pages = grading.write_feedback(table, out.with_name(f"{out.stem}_feedback"), feedback)
            typer.echo(f"{pages[0].parent}: {len(pages)} pages")


@app.command()
def report(
    table: Annotated[Path, typer.Argument(metavar="GRADES", help="The table that `class grade` wrote.")],
    out: Annotated[Path, typer.Option(help="The page, an HTML file.")] = Path("report.html"),
    names: Annotated[bool, typer.Option("--names", help="Names in place of numbers.")] = False,
) -> None:
    """Show where the class fails, and which hint would help.

    One page without scripts or links: a bar for each exercise, the misconceptions, a table with numbers for names.
    """
    with one_line_errors():
        from ...leaderboard import check_writable
        from . import report as reporting

        check_writable([out])
        out.write_text(reporting.page(reporting.read(table), names), encoding="utf-8")
        typer.echo(out)
