"""Every method, evaluation, streaming and adapters on CUDA against the CPU, on the pocket suite and the tiny one.

Merged updates agree to 1e-4 of their largest entry, but for one entry in a thousand where scores that are equal up to
rounding change places; accuracies agree within two images of a task. Without CUDA all of this is skipped.
"""

import pytest
import torch
from hub_server import HubServer
from tiny_hub import tiny_hub_folder

from samerge_edu.evaluate import choose_lam, scores
from samerge_edu.files import load_params
from samerge_edu.leaderboard import measured
from samerge_edu.methods import METHODS
from samerge_edu.params import add, task_vectors
from samerge_edu.streaming import merge_suite
from samerge_edu.suites import load_suite

DEVICE = "cuda"
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture(scope="module")
def both():
    """(suite, task vectors) on the CPU and on the GPU; products in float32 on both."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    suites = [load_suite("pocket", device=device) for device in ("cpu", DEVICE)]
    return [(suite, task_vectors(suite.theta_0, [dict(e) for e in suite.experts.values()])) for suite in suites]


def agree(on_cpu, on_gpu, what=""):
    """The same update: see above."""
    assert on_cpu.keys() == on_gpu.keys()
    assert {v.device.type for v in on_gpu.values()} == {DEVICE}
    largest = max(v.abs().max().item() for v in on_cpu.values())
    differ = sum(((on_gpu[k].cpu() - v).abs() > 1e-4 * largest).sum().item() for k, v in on_cpu.items())
    assert differ <= 1e-3 * sum(v.numel() for v in on_cpu.values()), (what, differ)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_merges_alike(both, name):
    on_cpu, on_gpu = (METHODS[name].recipe(suite)(taus) for suite, taus in both)
    agree(on_cpu, on_gpu, name)


def test_evaluation_and_the_choice_of_the_scale_agree(both, monkeypatch):
    monkeypatch.setenv("SAMERGE_PRECISION", "float32")
    tasks = ["digits", "scenes", "flags"]
    got = []
    for suite, taus in both:
        theta = add(suite.theta_0, METHODS["TSV-M"].recipe(suite)(taus))
        got.append((scores(suite, theta, tasks=tasks, n=200), choose_lam(suite, taus[0], grid=(0.3, 1.0), n=50)[0]))
    (on_cpu, lam), (on_gpu, lam_gpu) = got
    assert all(abs(on_cpu[t] - on_gpu[t]) <= 100 * 2 / 200 for t in tasks)
    assert lam == lam_gpu


def test_peak_memory_is_the_allocators(both):
    suite, taus = both[1]
    _, seconds, peak = measured(lambda: METHODS["Task Arithmetic"].recipe(suite)(taus), suite.device)
    assert seconds > 0
    assert peak >= sum(v.numel() for v in taus[0].values()) * 4 / 2**20  # the result at least


@pytest.mark.parametrize("lora", [False, True], ids=["full", "LoRA"])
@pytest.mark.parametrize("name", ["Average", "TSV-M", "SA-Merging"])
def test_a_published_suite_is_merged_into_the_same_file(tmp_path, monkeypatch, name, lora):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    for variable in ("SAMERGE_ASSETS", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    files = []
    with HubServer(tiny_hub_folder()) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        for device in ("cpu", DEVICE):
            suite = load_suite("vit-tiny-lora" if lora else "vit-tiny", tasks=("mnist", "svhn"), device=device)
            (tmp_path / device).mkdir(exist_ok=True)
            row, out = METHODS[name], tmp_path / device / f"{len(files)}.safetensors"
            options = {"lam": row.lam, "per_tensor": row.per_tensor, "recipe": name}
            files.append(load_params(merge_suite(suite, row.recipe(suite), out, **options)))
    on_cpu, on_gpu = files
    tower = {k: v - on_cpu[k] for k, v in on_gpu.items()}
    wrong = sum((v.abs() > 1e-4).sum().item() for v in tower.values())
    assert wrong <= 1e-3 * sum(v.numel() for k, v in tower.items() if k.startswith("visual."))
