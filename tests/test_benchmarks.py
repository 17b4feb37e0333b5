"""What the benchmark of merges says about a peer that is not there, and how it reads a growth."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "benchmarks" / "bench_merges.py"


@pytest.fixture
def bench():
    spec = importlib.util.spec_from_file_location("bench_merges", SCRIPT)
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module


def missing(name):
    def load():
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    return load


@pytest.mark.parametrize(
    ("library", "module"),
    [("fusion-bench", "fusion_bench"), ("fusion-bench", "fusion_bench.method"), ("mergekit", "mergekit")],
)
def test_a_peer_that_is_not_there_is_no_run(bench, library, module):
    bench.LIBRARIES = {library: missing(module)}
    assert bench.one_run(library, "DARE", depth=0, N=2) is None


@pytest.mark.parametrize(
    ("library", "module"),
    [("fusion-bench", "mergekit"), ("mergekit", "torch"), ("ours", "samerge_edu"), ("mergekit", None)],
)
def test_a_peer_that_is_broken_is_told(bench, library, module):
    bench.LIBRARIES = {library: missing(module)}
    with pytest.raises(ModuleNotFoundError):
        bench.one_run(library, "DARE", depth=0, N=2)


def test_a_method_that_the_peer_does_not_have_is_no_run(bench):
    bench.LIBRARIES = {"mergekit": dict}
    assert bench.one_run("mergekit", "DARE", depth=0, N=2) is None


def test_of_several_environments_the_one_that_has_the_peer_counts(bench, monkeypatch, capsys):
    """And no other is asked after it: a run there takes minutes."""
    asked = []

    def run(python, library, name, arguments):
        asked.append((python, library))
        has = library == "ours" or (python, library) in {("a", "fusion-bench"), ("b", "mergekit")}
        return {"seconds": 2.0 if library == "ours" else 8.0, "cpu": 1.0, "peak": 10**9} if has else None

    monkeypatch.setattr(bench, "in_its_own_process", run)
    monkeypatch.setattr(bench, "copy_rate", lambda: 1e9)
    monkeypatch.setattr(bench, "print_prices", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["bench_merges.py", "DARE", "--peers", "a", "--peers", "b", "--threads", "1"])
    monkeypatch.setattr(bench.torch, "set_num_threads", lambda _: None)
    bench.main()
    assert asked[1:] == [("a", "fusion-bench"), ("a", "mergekit"), ("b", "mergekit")]
    assert capsys.readouterr().out.splitlines()[-1].split().count("4.0") == 2  # both ratios


def test_slope_is_the_exponent(bench):
    assert bench.slope([2, 4, 8, 16], [12.0, 48.0, 192.0, 768.0]) == pytest.approx(2)  # 3 x^2
    assert bench.slope([2, 4, 8], [5.0, 5.0, 5.0]) == pytest.approx(0)
