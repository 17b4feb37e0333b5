"""Write docs/teaching_plans.md from the plans' data, samerge_edu/course/classroom/plans.toml.

    python data_scripts/write_plans.py

A second; a test compares the page with the data.
"""

from pathlib import Path

import typer

from samerge_edu.course.classroom.plans import PLANS, Plan, Stop, stated

FILE = Path(__file__).resolve().parents[1] / "docs" / "teaching_plans.md"
HEAD = """\
# Plans for a room

Three plans: what is shown, said and done at each stop, and what goes wrong. This page is written by
`data_scripts/write_plans.py` from `samerge_edu/course/classroom/plans.toml`; edit that file to change a plan.

The minutes of a stop cover what it holds: its text at the pace of the lessons' reading time, the minutes that each
exercise states, two minutes for a question to vote on, and the time that its sections took to run on two cores
(`python data_scripts/time_lessons.py`, 2026-11-25, on a machine that was busy with other things). A test adds them up.
What a plan leaves out is cut from its notebooks, except for the code that the rest needs, which is folded away.

Slides of every lesson: `make slides`, then open `build/slides/index.html`. They need no network; the whole text of the
lesson is in the speaker's notes (key S).
"""


def main(out: Path = FILE) -> None:
    """Write the page."""
    out.write_text(page(), encoding="utf-8")


def page() -> str:
    """All plans, as Markdown."""
    return "\n".join([HEAD, *(block for plan in PLANS.values() for block in plan_blocks(plan))]).rstrip() + "\n"


def plan_blocks(plan: Plan) -> list[str]:
    weeks = list(dict.fromkeys(stop.week for stop in plan.stops))
    home = sum(stop.minutes for stop in plan.stops if stop.home)
    total = f"{stated(plan.stops)} minutes in the room" + (f", {home} at home" if home else "")
    blocks = [f"## {plan.title}\n", f"`{plan.name}`: {total}. {plan.audience}\n"]
    for week in weeks:
        stops = [stop for stop in plan.stops if stop.week == week]
        blocks += [f"### Week {week}\n"] if week else []
        clock = 0
        for stop in stops:
            blocks.append(stop_block(stop, clock))
            clock += 0 if stop.home else stop.minutes
    return blocks


def stop_block(stop: Stop, clock: int) -> str:
    """When, how long, what; then what to say, and what goes wrong."""
    when = "At home" if stop.home else f"{clock // 60}:{clock % 60:02d}"
    what = stop.title or f"Lesson {stop.lesson}"
    if stop.rest:
        what += ", the rest"
    named = [section or "the opening" for section in stop.sections]
    what += f": {'; '.join(named)}" if named else ""
    done = [f"exercises {', '.join(stop.exercises)}"] if stop.exercises else []
    done += [f"vote on {', '.join(stop.quizzes)}"] if stop.quizzes else []
    lines = [f"**{when}** ({stop.minutes} minutes) {what}" + (f" ({'; '.join(done)})" if done else ""), ""]
    lines += [f"* Say: {stop.say}"] + ([f"* Goes wrong: {stop.wrong}"] if stop.wrong else [])
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    typer.run(main)
