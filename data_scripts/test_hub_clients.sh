#!/usr/bin/env bash
# Run the tests of downloads with several versions of the hub's client (huggingface_hub), each in an environment of its
# own: the oldest that we support, the one that Colab has, and the newest on the index. Nothing else is installed again:
# a .pth file lends them the packages of the environment that runs this script. Ten seconds each, then the tests.
#   data_scripts/test_hub_clients.sh                    0.30.0, 1.27.0 and the newest
#   data_scripts/test_hub_clients.sh 1.31.0 1.32.0      others
# Knobs: PYTHON=.venv/bin/python (has the package's dependencies), ENVIRONMENTS=folder, TESTS="tests/test_x.py ...".
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=$(realpath -s "${PYTHON:-.venv/bin/python}")
ENVIRONMENTS=${ENVIRONMENTS:-.venv-hub}
TESTS=${TESTS:-tests/test_published_hub.py tests/test_published_data.py tests/test_data_scripts.py}
if [ $# -eq 0 ]; then set -- 0.30.0 1.27.0 newest; fi
packages=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
failed=0
for client in "$@"; do
    place="$ENVIRONMENTS/$client"
    rm -rf "$place"
    "$PYTHON" -m venv --without-pip "$place"
    own=$("$place/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    # --target, because beside the lent packages pip would call the newest one installed already
    "$PYTHON" -m pip install --disable-pip-version-check -q --target "$own" --no-warn-conflicts \
        "huggingface_hub$([ "$client" = newest ] || echo "==$client")" 2>/dev/null
    echo "$packages" > "$own/zz_lent.pth"
    "$place/bin/python" -c 'import huggingface_hub as h; print("huggingface_hub", h.__version__, end=": ")'
    # shellcheck disable=SC2086 - TESTS are several words
    PYTHONPATH=$PWD "$place/bin/python" -m pytest -q -p no:cacheprovider $TESTS > "$place/log" 2>&1 || failed=1
    tail -n 1 "$place/log"
done
[ $failed = 0 ] || { echo "see $ENVIRONMENTS/*/log" >&2; exit 1; }
