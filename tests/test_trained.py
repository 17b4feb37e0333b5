"""Training for merging: the proximal step, sparse files, OSRM's start, and the suites that were trained so."""

import copy
import json

import pytest
import torch

from samerge_edu.evaluate import accuracy
from samerge_edu.files import LazyParams, save_params
from samerge_edu.lora import LoRA, dense
from samerge_edu.osrm import cut_to, orthogonal_starts
from samerge_edu.params import check_same_structure, flatten, task_vectors
from samerge_edu.sparse import load_sparse, save_sparse
from samerge_edu.suites import load_suite
from samerge_edu.suites.pocket.suite import OSRM, RUN, SOUP, WEIGHTS, load_pocket_soup
from samerge_edu.suites.pocket.tasks import ID_TASKS, OOD_TASKS
from samerge_edu.suites.pocket.training import attach_lora, finetune, pull_back, warmup_cosine


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------------------- fine-tuning with a proximal step


def test_the_proximal_step_is_the_minimum_that_brute_force_finds():
    """argmin_x 1/2 (x - tau)^2 + by |x|, on a fine grid."""
    start, tau, by = torch.tensor([1.0, -2.0, 0.5, 0.0]), torch.tensor([0.3, -0.25, 0.04, -0.1]), 0.1
    grid = torch.linspace(-0.5, 0.5, 10_001, dtype=torch.float64)
    costs = 0.5 * (grid - tau[:, None]).square() + by * grid.abs()
    param = start + tau
    pull_back([param], [start], by)
    torch.testing.assert_close(param - start, grid[costs.argmin(dim=1)].float(), atol=1e-4, rtol=0)
    assert torch.equal(param[2:], start[2:]), "small changes are undone exactly"


class Tower(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(4, 3 * 32 * 32) / 100)

    def forward(self, x):
        return x.flatten(1) @ self.w.T


def tuned(**knobs):
    tower, g = Tower(), seeded()
    images = torch.randint(256, (64, 3, 32, 32), generator=g, dtype=torch.uint8)
    images[:, :, 2:] = 128  # grey: after normalising nearly nothing enters there
    labels = torch.randint(3, (64,), generator=g)
    heads = torch.eye(4)[:3]
    finetune(tower, heads, 10.0, images, labels, epochs=3, lr=1e-2, seed=0, batch=16, **knobs)
    return tower.w.detach() - 0.01


def test_shrinking_leaves_most_entries_where_they_began():
    assert (tuned() == 0).double().mean() < 0.01
    assert (tuned(shrink=2.0) == 0).double().mean() > 0.5
    assert (tuned(shrink=0.5).norm() < tuned().norm()).item()


def test_who_keeps_checkpoints_is_told_of_each_step():
    seen = []
    tuned(save=seen.append)
    assert seen == list(range(1, 13))


def test_the_rate_falls_to_the_share_that_is_asked_for():
    assert warmup_cosine(99, 100, final=1.0) == pytest.approx(1.0)
    assert warmup_cosine(99, 100, final=0.3) == pytest.approx(0.3, abs=1e-3)
    assert warmup_cosine(99, 100) == pytest.approx(0.0, abs=1e-3)
    assert warmup_cosine(0, 100, final=0.3) == warmup_cosine(0, 100) == pytest.approx(0.2)


# ---------------------------------------------------------------------------- sparse files


@pytest.fixture
def tau():
    w = torch.randn(6, 5, generator=seeded()) * 1e-3
    return {
        "w": w * (w.abs() > 5e-4),
        "b": torch.tensor([0.0, -2.0, 0.0]),
        "none": torch.zeros(2, 3),
        "s": torch.ones(()),
    }


def test_a_sparse_file_gives_the_task_vector_back(tau, tmp_path):
    save_sparse(tmp_path / "tau.safetensors", tau, {"licence": "ours"})
    got = load_sparse(tmp_path / "tau.safetensors")
    assert list(got) == list(tau)
    for key in tau:
        assert got[key].shape == tau[key].shape
        assert got[key].dtype == torch.float32
        assert torch.equal(got[key] == 0, tau[key] == 0), "zeros stay zeros, and nothing else becomes one here"
        torch.testing.assert_close(got[key], tau[key], rtol=0, atol=tau[key].abs().max().item() / 253)
    assert got["b"].tolist() == [0.0, -2.0, 0.0]
    assert LazyParams(tmp_path / "tau.safetensors").metadata["licence"] == "ours"
    save_sparse(tmp_path / "again.safetensors", got)
    again = load_sparse(tmp_path / "again.safetensors")
    assert all(torch.equal(again[key], got[key]) for key in got), "a second time nothing is lost"


def test_an_entry_so_small_that_its_scale_has_no_digits(tmp_path):
    """190 of the smallest float32: a 127th of that is 1.5 of them, stored as 1, and 190 steps are more than a byte."""
    small = 2.0**-149
    tau = {"w": torch.tensor([190 * small, -190 * small, 0.0]), "nothing": torch.zeros(0, 2)}
    save_sparse(tmp_path / "tau.safetensors", tau)
    got = load_sparse(tmp_path / "tau.safetensors")
    assert (got["w"].double() / small).tolist() == [127, -127, 0]
    assert got["nothing"].shape == (0, 2)


def test_a_sparse_file_is_small(tmp_path):
    w = torch.randn(1000, 100, generator=seeded())
    save_sparse(tmp_path / "tau.safetensors", {"w": w * (w.abs() > 1.64)})  # a tenth
    assert (tmp_path / "tau.safetensors").stat().st_size < 0.2 * w.numel()


def test_bad_sparse_files_are_refused(tau, tmp_path):
    file = tmp_path / "tau.safetensors"
    with pytest.raises(ValueError, match=r"key 'b': got 1 entries that are NaN or infinite"):
        save_sparse(file, tau | {"b": torch.tensor([1.0, float("nan")])})
    with pytest.raises(ValueError, match="has no tensors"):
        save_sparse(file, {})
    with pytest.raises(FileNotFoundError, match=r"tau\.safetensors"):
        load_sparse(file)
    save_params(file, {"w": torch.ones(3)})
    with pytest.raises(ValueError, match="expected a file that save_sparse has written"):
        load_sparse(file)
    save_sparse(file, tau)
    whole, shapes = LazyParams(file), json.dumps({"w": [6, 5]})
    assert whole.metadata["sparse_shapes"]
    stored = {key: torch.tensor([1, 2, 3], dtype=torch.uint8) for key in ("where", "values")}
    save_params(file, stored | {"scales": torch.ones(1)}, {"sparse_shapes": shapes})
    with pytest.raises(ValueError, match="expected a file that save_sparse has written"):
        load_sparse(file)


# ---------------------------------------------------------------------------- OSRM


def inputs(rank: int, width: int = 12, seed: int = 0) -> torch.Tensor:
    g = seeded(seed)
    return torch.randn(50, rank, generator=g, dtype=torch.float64) @ torch.randn(
        rank, width, generator=g, dtype=torch.float64
    )


def test_a_is_orthogonal_to_what_the_other_tasks_use():
    X, Y = inputs(3), inputs(4, seed=1)
    A = orthogonal_starts([{"w": X.T @ X}, {"w": Y.T @ Y / 50}], r=5)["w"]  # 12 - 3 - 4 = 5 are unused
    assert A.shape == (5, 12)
    torch.testing.assert_close(A @ A.T, torch.eye(5, dtype=torch.float64), atol=1e-9, rtol=0)
    assert (A @ X.T).abs().max() < 1e-6
    assert (A @ Y.T).abs().max() < 1e-6


def test_a_is_the_last_right_singular_vectors_of_all_inputs():
    X, Y = inputs(12), inputs(12, seed=1)
    A = orthogonal_starts([{"w": X.T @ X}, {"w": Y.T @ Y}], r=3)["w"]
    V = torch.linalg.svd(torch.cat([X, Y]), full_matrices=False).Vh
    torch.testing.assert_close(A.T @ A, V[-3:].T @ V[-3:], atol=1e-6, rtol=0)  # the space; signs are free
    torch.testing.assert_close((A @ V[-3:].T).abs(), torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)
    assert (A @ V[:-3].T).abs().max() < 1e-6


def test_cutting_keeps_the_nearest_update_that_a_allows():
    g = seeded()
    expert = {"w": LoRA(torch.randn(4, 12, generator=g), torch.randn(6, 4, generator=g), 0.5)}
    A = torch.randn(3, 12, generator=g)
    (cut,) = [dense(cut_to(expert, {"w": A}))["w"]]
    P = torch.linalg.pinv(A) @ A  # projects onto the rows of A
    torch.testing.assert_close(cut, dense(expert)["w"] @ P, atol=1e-5, rtol=1e-5)
    whole = cut_to(expert, {"w": torch.eye(12)})
    torch.testing.assert_close(dense(whole)["w"], dense(expert)["w"])


def test_how_symmetric_a_gram_has_to_be():
    """To one in ten thousand of the entry, or one in a million of the largest: rounding, not a mistake."""

    def gram(below, largest=1.0):
        return [{"w": torch.tensor([[1.0, 1.0], [1.0 + below, largest]], dtype=torch.float64)}]

    orthogonal_starts(gram(0.9e-4), r=1)
    orthogonal_starts(gram(0.9, largest=1e6), r=1)
    for below, largest in [(1.5e-4, 1.0), (1.5, 1e6)]:
        with pytest.raises(ValueError, match=r"Gram, key 'w': .* expected a symmetric"):
            orthogonal_starts(gram(below, largest), r=1)


def test_osrm_names_what_is_wrong():
    G = {"w": torch.eye(4)}
    with pytest.raises(ValueError, match="got 0 Grams, expected at least 1"):
        orthogonal_starts([], r=1)
    for r in (0, 5):
        with pytest.raises(ValueError, match=rf"r: got {r}, expected 1\.\.4, the inputs of 'w'"):
            orthogonal_starts([G], r=r)
    with pytest.raises(ValueError, match=r"Gram, key 'w': got \(4, 3\), expected a symmetric"):
        orthogonal_starts([{"w": torch.ones(4, 3)}], r=1)
    with pytest.raises(ValueError, match=r"Gram, key 'w': .* expected a symmetric"):
        orthogonal_starts([{"w": torch.ones(4, 4).triu()}], r=1)
    with pytest.raises(ValueError, match="Gram 1: missing key 'w'"):
        orthogonal_starts([G, {"v": torch.eye(4)}], r=1)
    with pytest.raises(ValueError, match="Gram 0, key 'w': got 16 entries that are NaN"):
        orthogonal_starts([{"w": torch.full((4, 4), float("nan"))}], r=1)
    expert = {"w": LoRA(torch.ones(1, 4), torch.ones(2, 1), 1.0)}
    with pytest.raises(ValueError, match="starts: missing key 'w'"):
        cut_to(expert, {})
    with pytest.raises(ValueError, match=r"starts, key 'w': got \(1, 3\), expected \(r, 4\)"):
        cut_to(expert, {"w": torch.ones(1, 3)})
    with pytest.raises(ValueError, match="start 0, key 'w': got 4 entries that are NaN"):
        cut_to(expert, {"w": torch.full((1, 4), float("nan"))})


def test_a_lora_begins_where_it_is_told_to_and_leaves_that_alone(suite):
    key = "transformer.resblocks.0.mlp.c_fc.weight"
    given = torch.eye(4, 160)
    visual = copy.deepcopy(suite.visual)
    updates = attach_lora(visual, 4, 4.0, seed=0, starts={key: given})
    assert torch.equal(updates[key].A, given)
    assert not torch.equal(updates[key.replace("0", "1", 1)].A[0, :3], given[0, :3])
    with torch.no_grad():
        updates[key].A.zero_()
    assert given.sum() == 4, "training must not write into the caller's tensor"


# ---------------------------------------------------------------------------- what is shipped


@pytest.fixture(scope="module")
def suite():
    return load_suite("pocket")


@pytest.fixture(scope="module")
def sparse():
    return load_suite("pocket-sparse")


def test_the_sparse_experts_are_sparse_and_know_their_tasks(sparse):
    assert sparse.id_tasks == list(ID_TASKS)
    assert sparse.ood_tasks == list(OOD_TASKS)
    check_same_structure([sparse.theta_0, *sparse.experts.values()], what="model")
    for tau in task_vectors(sparse.theta_0, list(sparse.experts.values())):
        assert 0.15 < (flatten(tau) != 0).double().mean() <= 0.2
    assert sum(file.stat().st_size for file in (WEIGHTS / "sparse").iterdir()) < 5e6


@pytest.mark.parametrize("task", ["digits", "vehicles"])
def test_a_sparse_file_tells_the_truth(sparse, task):
    metadata = LazyParams(WEIGHTS / "sparse" / f"{task}.safetensors").metadata
    assert json.loads(metadata["recipe"])["shrink"] == 0.2
    told = json.loads(metadata["test_accuracy"])[task]
    assert accuracy(sparse, sparse.experts[task], task) == pytest.approx(told, abs=1.0)  # other CPUs


def test_sparse_experts_forget_less(suite, sparse):
    for task in ("digits", "signs"):
        abroad = [
            sum(accuracy(s, s.experts[task], ood, n=100) for ood in ("letters", "counting", "shapes")) / 3
            for s in (suite, sparse)
        ]
        assert abroad[1] > abroad[0] + 3, task


def test_runs_of_one_task():
    for name, members in (("pocket-soup", list(SOUP)), ("pocket-run", list(RUN.values()))):
        runs = load_suite(name)
        assert runs.id_tasks == members
        images = [runs.images(task, "val", 3)[0] for task in members]
        assert all(torch.equal(images[0], other) for other in images), "the images are the same task's"
        assert accuracy(runs, runs.experts[members[1]], members[1], n=200) > 75
    soup = sum(f.stat().st_size for f in (WEIGHTS / "soup").rglob("*") if f.is_file())
    assert soup < 1.5e6


def test_osrm_experts_begin_where_the_others_are_not():
    osrm = load_suite("pocket-osrm")
    assert tuple(osrm.id_tasks) == tuple(sorted(OSRM, key=ID_TASKS.index))
    for task in OSRM[:2]:
        metadata = LazyParams(WEIGHTS / "osrm" / task / "adapter_model.safetensors").metadata
        assert json.loads(metadata["recipe"])["osrm"]["images"] == 100
        assert accuracy(osrm, osrm.experts[task], task, n=200) > 70


def test_a_soup_that_does_not_exist():
    with pytest.raises(ValueError, match="which: got 'seeds', expected runs or checkpoints"):
        load_pocket_soup("seeds")
