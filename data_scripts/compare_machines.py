"""How far do the leaderboard's numbers move on another machine? The same rows with other arithmetic, side by side.

    python data_scripts/compare_machines.py --python OLDEST/bin/python

Measures all data-free rows under each of `SETTINGS`, and once more with each interpreter that --python names (of an
environment with the oldest supported torch, say); each in a process of its own, about ten minutes on one idle core.
What was measured before is kept. Fills <!-- machines --> in docs/results.md.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from refresh_readme import ROOT, fill, pages

from samerge_edu import leaderboard
from samerge_edu.suites import load_suite

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
SETTINGS = {
    "float32": {"SAMERGE_PRECISION": "float32"},
    "bfloat16": {"SAMERGE_PRECISION": "bfloat16"},
    "float32, AVX2 only": {"SAMERGE_PRECISION": "float32"} | AVX2,  # a processor without AVX-512 and AMX
}
WIDTHS = {"id_avg": "ID avg", "id_worst": "worst", "ood_avg": "OOD avg", "h": "H"}


def main(
    python: Annotated[list[Path] | None, typer.Option(help="Interpreters of other environments.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the records.")] = ROOT / "demo" / "machines",
    only: Annotated[Path | None, typer.Option(help="Measure here and now, write this file and nothing else.")] = None,
) -> None:
    """Measure the leaderboard on other arithmetic, and put the widths into docs/results.md."""
    if only is not None:
        only.write_text(json.dumps(leaderboard.run(load_suite("pocket"))), encoding="utf-8")
        return
    out.mkdir(parents=True, exist_ok=True)
    wanted = [(Path(sys.executable), setting) for setting in SETTINGS]
    wanted += [(interpreter, "float32") for interpreter in python or []]
    records = {}
    for interpreter, setting in wanted:
        name = f"{setting}, torch {torch_of(interpreter)}"
        file = out / f"{name.replace(', ', '-').replace(' ', '_')}.json"
        if not file.exists():
            print(name, flush=True)
            part = file.with_suffix(".part")
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **SETTINGS[setting]}
            subprocess.run([interpreter, __file__, "--only", part], env=environment, check=True)
            part.rename(file)
        records[name] = json.loads(file.read_text(encoding="utf-8"))
    fill("machines", block(records), pages())


def torch_of(interpreter: Path) -> str:
    """The version of an environment's torch, without its build."""
    asked = [interpreter, "-c", "import torch; print(torch.__version__)"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split("+")[0].strip()


def block(records: dict[str, Any]) -> str:
    """Markdown: how far each setting is from the first, over all rows; then how wide each row's numbers are.

    The width of a number is its largest minus its smallest value over all settings.
    """
    tables = {
        name: pd.DataFrame([row for row in record["rows"] if row["lam_from"] == "validation"]).set_index("method")
        for name, record in records.items()
    }
    first, *others = tables
    heads = WIDTHS.values()
    lines = [f"| beside {first} | {' | '.join(f'{head}: mean, largest' for head in heads)} | scale |"]
    lines += ["|---" * (len(WIDTHS) + 2) + "|"]
    for name in others:
        moved = [(tables[name][key] - tables[first][key]).abs() for key in WIDTHS]
        scale = (tables[name].lam / tables[first].lam).apply(lambda ratio: max(ratio, 1 / ratio) - 1)
        cells = " | ".join(f"{of_key.mean():.2f}, {of_key.max():.1f}" for of_key in moved)
        lines.append(f"| {name} | {cells} | {100 * scale.max():.0f} % at most |")
    lines += ["", f"| method | {' | '.join(f'{head}, width' for head in heads)} | scales |"]
    lines += ["|---" * (len(WIDTHS) + 2) + "|"]
    for method, measured in tables[first].iterrows():
        row = pd.DataFrame([table.loc[method] for table in tables.values()])
        cells = " | ".join(f"{measured[key]:.1f}, {row[key].max() - row[key].min():.1f}" for key in WIDTHS)
        lines.append(f"| {method} | {cells} | {row.lam.min():g} to {row.lam.max():g} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    typer.run(main)
