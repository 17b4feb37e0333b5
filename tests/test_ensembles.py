"""What keeps something beside one state dict: loops and files as oracles, limits, honest bytes, bad input."""

import dataclasses
import json
import math
import struct

import pytest
import torch
from data_suite import DataSuite
from safetensors.torch import load_file, save_file
from torch.func import functional_call
from torch.nn import functional as F

from samerge_edu import cli, leaderboard
from samerge_edu.ensembles import free_merging as free
from samerge_edu.ensembles import router as routers
from samerge_edu.ensembles import tall_masks as tall
from samerge_edu.ensembles.ensemble import Ensemble, Part, Routed, encode, measure, whole
from samerge_edu.ensembles.free_merging import free_merging, loudness, sparse
from samerge_edu.ensembles.localize_and_stitch import localize, stitch
from samerge_edu.ensembles.router import Router, train_router
from samerge_edu.ensembles.tall_masks import masked, tall_experts
from samerge_edu.ensembles.twin_merging import low_rank, twin_merging
from samerge_edu.evaluate import scores, summary
from samerge_edu.matrices import block_weight
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.methods import DATA_METHODS, Method
from samerge_edu.params import add, flatten, task_vectors
from samerge_edu.statistics import embed, logits
from samerge_edu.suites import load_suite
from samerge_edu.transforms.free_fr import free_fr

QUICK = {"n": 16, "epochs": 2}  # of a router whose quality does not matter


@pytest.fixture(scope="module")
def suite():
    return DataSuite(locked=False)


@pytest.fixture(scope="module")
def taus(suite):
    return task_vectors(suite.theta_0, list(suite.experts.values()))


@pytest.fixture(scope="module")
def theta(suite, taus):
    return add(suite.theta_0, task_arithmetic(taus), 0.2)


def same(got, expected, **tolerance):
    assert got.keys() == expected.keys()
    for key in expected:
        torch.testing.assert_close(got[key], expected[key], **tolerance)


def one_by_one(suite, theta, parts, w, images):
    """The oracle: each image alone, in a state dict that is built for it."""
    rows = []
    for row, image in zip(w, images, strict=True):
        mixed = {key: value.clone() for key, value in theta.items()}
        for weight, part in zip(row, parts, strict=True):
            for key in mixed:
                mixed[key] += weight * part[key]
        rows.append(F.normalize(functional_call(suite.visual, mixed, (image[None],)), dim=1))
    return torch.cat(rows).detach()


def always(task, tasks, dim=16):
    """A router that sends everything to one expert."""
    b = torch.full((len(tasks),), -1e9)
    b[tasks.index(task)] = 0.0
    return Router(tuple(tasks), ((torch.zeros(len(tasks), dim), b),))


# ---------------------------------------------------------------------------- encoding


@pytest.mark.parametrize("kind", ["soft", "hard", "one of them soft"])
def test_batched_encoding_is_a_loop_over_images(suite, theta, taus, kind):
    images = suite.images("land", "test")[0][:11]
    w = torch.rand(11, 3, generator=torch.Generator().manual_seed(1)).softmax(dim=1)
    if kind != "soft":
        w[1 if kind == "one of them soft" else 0 :] = torch.eye(3)[torch.tensor([2, 0, 1, 0, 2, 2, 1, 0, 0, 2, 1])][
            1 if kind == "one of them soft" else 0 :
        ]
    updates = {key: torch.stack([tau[key] for tau in taus]) for key in theta}
    before = {key: value.clone() for key, value in theta.items()}
    got = encode(suite, theta, updates, w, images, batch=4)
    torch.testing.assert_close(got, one_by_one(suite, theta, taus, w, images), rtol=1e-4, atol=1e-6)
    same(theta, before, rtol=0, atol=0)
    torch.testing.assert_close(torch.linalg.norm(got, dim=1), torch.ones(11))


def test_equal_routes_are_encoded_together_and_unequal_ones_by_vmap(suite, theta, taus, monkeypatch):
    images = suite.images("land", "test")[0][:9]
    updates = {key: torch.stack([tau[key] for tau in taus]) for key in theta}
    asked = []
    monkeypatch.setattr(suite, "encode", lambda theta, x: asked.append(len(x)) or DataSuite.encode(suite, theta, x))
    encode(suite, theta, updates, torch.eye(3)[torch.tensor([0, 2, 0, 0, 2, 1, 1, 0, 0])], images)
    assert sorted(asked) == [2, 2, 5]
    asked.clear()
    encode(suite, theta, updates, torch.rand(9, 3), images)
    assert asked == []
    with pytest.raises(ValueError, match="w: got 8 rows, expected one for each of 9 images"):
        encode(suite, theta, updates, torch.rand(8, 3), images)


def test_the_real_tower_too():
    suite = load_suite("pocket")
    tasks = suite.id_tasks[:2]
    parts = task_vectors(suite.theta_0, [dict(suite.experts[task]) for task in tasks])
    updates = {key: torch.stack([part[key] for part in parts]) for key in suite.theta_0}
    images = suite.images("signs", "val", 5)[0]
    w = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5], [1.0, 0.0], [0.0, 1.0]])
    with torch.no_grad():
        expected = one_by_one(suite, suite.theta_0, parts, w, images)
    torch.testing.assert_close(encode(suite, suite.theta_0, updates, w, images), expected, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------- measuring


def test_told_the_task_it_is_one_plain_model_a_task(suite, theta, taus):
    ensemble = Ensemble(theta, {task: whole(tau) for task, tau in zip(suite.id_tasks, taus, strict=True)})
    per_task, routes = measure(suite, ensemble)
    expected = {t: scores(suite, add(theta, tau), tasks=[t])[t] for t, tau in zip(suite.id_tasks, taus, strict=True)}
    assert per_task == expected | scores(suite, theta, tasks=suite.ood_tasks)
    assert list(per_task) == list(suite.tasks)
    assert routes == {}
    own = dict.fromkeys(suite.id_tasks, 100.0)
    assert summary(suite, per_task, own)["id_worst"] == min(expected.values())
    assert list(measure(suite, ensemble, tasks=["flags", "ink"], split="val", n=9).per_task) == ["flags", "ink"]
    assert measure(suite, ensemble, tasks=["flags"]).per_task == {"flags": per_task["flags"]}
    assert measure(suite, ensemble, tasks="ink").per_task == {"ink": per_task["ink"]}


@pytest.mark.parametrize("task", ["ink", "land"])
def test_a_router_that_always_says_the_same_is_one_plain_model(suite, theta, taus, task):
    parts = {name: whole(tau) for name, tau in zip(suite.id_tasks, taus, strict=True)}
    order = ["land", "ink", "noise"]  # a router's classes need not be in the order of the parts
    ensemble = Ensemble(theta, parts, always(task, order))
    per_task, routes = measure(suite, ensemble)
    assert per_task == scores(suite, ensemble.model(task))
    assert routes == {name: {t: float(t == task) for t in order} for name in suite.tasks}


def test_an_ensemble_of_one_task_has_one_route(theta, taus):
    suite = DataSuite(locked=False)
    suite.id_tasks = ("ink",)
    ensemble = Ensemble(theta, {"ink": whole(taus[0])}, always("ink", ["ink"]))
    assert measure(suite, ensemble, tasks=["ink"]).per_task == scores(suite, add(theta, taus[0]), tasks=["ink"])
    kept = tall_experts(suite, mask_lams=(0.4,))
    same(kept.model("ink"), dict(suite.experts["ink"]))  # nobody else's entries stand against its own


def test_routes_are_the_mean_weights_of_each_tasks_own_images(suite, theta):
    ensemble = twin_merging(suite, theta, rank=2, **QUICK)
    per_task, routes = measure(suite, ensemble, "val", n=15)
    for task in suite.tasks:
        w = ensemble.router(suite.encode(theta, suite.images(task, "val", 15)[0]))
        assert list(routes[task].values()) == pytest.approx(w.mean(dim=0).tolist(), abs=1e-6)
        assert sum(routes[task].values()) == pytest.approx(1)
        seen = Routed(suite, ensemble)
        z, y = seen.encode(theta, suite.images(task, "val", 15)[0]), suite.images(task, "val", 15)[1]
        right = (z @ suite.heads[task].T).argmax(dim=1) == y
        assert per_task[task] == pytest.approx(100 * right.double().mean().item())
    assert measure(suite, ensemble, "val", n=15) == (per_task, routes)


def test_a_part_of_nothing_is_the_shared_model(suite, theta):
    zero = {key: torch.zeros_like(value) for key, value in theta.items()}
    for part in (low_rank(zero, 3), sparse(zero), whole(zero), masked(zero, theta)):
        ensemble = Ensemble(theta, dict.fromkeys(suite.id_tasks, part))
        same(ensemble.model("ink"), dict(theta), rtol=0, atol=0)
        for way in (ensemble, dataclasses.replace(ensemble, router=train_router(suite, theta, **QUICK))):
            assert measure(suite, way).per_task == scores(suite, theta)
    assert low_rank(zero, 3).stored == {}


def test_what_an_ensemble_needs(suite, theta, taus):
    parts = {task: whole(tau) for task, tau in zip(suite.id_tasks, taus, strict=True)}
    with pytest.raises(ValueError, match="parts: got none"):
        Ensemble(theta, {})
    with pytest.raises(ValueError, match=r"task 'land': the router has no class for it; got a router for ink, noise"):
        Ensemble(theta, parts, always("ink", ["ink", "noise"]))
    with pytest.raises(ValueError, match="task 'sea': it has no part"):
        Ensemble(theta, parts, always("ink", ["ink", "noise", "land", "sea"]))
    with pytest.raises(ValueError, match="router: got none"):
        Routed(suite, Ensemble(theta, parts))
    with pytest.raises(ValueError, match="unknown task: got 'sea'"):
        measure(suite, Ensemble(theta, parts), tasks=["sea"])
    with pytest.raises(ValueError, match="tasks: got none"):
        measure(suite, Ensemble(theta, parts), tasks=[])


# ---------------------------------------------------------------------------- bytes


ENSEMBLES = {
    "twin": lambda suite, theta: twin_merging(suite, theta, rank=2, **QUICK),
    "free": lambda suite, theta: free_merging(suite, theta, density=0.05, **QUICK),
    "tall": lambda suite, theta: tall_experts(suite, mask_lams=(0.4,), router=True, **QUICK),
    "whole": lambda suite, theta: Ensemble(theta, {t: whole(suite.experts[t], torch.float16) for t in suite.id_tasks}),
}


@pytest.mark.parametrize("name", ENSEMBLES)
def test_the_bytes_are_those_of_a_file_and_the_file_is_enough(name, suite, theta, tmp_path):
    ensemble = ENSEMBLES[name](suite, theta)
    save_file(ensemble.stored(), file := tmp_path / "beside.safetensors")
    (header,) = struct.unpack("<Q", file.read_bytes()[:8])
    assert (file.stat().st_size - 8 - header) / 1e6 == pytest.approx(ensemble.megabytes, abs=1e-12)
    read = load_file(file)
    for task, part in ensemble.parts.items():
        again = Part({key: read[f"{task}.{key}"] for key in part.stored}, part.unpack)
        same(again.update(), part.update(), rtol=0, atol=0)
    names = [key.partition(".")[0] for key in read]
    assert ("router" in names) == (ensemble.router is not None)
    assert ("second" in names) == (name == "tall")


def test_what_is_kept_is_as_small_as_it_says(suite, theta, taus):
    d = len(flatten(theta))
    masks = tall_experts(suite, mask_lams=(0.4,))
    assert masks.megabytes * 1e6 == 4 * d + 3 * math.ceil(d / 8), "the sum is a second model, and a mask is a bit"
    kept = free_merging(suite, theta, density=0.05, router=False)
    blocks = [theta[key].numel() for key in theta if block_weight(key, theta[key])]
    assert kept.megabytes * 1e6 == 3 * 8 * sum(round(0.05 * numel) for numel in blocks)
    matrices, vectors = ({k: v for k, v in taus[0].items() if (v.ndim > 1) == big} for big in (True, False))
    floats = sum(2 * (len(M) + M[0].numel()) for M in matrices.values())
    floats += sum(v.numel() for v in vectors.values() if v.any())  # some biases of the tiny suite did not move
    assert sum(x.nbytes for x in low_rank(taus[0], 2).stored.values()) == 4 * floats


# ---------------------------------------------------------------------------- router


class Clusters(DataSuite):
    """Features are drawn around a place of each task; `broken` has a NaN."""

    def __init__(self, broken=None, count=40):
        super().__init__()
        self.broken, self.count = broken, count

    def images(self, task, split, n=None):
        g = torch.Generator().manual_seed(list(self.tasks).index(task) + 10 * ["train", "val", "test"].index(split))
        x = torch.randn(self.count, 16, generator=g) + 4 * torch.eye(16)[list(self.tasks).index(task)]
        x[3, 2] = float("nan") if task == self.broken else x[3, 2]
        return x[:n], torch.zeros(min(n, self.count), dtype=torch.long)

    def encode(self, theta, images):
        return images


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_router_learns_which_task_an_image_is_from(depth, theta):
    suite = Clusters()
    router = train_router(suite, theta, n=40, depth=depth, lr=1e-2)
    assert router.tasks == suite.id_tasks
    assert len(router.layers) == depth + 1
    for i, task in enumerate(suite.id_tasks):
        w = router(suite.images(task, "test", 40)[0])
        assert (w.argmax(dim=1) == i).double().mean() > 0.9
        torch.testing.assert_close(w.sum(dim=1), torch.ones(40))
    hard = dataclasses.replace(router, hard=True)(suite.images("ink", "test", 40)[0])
    assert hard.unique().tolist() == [0, 1]
    assert hard[:, 0].mean() > 0.9


def test_a_router_at_test_time_is_the_network_in_eval_mode(monkeypatch, theta):
    nets = []
    network = routers._network
    monkeypatch.setattr(routers, "_network", lambda *args: nets.append(network(*args)) or nets[-1])
    suite = Clusters()
    router = train_router(suite, theta, n=30, epochs=3)
    z = suite.images("noise", "test", 20)[0]
    assert [type(layer).__name__ for layer in nets[0]][:4] == ["Linear", "BatchNorm1d", "LeakyReLU", "Dropout"]
    torch.testing.assert_close(router(z), nets[0](z).softmax(dim=1).detach(), rtol=1e-4, atol=1e-6)
    assert router.layers[0][0].shape == (32, 16)
    assert router.layers[-1][0].shape == (3, 32)


def test_a_router_is_the_same_again_and_leaves_the_global_numbers_alone(theta):
    state = torch.random.get_rng_state()
    one, two, other = (train_router(Clusters(), theta, n=20, epochs=2, seed=seed).stored() for seed in (0, 0, 1))
    same(one, two, rtol=0, atol=0)
    assert not torch.equal(one["router.0.W"], other["router.0.W"])
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(5)
    same(train_router(Clusters(), theta, n=20, epochs=2).stored(), one, rtol=0, atol=0)


def test_a_router_of_one_image_too_many(theta):
    train_router(Clusters(), theta, n=11, batch=16, epochs=1)  # 33 images: the last batch is one, which has no variance


def test_a_router_takes_the_steps_of_a_loop_the_last_batch_of_two_included(theta):
    """Linear: torch's own layer and Adam without decay, each step with a gradient of its own."""
    suite, n, lr = Clusters(), 6, 1e-2
    x = torch.cat([suite.images(task, "val", n)[0] for task in suite.id_tasks])
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layer = torch.nn.Linear(16, 3)
        adam = torch.optim.Adam(layer.parameters(), lr)
        for _ in range(2):
            for pick in torch.randperm(18).split(4):  # 4, 4, 4, 4, 2
                loss = F.cross_entropy(layer(x[pick]), pick // n)
                layer.weight.grad, layer.bias.grad = torch.autograd.grad(loss, (layer.weight, layer.bias))
                adam.step()
    ((W, b),) = train_router(suite, theta, n=n, depth=0, epochs=2, lr=lr, batch=4, seed=3).layers
    torch.testing.assert_close(W, layer.weight.detach(), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(b, layer.bias.detach(), rtol=1e-5, atol=1e-7)


def test_the_smallest_router_there_is(theta):
    """Two images a task, two a batch, no inner layer; without an epoch it is where it began."""
    start, moved = (train_router(Clusters(), theta, n=2, batch=2, depth=0, epochs=epochs) for epochs in (0, 1))
    assert start.layers[0][0].shape == (3, 16)
    assert not torch.equal(start.layers[0][0], moved.layers[0][0])


@pytest.mark.parametrize(
    ("clusters", "knobs", "match"),
    [
        (Clusters(), {"n": 41}, r"n: got 40 images of 'ink', expected 41"),
        (Clusters("noise"), {"n": 20}, "features of 'noise': got NaN or infinity"),
        (Clusters(), {"n": 1}, "n: got 1 images, expected at least 2"),
        (Clusters(), {"n": 8, "batch": 1}, "batch: got 1, expected at least 2"),
        (Clusters(), {"n": 8, "depth": -1}, "depth, epochs: got -1"),
        (Clusters(), {"n": 8, "epochs": -1}, "depth, epochs: got 2, -1"),
        (Clusters(), {"n": 8, "lr": 0.0}, "lr: got 0.0"),
        (Clusters(), {"n": 8, "split": "test"}, "split: got 'test'"),
    ],
)
def test_bad_input_of_a_router(clusters, knobs, match, theta):
    with pytest.raises(ValueError, match=match):
        train_router(clusters, theta, **knobs)


def test_no_route_for_a_feature_that_is_nan():
    router = always("ink", ["ink", "noise", "land"])
    z = torch.zeros(2, 16)
    z[1, 0] = float("inf")
    with pytest.raises(ValueError, match="features: got NaN or infinity"):
        router(z)


# ---------------------------------------------------------------------------- the methods


def test_twin_at_full_rank_gives_the_experts_back_and_at_rank_1_the_best_matrix(suite, theta):
    full = twin_merging(suite, theta, rank=99, router=False)
    for task in suite.id_tasks:
        same(full.model(task), dict(suite.experts[task]), rtol=1e-5, atol=1e-6)
    small = twin_merging(suite, theta, rank=1, router=False)
    for task in suite.id_tasks:
        for key, got in small.parts[task].update().items():
            v = suite.experts[task][key] - theta[key]
            if v.ndim > 1:
                U, S, Vt = torch.linalg.svd(v.flatten(1), full_matrices=False)
                v = (S[0] * torch.outer(U[:, 0], Vt[0])).reshape(v.shape)
            torch.testing.assert_close(got, v, rtol=1e-3, atol=1e-5)
    assert full.router is None
    with pytest.raises(ValueError, match="rank: got 0, expected at least 1"):
        twin_merging(suite, theta, rank=0)


def test_factors_are_kept_only_where_they_are_smaller():
    g = torch.Generator().manual_seed(0)
    tau = {name: torch.randn(*shape, generator=g) for name, shape in {"less": (5, 5), "as": (2, 2), "b": (7,)}.items()}
    assert set(low_rank(tau, 1).stored) == {"less.U", "less.V", "as", "b"}  # 10 < 25, but 4 = 4
    more = low_rank({"more": torch.randn(3, 4, generator=g)}, 2)  # 14 > 12
    assert set(more.stored) == {"more"}


def test_a_rank_is_refused_before_the_work_begins(suite):
    with pytest.raises(ValueError, match="rank: got 0, expected at least 1"):
        low_rank({"w": torch.ones(2, 2)}, 0)
    with pytest.raises(ValueError, match="rank: got 0, expected at least 1"):
        twin_merging(suite, {}, rank=0)


def test_the_twins_router_looks_at_the_shared_models_features(suite, theta):
    got = twin_merging(suite, theta, rank=1, **QUICK).router
    same(got.stored(), train_router(suite, theta, **QUICK).stored(), rtol=0, atol=0)
    assert not torch.equal(got.layers[0][0], train_router(suite, suite.theta_0, **QUICK).layers[0][0])
    assert not got.hard


def test_free_replaces_the_largest_entries_of_each_matrix_of_the_blocks(suite, theta, taus):
    density, lam = 0.05, 0.4
    ensemble = free_merging(suite, theta, density=density, lam=lam, **QUICK)
    assert ensemble.router.hard
    for task, tau, filtered in zip(suite.id_tasks, taus, free_fr(taus, align=False), strict=True):
        blocks = [key for key in tau if block_weight(key, tau[key])]
        top = {key: tau[key].abs().flatten().topk(round(density * tau[key].numel())).indices for key in blocks}
        kept = torch.cat([tau[key].abs().flatten()[top[key]] for key in blocks]).mean()
        rest = torch.cat([filtered[key].abs().flatten() for key in blocks]).mean()
        mu = -math.log10(density) * kept / rest
        assert mu > 1
        for key, got in ensemble.model(task).items():
            expected = theta[key].flatten().clone()
            if key in blocks:
                loud = suite.theta_0[key].flatten() + lam * mu * tau[key].flatten()
                expected[top[key]] = loud[top[key]]
            torch.testing.assert_close(got.flatten(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("knobs", "match"), [({"density": 0.0}, "density: got 0"), ({"lam": math.nan}, "lam: got nan")]
)
def test_bad_input_of_free(suite, theta, knobs, match):
    with pytest.raises(ValueError, match=match):
        free_merging(suite, theta, **knobs)


def test_a_density_is_refused_before_the_work_begins(suite, theta, monkeypatch):
    monkeypatch.setattr(free, "free_fr", lambda *a, **k: pytest.fail("the filter was run"))
    for density in (0.0, 1.5):
        with pytest.raises(ValueError, match=f"density: got {density}"):
            free_merging(suite, theta, density=density)


def test_loudness_of_one_entry_and_of_none():
    assert loudness({"w": torch.tensor([0.0, -3.0])}) == 3.0
    assert loudness({"w": torch.zeros(2)}) == 0.0


def test_masks_of_ones_give_the_plain_sum(suite, taus):
    tau_sum = task_arithmetic(taus)
    ones = {key: torch.ones_like(value, dtype=torch.bool) for key, value in tau_sum.items()}
    same(masked(ones, tau_sum).update(), tau_sum, rtol=0, atol=0)
    every = tall_experts(suite, mask_lams=(1e-30,))
    chosen = {key: torch.stack([tau[key] for tau in taus]).bool().all(dim=0) for key in tau_sum}
    for task in suite.id_tasks:
        same(every.model(task), add(suite.theta_0, {k: chosen[k] * tau_sum[k] for k in chosen}))


def test_tall_masks_are_those_of_the_paper_and_each_task_has_its_own_lam(suite, taus, monkeypatch):
    best = {"ink": 0.2, "noise": 0.6, "land": 0.4}
    current = []

    def accuracy(suite, theta, task, split, n):
        assert (split, n) == ("val", 12)
        current.append(task)
        lam = (0.2, 0.3, 0.4, 0.5, 0.6)[(len(current) - 1) // 3]
        return 100.0 if lam == best[task] else 0.0

    monkeypatch.setattr(tall, "accuracy", accuracy)
    ensemble = tall_experts(suite, n=12)
    assert len(current) == 15
    for task, tau in zip(suite.id_tasks, taus, strict=True):
        for key, got in ensemble.model(task).items():
            tau_sum = sum(other[key] for other in taus)
            m = tau[key].abs() > best[task] * (tau_sum - tau[key]).abs()
            torch.testing.assert_close(got, suite.theta_0[key] + m * tau_sum)
    same(ensemble.model(None), suite.theta_0, rtol=0, atol=0)
    same(ensemble.model("flags"), suite.theta_0, rtol=0, atol=0)


def test_two_mask_lams_are_tried_on_what_they_give_and_one_alone_is_not(suite, taus, monkeypatch):
    asked = []
    monkeypatch.setattr(tall, "accuracy", lambda suite, theta, task, split, n: asked.append((task, theta)) or 50.0)
    tall_experts(suite, mask_lams=(0.4,))
    assert asked == []
    tall_experts(suite, mask_lams=(0.4, 0.7))
    assert [task for task, _ in asked] == [*suite.id_tasks] * 2
    for i, (_, theta) in enumerate(asked):
        tau, lam = taus[i % 3], (0.4, 0.7)[i // 3]
        for key, got in theta.items():
            tau_sum = sum(other[key] for other in taus)
            m = tau[key].abs() > lam * (tau_sum - tau[key]).abs()
            torch.testing.assert_close(got, suite.theta_0[key] + m * tau_sum)


@pytest.mark.parametrize(
    ("knobs", "match"),
    [
        ({"mask_lams": ()}, r"mask_lams: got \[\]"),
        ({"mask_lams": (0.2, 0.0)}, r"mask_lams: got \[0.2, 0.0\]"),
        ({"mask_lams": (0.2, -1)}, r"mask_lams: got \[0.2, -1\]"),
        ({"split": "test"}, "split: got 'test'"),
        ({"n": 0}, "n: got 0"),
    ],
)
def test_bad_input_of_tall(suite, knobs, match):
    with pytest.raises(ValueError, match=match):
        tall_experts(suite, **knobs)


def test_localize_takes_steps_against_the_gradient(suite, taus):
    n, lr, strength, bias = 6, 1e3, 0.5, 2.0
    got = localize(suite, taus, n=n, density=0.1, bias=bias, steps=2, lr=lr, strength=strength, batch=4)
    for task, tau, m in zip(suite.id_tasks, taus, got, strict=True):
        images, labels = suite.images(task, "train", n)
        largest = flatten(tau).abs().topk(round(0.1 * len(flatten(tau)))).values.min()
        S = {key: torch.where(value.abs() >= largest, bias, -bias).requires_grad_() for key, value in tau.items()}
        for _ in range(2):
            theta = {key: suite.theta_0[key] + S[key].sigmoid() * tau[key] for key in S}
            z = logits(suite, embed(suite, theta, images), task)
            norm = sum(s.sigmoid().sum() for s in S.values())
            (lr * F.cross_entropy(z, labels) + strength * norm).backward()
            S = {key: (s.detach() - s.grad).requires_grad_() for key, s in S.items()}
        for key in tau:
            sure = S[key].abs() > 1e-3
            expected = (S[key] > 0) if key != "positional_embedding" else torch.zeros_like(tau[key], dtype=torch.bool)
            assert torch.equal(m[key][sure], expected[sure])
    start = localize(suite, taus, n=n, density=0.1, bias=bias, steps=0)
    assert any(not torch.equal(m[key], s[key]) for m, s in zip(got, start, strict=True) for key in m)


def test_no_step_keeps_the_largest_and_a_strong_pull_keeps_nothing(suite, taus):
    start = localize(suite, taus, n=2, density=0.01, steps=0)
    for tau, m in zip(taus, start, strict=True):
        tau = {key: value for key, value in tau.items() if key != "positional_embedding"}
        inside = flatten({key: m[key].float() for key in tau}).bool()
        assert flatten(tau).abs()[inside].min() >= flatten(tau).abs()[~inside].max()
    empty = localize(suite, taus, n=2, density=0.01, steps=1, lr=1e-9, strength=1e4)
    assert not any(x.any() for m in empty for x in m.values())
    one, two = (localize(suite, taus, n=8, steps=2) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        same(a, b)


@pytest.mark.parametrize(
    ("knobs", "match"),
    [
        ({"steps": -1}, "steps: got -1"),
        ({"lr": 0.0}, "lr, bias, strength: got 0.0"),
        ({"bias": 0.0}, "lr, bias, strength"),
        ({"strength": -1.0}, "lr, bias, strength"),
        ({"density": 0.0}, "density: got 0"),
        ({"split": "test"}, "split: got 'test'"),
    ],
)
def test_bad_input_of_localize(suite, taus, knobs, match):
    with pytest.raises(ValueError, match=match):
        localize(suite, taus, **knobs)


def test_a_score_may_start_near_0_and_nothing_need_pull_at_it(suite, taus):
    near = localize(suite, taus, n=2, density=0.01, bias=0.5, strength=0.0, steps=0)
    for a, b in zip(near, localize(suite, taus, n=2, density=0.01, steps=0), strict=True):
        same(a, b)


def test_a_task_vector_with_nan_has_no_regions(suite, taus):
    broken = [taus[0], taus[1] | {"proj": torch.full_like(taus[1]["proj"], math.nan)}, taus[2]]
    with pytest.raises(ValueError, match=r"task vector 1, key 'proj': got .* NaN or infinite"):
        localize(suite, broken, n=2, steps=0)


def test_one_expert_alone_is_stitched_to_its_own_region():
    got = stitch([{"w": torch.tensor([4.0, 1.0])}], [{"w": torch.tensor([True, False])}])
    assert got["w"].tolist() == [4.0, 0.0]


def test_localize_wants_a_task_vector_for_each_task(suite, taus):
    with pytest.raises(ValueError, match="taus: got 2, expected one for each of the 3 tasks"):
        localize(suite, taus[:2])


def test_stitch_is_the_mean_where_masks_overlap(taus):
    g = torch.Generator().manual_seed(2)
    masks = [{key: torch.rand(value.shape, generator=g) < 0.4 for key, value in tau.items()} for tau in taus]
    for key, got in stitch(taus, masks).items():
        rows = zip(*(tau[key].flatten().tolist() for tau in taus), strict=True)
        bits = zip(*(m[key].flatten().tolist() for m in masks), strict=True)
        expected = [
            sum(x for x, b in zip(row, bit, strict=True) if b) / max(1, sum(bit))
            for row, bit in zip(rows, bits, strict=True)
        ]
        assert got.flatten().tolist() == pytest.approx(expected, rel=1e-5, abs=1e-7)
    with pytest.raises(ValueError, match="masks: got 2, expected one for each of 3"):
        stitch(taus, masks[:2])
    with pytest.raises(ValueError, match="mask 1, key 'proj': expected a mask"):
        stitch(taus, [masks[0], masks[1] | {"proj": masks[1]["proj"][:3]}, masks[2]])


# ---------------------------------------------------------------------------- rows


def test_the_leaderboard_measures_the_ensemble_and_weighs_it():
    suite = DataSuite(locked=False)
    kept = []

    def beside(suite, theta):
        kept.append(twin_merging(suite, theta, rank=2, **QUICK))
        return kept[-1]

    method = Method(
        lambda suite: task_arithmetic, 0.37, "2406.15479", 2024, needs="unlabelled", router=True, beside=beside
    )
    record = leaderboard.run(suite, {"twin": method, "plain": dataclasses.replace(method, beside=None, router=False)})
    paper, validated, plain, _ = record["rows"]
    taus = task_vectors(suite.theta_0, list(suite.experts.values()))
    for row, ensemble in zip((paper, validated), kept, strict=True):
        same(ensemble.theta, add(suite.theta_0, task_arithmetic(taus), row["lam"]))
        assert row["per_task"] == measure(suite, ensemble).per_task
        assert row["stored_mb"] == ensemble.megabytes > 0
    assert (paper["router"], paper["task_id"], plain["router"], plain["stored_mb"]) == (True, False, False, 0.0)
    assert paper["seconds"] > plain["seconds"]
    json.dumps(record, allow_nan=False)
    lines = leaderboard.text(record).splitlines()
    assert lines[0].split()[-3:] == ["asks", "for", "MB"]
    assert {len(line.rstrip()) for line in lines[3:]} == {95}
    assert lines[3].startswith("twin (unlabelled) ")
    assert lines[3].split()[-2:] == ["router", f"{kept[0].megabytes:.1f}"]
    assert leaderboard.text({**record, "rows": [plain]}).splitlines()[0].split()[-1] == "sec."


def test_surgerys_bottlenecks_are_weighed_too():
    suite = DataSuite(locked=False)
    rows = leaderboard.run(suite, {"surgery": DATA_METHODS["TA + Surgery"]})["rows"]
    assert [row["stored_mb"] for row in rows] == [3 * 2 * 16 * 16 * 4 / 1e6] * 2


def test_a_model_with_parts_beside_it_is_no_single_file():
    with pytest.raises(ValueError, match="'Twin-Merging' keeps something for each task beside the model"):
        cli.chosen_method("Twin-Merging")


def test_which_rows_keep_something():
    rows = {name: (m.router, m.task_id) for name, m in DATA_METHODS.items() if m.beside}
    assert rows == {"Twin-Merging": (True, False), "FREE-Merging": (True, False), "TALL masks": (False, True)}
    assert not DATA_METHODS["Localize-and-Stitch"].beside
