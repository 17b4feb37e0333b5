"""Golden numbers: what public merging packages make of small seeded experts (development only, about 5 minutes).

    .venv/bin/python data_scripts/make_golden.py

Installs fusion-bench, mergekit and peft, with the versions below, into an environment of its own (work/golden_venv,
2.5 GB, not under version control), so that what they require never touches ours; runs tests/golden/compute.py and
compute_data.py there, which write tests/golden/*.safetensors with versions and calls in the metadata.
tests/test_golden.py compares.
None of the packages is imported by samerge_edu, and no line of theirs is copied: only numbers that they computed.
"""

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
VENV = ROOT / "work" / "golden_venv"
PACKAGES = ["torch==2.13.0", "fusion-bench==0.2.33", "mergekit==0.1.5", "peft==0.21.2"]
PACKAGES += ["transformers<5", "datasets<5"]  # what fusion-bench 0.2.33 can be imported with


def main() -> None:
    python = VENV / "bin" / "python"
    if not python.exists():
        venv.create(VENV, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    for script in ("compute.py", "compute_data.py"):
        done = subprocess.run([python, GOLDEN / script], capture_output=True, text=True)  # they print a lot
        if done.returncode:
            sys.exit(done.stderr)
    print("wrote", *sorted(p.name for p in GOLDEN.glob("*.safetensors")))


if __name__ == "__main__":
    main()
