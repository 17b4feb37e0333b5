"""show: a value with a tick, or OUTSIDE with its band."""

import json

import pytest

import samerge_edu as se
from samerge_edu.course import bands


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Accuracies 48.1 and 48.7, recorded on two machines."""
    file = tmp_path / "bands.json"
    values = [{"value": 48.1, "machine": "x", "torch": "2.6.0", "device": "cpu"}]
    values.append({"value": 48.7, "machine": "y", "torch": "2.6.0", "device": "cuda"})
    file.write_text(json.dumps({"pocket/01.base": values}), encoding="utf-8")
    monkeypatch.setattr(bands, "FILE", file)
    monkeypatch.delenv("SAMERGE_SUITE", raising=False)
    monkeypatch.delenv("SAMERGE_RECORD", raising=False)
    return file


@pytest.mark.parametrize("value", [47.1, 48.44, 49.7])
def test_inside(recorded, value, capsys):
    se.show("01.base", value, "base accuracy")
    assert capsys.readouterr().out == f"base accuracy = {value:.1f} % ✓\n"


def test_the_band_is_shown_on_request(recorded, capsys):
    se.show("01.base", 48.44, "base accuracy", band=True)
    assert capsys.readouterr().out.splitlines() == [
        "base accuracy = 48.4 % ✓",
        "  inside 47.1 to 49.7, where it was seen before",
    ]


@pytest.mark.parametrize("value", [47.0, 49.8, float("nan"), float("inf")])
def test_outside_says_what_that_usually_means(recorded, value, capsys):
    se.show("01.base", value, "base accuracy", outlier="the text tower was merged too")
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == f"base accuracy = {value:.1f} % ✗"
    assert second == "  OUTSIDE 47.1 to 49.7, where it was seen before"
    assert third == "  outside usually means: the text tower was merged too"


def test_slack_digits_and_unit(recorded, capsys):
    se.show("01.base", 48.123, "length", unit="", digits=2, slack=0.25, band=True)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "length = 48.12 ✓"
    assert second.startswith("  inside 47.85 to 48.95, ")


def test_each_suite_has_its_own_band(recorded, monkeypatch, capsys):
    monkeypatch.setenv("SAMERGE_SUITE", "vit-b-32")
    se.show("01.base", 48.3, "base accuracy")
    assert capsys.readouterr().out == "base accuracy = 48.3 % (no band recorded for vit-b-32/01.base)\n"


def test_recording_adds_this_machine_once(recorded, monkeypatch, capsys):
    monkeypatch.setenv("SAMERGE_RECORD", "1")
    se.show("01.base", 50.0, "base accuracy", slack=0.5)
    se.show("01.base", 52.0, "base accuracy", slack=0.5, band=True)
    assert "inside 47.6 to 52.5" in capsys.readouterr().out
    entries = json.loads(recorded.read_text(encoding="utf-8"))["pocket/01.base"]
    assert [e["value"] for e in entries] == [48.1, 48.7, 52.0]
    assert entries[-1].keys() == {"value", "machine", "torch", "device"}
