#!/usr/bin/env bash
# Do the notebooks of `samerge-edu class handout --format nbgrader` go through the real nbgrader, and does it agree with
# `samerge-edu class grade`? Needs the package index once, for nbgrader in an environment of its own, which borrows torch
# and the package from the environment that is active.
#
#   data_scripts/test_nbgrader.sh [LESSON]                   lesson 00; NBGRADER_VENV=dir keeps the environment elsewhere
#   data_scripts/test_nbgrader.sh 00 2>&1 | tee log.txt      some minutes on two cores
#
# A class of twelve invented students (tests/invented_class.py) and three files that came to grief. The lesson's own
# experiments are taken out of the notebook before it is released: they take most of nbgrader's time, and no part in a
# grade. FULL=1 leaves them in.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
lesson=${1:-00}
venv=${NBGRADER_VENV:-${TMPDIR:-/tmp}/samerge-nbgrader}
seed=20240611
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} OMP_NUM_THREADS=1 SAMERGE_STATIC=1
export PYTHONWARNINGS=ignore JUPYTER_PLATFORM_DIRS=1

took() { # took WHAT COMMAND...: runs it, and says how long it took
    local what=$1 start=$SECONDS
    shift
    "$@" >>"$log" 2>&1 || { echo "FAILED: $what"; tail -30 "$log"; exit 1; }
    printf '%-60s %4d s\n' "$what" $((SECONDS - start))
}

# ---------------------------------------------------------------------------- an environment of its own
samerge=$(python -c 'import sys; print(sys.executable)')
if [ ! -x "$venv/bin/nbgrader" ] || [ ! -x "$venv/bin/alembic" ]; then
    "$samerge" -m venv "$venv"
    "$samerge" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
        >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/samerge.pth"
    "$venv/bin/pip" install -q nbgrader ipykernel
    "$venv/bin/pip" install -q --no-deps --ignore-installed alembic # its command has to see nbgrader
fi
export PATH=$venv/bin:$PATH
work=$(mktemp -d)
log=$work/nbgrader.log
trap 'cp "$log" "${NBGRADER_LOG:-/dev/null}"; rm -rf "$work"' EXIT
cd "$work"
# the kernel is this environment's, which has both packages
python -m ipykernel install --prefix "$work/kernel" --name python3 >/dev/null 2>&1
export JUPYTER_PATH=$work/kernel/share/jupyter:$("$samerge" -c 'import sys; print(sys.prefix)')/share/jupyter
python - <<'PY'
import importlib.metadata as m, platform
names = ("nbgrader", "nbconvert", "jupyterlab", "torch")
print("Python", platform.python_version() + ",", ", ".join(f"{n} {m.version(n)}" for n in names))
PY

# ---------------------------------------------------------------------------- through nbgrader, as an instructor would
took "class handout --format nbgrader" \
    "$samerge" -m samerge_edu class handout course --lessons "$lesson" --format nbgrader --seed $seed
cd course
name=$(basename source/*)
[ -n "${FULL:-}" ] ||
    python "$root/tests/invented_class.py" --short "source/$name/$name.ipynb"
took "nbgrader generate_assignment" nbgrader generate_assignment "$name"
if grep -q "HIDDEN\|SOLUTION\|$seed" "release/$name/$name.ipynb"; then echo "FAILED: a secret is released"; exit 1; fi
python "$root/tests/invented_class.py" "release/$name/$name.ipynb" submitted "$name"
mkdir aside
mv submitted/xcopied aside/
took "nbgrader autograde, 14 submissions" nbgrader autograde "$name"
mv aside/xcopied submitted/
if nbgrader autograde "$name" --student xcopied >copied.log 2>&1; then echo "a copied cell: nbgrader grades it"; else
    echo "a copied cell: nbgrader stops, and says: $(grep -A 3 ERROR copied.log | tr -s ' \n' ' ' | cut -c 1-160)"
fi
took "nbgrader generate_feedback" nbgrader generate_feedback "$name"
took "nbgrader export" nbgrader export --to grades_nbgrader.csv
ls feedback/*/"$name"/*.html >/dev/null

# ---------------------------------------------------------------------------- without nbgrader
took "class grade, the same 15" "$samerge" -m samerge_edu class grade submitted --seed $seed --out grades.csv
took "class report" "$samerge" -m samerge_edu class report grades.csv --out report.html

# ---------------------------------------------------------------------------- the same verdicts?
python - "$name" <<'PY'
import csv, sys
from nbgrader.api import Gradebook

name = sys.argv[1]
ours = {}
for row in csv.DictReader(open("grades.csv", encoding="utf-8")):
    ours.setdefault(row["student"], {})[row["exercise"]] = int(row["points"])
exported = {row["student_id"]: float(row["score"]) for row in csv.DictReader(open("grades_nbgrader.csv"))}
different, cells = [], 0
with Gradebook("sqlite:///gradebook.db") as book:
    for student in sorted(ours):
        if student == "xcopied":  # not in the gradebook
            print(f"{student:<10} nbgrader none   class grade {sum(ours[student].values()):4d}")
            continue
        notebook = book.find_submission_notebook(name, name, student)
        theirs = {g.name.removesuffix("-check").replace("-", "."): g.auto_score for g in notebook.grades}
        agree = theirs == ours[student]
        print(f"{student:<10} nbgrader {exported[student]:4.0f}   class grade {sum(ours[student].values()):4d}"
              f"   {'equal in every exercise' if agree else f'{theirs} and {ours[student]}'}")
        if student.startswith("x"):
            continue  # its file came to grief: see below
        cells += len(theirs)
        if not agree or exported[student] != sum(theirs.values()):
            different.append(student)
print(f"twelve students, {cells} verdicts:", "all equal" if not different else f"DIFFERENT for {different}")
sys.exit(bool(different))
PY

# ---------------------------------------------------------------------------- what the check says before handing in
for student in ada cem dan; do
    "$samerge" -m samerge_edu class check-submission "submitted/$student/$name/$name.ipynb"
done
for student in xtampered xcopied xlost; do
    if "$samerge" -m samerge_edu class check-submission "submitted/$student/$name/$name.ipynb"; then
        echo "FAILED: nothing found in $student"
        exit 1
    fi
done
echo "all well"
