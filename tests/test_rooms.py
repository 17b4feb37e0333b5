"""The floor plan: imports go down or sideways, never up, and nowhere in a circle."""

from pathlib import Path

import pytest
from imports import circle, imports

import samerge_edu

PACKAGE = Path(samerge_edu.__path__[0])
FLOORS = [
    # arithmetic
    set("params files int8 sparse parallel masks matrices saliency lora osrm".split())
    | set("forecast least_squares names catalogue beforehand flow folders".split()),
    {"transforms", "merges", "alignment"},  # methods
    {"suites"},
    # evaluation
    set(
        "statistics adaptation ensembles methods evaluate streaming sweep leaderboard plots".split()
        + "merging merging_files contract own_methods".split()
    ),
    {"studies", "course", "doctor", "selfcheck", "one_line", "options", "cli", "__main__"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room(module: str) -> str:
    return module.split(".")[0]


def upwards(graph) -> list[str]:
    """Imports from a lower floor to a higher one. The package's root, which only names things, is on no floor."""
    return [
        f"{module} (floor {FLOOR[room(module)]}) imports {target} (floor {FLOOR[room(target)]})"
        for module, targets in sorted(graph.items())
        for target in sorted(targets)
        if module and target and FLOOR[room(module)] < FLOOR[room(target)]
    ]


def between_rooms(graph) -> dict[str, set[str]]:
    rooms: dict[str, set[str]] = {room(module): set() for module in graph}
    for module, targets in graph.items():
        rooms[room(module)] |= {room(target) for target in targets} - {room(module)}
    return rooms


def test_every_module_has_a_floor():
    assert {room(module) for module in imports(PACKAGE)} - {""} == set(FLOOR)


def test_no_import_goes_up_and_none_in_a_circle():
    graph = imports(PACKAGE)
    assert upwards(graph) == []
    assert circle(graph) == []
    assert circle(between_rooms(graph)) == [], "two rooms import each other"


def test_a_method_imports_only_from_the_ground_floor():
    for module, targets in imports(PACKAGE).items():
        if room(module) in ("transforms", "merges"):
            assert {t for t in targets if FLOOR[room(t)] > 0} <= {room(module)}, (
                module
            )  # its own room's __init__ is empty
            assert not {t for t in targets if "." in t}, f"{module} imports another method"


@pytest.fixture
def planted(tmp_path):
    """A package of three modules in a chain; tests add the bad import."""

    def write(**sources: str):
        package = tmp_path / "samerge_edu"
        for name, source in {"__init__": "", "suites/__init__": "", "params": "import torch\n", **sources}.items():
            file = package / f"{name}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source, encoding="utf-8")
        return imports(package)

    return write


def test_a_planted_circle_is_seen(planted):
    chain = {"suites/suite": "from ..params import x\n", "suites/load": "from .suite import Suite\n"}
    assert circle(planted(**chain)) == []
    lazy = chain | {
        "suites/suite": "def f():\n    from .load import load_suite\n"
    }  # an import inside a function counts
    assert set(circle(planted(**lazy))) == {"suites.suite", "suites.load"}
    named = chain | {"suites/suite": "import samerge_edu.suites.load\n"}
    assert set(circle(planted(**named))) == {"suites.suite", "suites.load"}
    of_the_room = chain | {"suites/suite": "from . import load\n"}
    assert set(circle(planted(**of_the_room))) == {"suites.suite", "suites.load"}


def test_a_planted_import_upwards_is_seen(planted):
    assert upwards(planted(params="from .cli import app\n", cli="")) == ["params (floor 0) imports cli (floor 4)"]
    graph = planted(params="", cli="", **{"suites/hub": "from samerge_edu.cli import app\n"})
    assert upwards(graph) == ["suites.hub (floor 2) imports cli (floor 4)"]
