"""show: a number with a tick if it lies where it was seen before, so that another machine's last digit is no surprise.

bands.json keeps, for each suite and name, the values that were recorded and where. The band reaches from the
lowest to the highest of them, widened by `slack` on both sides.
"""

import json
import os
import platform
from pathlib import Path

import torch

FILE = Path(__file__).with_name("bands.json")
USUALLY = "an earlier cell was changed or run out of order, or another suite or seed is in use: restart and run all"


def show(
    name: str,
    value: float,
    what: str,
    unit: str = "%",
    digits: int = 1,
    slack: float = 1.0,
    outlier: str = USUALLY,
    band: bool = False,
) -> None:
    """Print `what = value unit`, with a tick if it lies in the band recorded under `name`, such as "01.zero_shot".

    Outside, a second line shows the band and says with `outlier` what that usually means; `band=True` shows the band
    in any case. `digits` is how many decimals the lesson needs; `slack` widens the band on both sides, in the unit of
    the value: large enough for another CPU or GPU, small enough that a real change shows. With SAMERGE_RECORD=1
    (build_notebooks.py --record) the value is recorded.

    The tick is what nbval compares (notebooks/sanitize.cfg): the digits before it may differ from machine to machine,
    a missing tick or a second line may not.
    """
    value = float(value)
    key = f"{_suite()}/{name}"
    record_if_asked(name, value)
    recorded = [entry["value"] for entry in _read().get(key, [])]
    amount = f"{value:.{digits}f}{unit and ' ' + unit}"
    if not recorded:
        print(f"{what} = {amount} (no band recorded for {key})")
        return
    low, high = min(recorded) - slack, max(recorded) + slack
    inside = low <= value <= high  # NaN is not
    print(f"{what} = {amount} {'✓' if inside else '✗'}")
    if not inside or band:
        print(f"  {'inside' if inside else 'OUTSIDE'} {low:.{digits}f} to {high:.{digits}f}, where it was seen before")
    if not inside:
        print(f"  outside usually means: {outlier}")


def record_if_asked(name: str, value: float) -> None:
    """Keep the value under the suite and the name, where SAMERGE_RECORD=1 asks for it."""
    if os.environ.get("SAMERGE_RECORD") == "1":
        _record(f"{_suite()}/{name}", value)


def _suite() -> str:
    return os.environ.get("SAMERGE_SUITE") or "pocket"


def _read() -> dict[str, list[dict]]:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def _record(key: str, value: float) -> None:
    """Add the value, in place of an earlier one from the same kind of machine, version of torch and precision."""
    where = {"machine": platform.machine(), "torch": torch.__version__.partition("+")[0]}
    where["device"] = os.environ.get("SAMERGE_DEVICE") or "cpu"
    if (precision := os.environ.get("SAMERGE_PRECISION") or "float32") != "float32":
        where["precision"] = precision
    bands = _read()
    others = [entry for entry in bands.get(key, []) if {k: v for k, v in entry.items() if k != "value"} != where]
    bands[key] = [*others, {"value": round(value, 4), **where}]
    part = FILE.with_suffix(f".{os.getpid()}")  # replaced in one piece: another notebook may be reading
    part.write_text(json.dumps(dict(sorted(bands.items())), indent=1) + "\n", encoding="utf-8")
    os.replace(part, FILE)
