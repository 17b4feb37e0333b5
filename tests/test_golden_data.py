"""Methods that look at data against fusion-bench's numbers, which golden/compute_data.py had it compute."""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from torch.func import functional_call
from torch.nn.functional import normalize

from samerge_edu.adaptation.adamerging import adamerging
from samerge_edu.adaptation.surgery import Bottleneck, surgery
from samerge_edu.files import load_params
from samerge_edu.merges.fisher import fisher as fisher_merge
from samerge_edu.merges.regmean import regmean
from samerge_edu.merges.regmean_pp import regmean_pp
from samerge_edu.params import add, task_vectors
from samerge_edu.statistics import fisher, input_grams

FILE = Path(__file__).parent / "golden" / "fusion_bench_data.safetensors"
TENSORS = load_params(FILE)
MATRICES = ("resblocks.{}.fc.weight", "resblocks.{}.out.weight")


def golden(call):
    found = {key.split("|")[1]: tensor for key, tensor in TENSORS.items() if key.split("|")[0] == call}
    assert found, f"no such call: {call}"
    return found


THETA_0, *THETAS = golden("base"), *(golden(f"expert {n}") for n in range(3))
TASKS = [str(n) for n in range(3)]


class Suite:
    """The small network of the script, its inputs as images and its heads as heads."""

    theta_0, experts, id_tasks = THETA_0, dict(zip(TASKS, THETAS, strict=True)), TASKS
    heads, device = golden("heads"), torch.device("cpu")

    def __init__(self):
        spec = importlib.util.spec_from_file_location("compute_data", FILE.with_name("compute_data.py"))
        spec.loader.exec_module(made := importlib.util.module_from_spec(spec))
        self.visual, self.logit_scale = made.Net(), made.SCALE

    def images(self, task, split, n=None):
        return golden("inputs")[task][:n], torch.zeros(12, dtype=torch.long)[:n]

    @torch.no_grad()
    def encode(self, theta, images):
        return normalize(functional_call(self.visual, dict(theta), (images,)), dim=-1)


@pytest.fixture(scope="module")
def suite():
    return Suite()


@pytest.fixture(scope="module")
def taus():
    return task_vectors(THETA_0, THETAS)


def assert_same(got, expected, tolerance=2e-5):
    for key in expected:
        difference = (got[key] - expected[key]).abs().max()
        assert difference <= tolerance * expected[key].abs().max(), f"{key}: {difference}"


def test_the_file_says_which_versions_made_it():
    with safe_open(FILE, framework="pt") as f:
        assert re.fullmatch(r"fusion-bench==\d[\d.]+ torch==\d\S+", f.metadata()["made_by"])


def test_the_cheap_fisher_is_fusion_benchs(suite):
    for n, theta in enumerate(THETAS):
        assert_same(fisher(suite, theta, TASKS[n], n=12, kind="batch", batch=4), golden(f"fisher {n}"))


@pytest.mark.parametrize("normalise", [True, False])
def test_fisher_merging_is_fusion_benchs(taus, normalise):
    merged = fisher_merge(taus, [golden(f"fisher {n}") for n in range(3)], normalise=normalise)
    assert_same(add(THETA_0, merged), golden(f"fisher merged, normalise={normalise}"))


def test_grams_and_regmean_are_fusion_benchs(suite, taus):
    G = [input_grams(suite, theta, task, n=12) for theta, task in zip(THETAS, TASKS, strict=True)]
    for n in range(3):
        expected = {f"{name}.weight": gram for name, gram in golden(f"regmean {n}").items()}
        assert set(G[n]) == set(expected)
        assert_same(G[n], expected)
    assert_same(add(THETA_0, regmean(taus, G, off_diagonal=0.95)), golden("regmean merged"), tolerance=1e-4)


def test_regmean_pp_is_fusion_benchs(suite, taus):
    def grams(n, tau, names):
        return input_grams(suite, add(THETA_0, tau), TASKS[n], 12, names=names)

    assert_same(add(THETA_0, regmean_pp(taus, grams, off_diagonal=0.95)), golden("regmean++ merged"), tolerance=1e-4)
    with pytest.raises(AssertionError):  # and RegMean is something else
        assert_same(golden("regmean merged"), golden("regmean++ merged"), tolerance=1e-2)


@pytest.mark.parametrize("level", ["task", "layer"])
def test_adamerging_is_fusion_benchs(suite, taus, level):
    learned = adamerging(suite, taus, level=level, n=12, batch=12, steps=10, lr=1e-2, lam=0.3, clamp=False)
    lam = golden(f"adamerging {level}")
    assert min((value - 0.3).abs().max() for value in lam.values()) > 0.05, "all coefficients have moved"
    torch.testing.assert_close(learned, lam, rtol=0, atol=1e-4)


def test_surgery_is_fusion_benchs(suite, monkeypatch):
    """From the same start, which we draw otherwise than nn.Linear does."""
    start = golden("surgery start")
    monkeypatch.setattr(torch, "rand", lambda *shape, generator: (start["down"] * shape[1] ** 0.5 + 1) / 2)
    suite_of_one = SimpleNamespace(
        id_tasks=["0"], experts={"0": THETAS[0]}, heads=suite.heads, images=suite.images, encode=suite.encode
    )
    learned = surgery(suite_of_one, THETA_0, n=12, batch=12, rank=3, steps=20, lr=1e-2)["0"]
    assert isinstance(learned, Bottleneck)
    assert_same({"down": learned.down, "up": learned.up}, golden("surgery"), tolerance=1e-4)
