#!/usr/bin/env bash
# Run every notebook under nbval with the versions that Colab has (data_scripts/colab.txt), in an environment
# of its own. First run: about 6 GB, mostly PyTorch, and some minutes; later runs take what the notebooks take.
#   data_scripts/test_colab.sh                          all notebooks
#   data_scripts/test_colab.sh notebooks/01_*.ipynb     some of them
# Knobs: VENV=dir, PYTHON=python3.12, PIP_FLAGS="..." (passed to pip install).
set -euo pipefail
cd "$(dirname "$0")/.."
VENV=${VENV:-.venv-colab}
test -x "$VENV/bin/python" || "${PYTHON:-python3}" -m venv "$VENV"
# shellcheck disable=SC2086 - PIP_FLAGS may be several words
"$VENV/bin/python" -m pip install --disable-pip-version-check -q ${PIP_FLAGS:-} -c data_scripts/colab.txt \
    -e . ipython ipywidgets ipykernel traitlets 'pytest>=8.2,<10' 'nbval==0.11.*' pyarrow
"$VENV/bin/python" -m pip list --disable-pip-version-check 2>/dev/null |
    grep -E '^(ipython|ipywidgets|ipykernel|traitlets|matplotlib|numpy|torch|torchvision) '
if [ $# -eq 0 ]; then set -- notebooks; fi
# -W default: the old IPython warns about the new Python, which is not our lessons' fault.
SAMERGE_STATIC=1 "$VENV/bin/pytest" -W default --nbval --nbval-current-env --nbval-cell-timeout=120 \
    --nbval-sanitize-with notebooks/sanitize.cfg "$@"
