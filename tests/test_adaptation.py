"""Learned coefficients, bottlenecks and searches: gradients by differences, brute force, limits, bad input."""

import pytest
import torch
from data_suite import DataSuite
from torch.nn import functional as F

from samerge_edu.adaptation.adamerging import adamerging, entropy
from samerge_edu.adaptation.atlas import atlas
from samerge_edu.adaptation.coefficients import descend, weigh
from samerge_edu.adaptation.df_merge import df_merge
from samerge_edu.adaptation.evolve import evolve, per_tensor
from samerge_edu.adaptation.search import maximise
from samerge_edu.adaptation.surgery import Bottleneck, surgery
from samerge_edu.evaluate import id_average
from samerge_edu.merges.fisher import fisher as fisher_merge
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.params import add, block_index, task_vectors
from samerge_edu.statistics import embed, features, fisher, logits
from samerge_edu.transforms.trim import trim


@pytest.fixture(scope="module")
def suite():
    return DataSuite()


@pytest.fixture(scope="module")
def taus(suite):
    return task_vectors(suite.theta_0, list(suite.experts.values()))


# ---------------------------------------------------------------------------- coefficients


def total_entropy(suite, theta, n=8, split="val"):
    return sum(
        entropy(logits(suite, embed(suite, theta, suite.images(task, split, n)[0]), task)) for task in suite.id_tasks
    ).item()


def test_weigh_is_the_weighted_sum(taus):
    g = torch.Generator().manual_seed(0)
    lam = {key: torch.rand(3, generator=g) for key in taus[0]}
    for key, merged in weigh(taus, lam).items():
        torch.testing.assert_close(merged, sum(lam[key][n] * tau[key] for n, tau in enumerate(taus)))
    low = [{"w": torch.ones(2, dtype=torch.bfloat16)}] * 2
    assert weigh(low, {"w": torch.tensor([0.3, 0.4])})["w"].dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"coefficients of 'proj': got \(2,\), expected shape \(3,\)"):
        weigh(taus, lam | {"proj": torch.ones(2)})
    with pytest.raises(ValueError, match="coefficients of 'proj': got nothing"):
        weigh(taus, {k: v for k, v in lam.items() if k != "proj"})


def test_entropy_is_scipys():
    from scipy.stats import entropy as of_scipy

    z = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    assert entropy(z).item() == pytest.approx(of_scipy(z.softmax(dim=1).numpy(), axis=1).mean(), rel=1e-5)


@pytest.mark.parametrize("level", ["task", "layer"])
def test_the_step_goes_down_the_entropy_by_finite_differences(suite, taus, level):
    """Plain gradient descent, one step, all images in the batch: lam - lr * dH/dlam, with dH/dlam by differences."""
    start, lr, h = 0.3, 1e-3, 1e-2
    data = {task: (suite.images(task, "val", 8)[0], None) for task in suite.id_tasks}
    rows = 1 if level == "task" else len(taus[0])
    learned = descend(
        suite,
        taus,
        data,
        lambda z, _: sum(entropy(one) for one in z),
        torch.full((rows, 3), start),
        lambda parameters: torch.optim.SGD(parameters, lr=lr),
        steps=1,
        batch=8,
        seed=0,
    )
    keys = ["proj"] if level == "task" else ["proj", "transformer.resblocks.1.mlp.c_fc.weight"]
    for key in keys:
        for n in range(3):
            H = []
            for sign in (1, -1):
                lam = {k: torch.full((3,), start) for k in taus[0]}
                for moved in lam if level == "task" else [key]:
                    lam[moved][n] += sign * h
                H.append(total_entropy(suite, add(suite.theta_0, weigh(taus, lam))))
            slope = (H[0] - H[1]) / (2 * h)
            assert (start - learned[key][n].item()) / lr == pytest.approx(slope, rel=0.03, abs=2e-2)


@pytest.mark.parametrize("level", ["task", "layer"])
def test_adamerging_lowers_the_entropy_and_starts_at_task_arithmetic(suite, taus, level):
    start = adamerging(suite, taus, level=level, steps=0, n=8)
    for key in taus[0]:
        torch.testing.assert_close(start[key], torch.full((3,), 0.3))
    learned = adamerging(suite, taus, level=level, steps=10, n=8, batch=8)
    before, after = (total_entropy(suite, add(suite.theta_0, weigh(taus, lam))) for lam in (start, learned))
    assert after < before - 0.05
    distinct = {tuple(value.tolist()) for value in learned.values()}
    assert len(distinct) == 1 if level == "task" else len(distinct) > 10


def test_task_wise_adamerging_finds_what_a_grid_finds():
    """Two experts: the entropy over a grid of both coefficients against many steps from 0.3."""
    suite = DataSuite()
    suite.id_tasks = ("ink", "noise")
    taus = task_vectors(suite.theta_0, [suite.experts[task] for task in suite.id_tasks])
    taus = [{key: 0.3 * value for key, value in tau.items()} for tau in taus]

    def height(a, b):
        return total_entropy(suite, add(suite.theta_0, {k: a * taus[0][k] + b * taus[1][k] for k in taus[0]}))

    grid = [x / 10 for x in range(11)]
    lowest = min(height(a, b) for a in grid for b in grid)
    learned = adamerging(suite, taus, level="task", steps=80, n=8, batch=8, lr=2e-2)
    reached = height(*learned["proj"].tolist())
    assert reached < height(0.3, 0.3)
    assert reached < lowest + 0.05


def test_clamped_coefficients_stay_between_0_and_1(suite, taus):
    wild = dict(steps=6, n=8, lr=0.5)
    assert all(((v >= 0) & (v <= 1)).all() for v in adamerging(suite, taus, **wild).values())
    free = torch.cat(list(adamerging(suite, taus, clamp=False, **wild).values()))
    assert (free < 0).any()
    assert (free > 1).any()


def test_every_step_has_a_gradient_of_its_own(suite, taus):
    """Two steps of plain descent, all images in each batch, against autograd written out."""
    data, lr = {task: (suite.images(task, "val", 8)[0], None) for task in suite.id_tasks}, 1e-3
    lam = torch.full((1, 3), 0.3)
    for _ in range(2):
        lam.requires_grad_()
        theta = {k: x + sum(lam[0, n] * tau[k] for n, tau in enumerate(taus)) for k, x in suite.theta_0.items()}
        H = sum(entropy(logits(suite, embed(suite, theta, x), task)) for task, (x, _) in data.items())
        lam = lam.detach() - lr * torch.autograd.grad(H, lam)[0]
    learned = descend(
        suite, taus, data,
        lambda z, _: sum(entropy(one) for one in z),
        torch.full((1, 3), 0.3), lambda p: torch.optim.SGD(p, lr=lr), steps=2, batch=8, seed=0,
    )  # fmt: skip
    torch.testing.assert_close(learned["proj"], lam[0], rtol=1e-4, atol=1e-5)
    assert (lam - 0.3).abs().max() > 1e-3, "it has moved"


@pytest.mark.parametrize("method", [adamerging, atlas])
def test_one_expert_alone_one_image_a_step(suite, taus, method):
    learned = method(suite, taus[:1], steps=1, n=8, batch=1)
    assert all(lam.shape == (1,) for lam in learned.values())
    merged = weigh(taus[:1], learned)
    for key, tau in taus[0].items():
        torch.testing.assert_close(merged[key], learned[key] * tau)


def test_a_task_vector_with_nan_is_named_before_anything_is_learned(suite, taus):
    broken = [*taus[:2], taus[2] | {"proj": torch.full_like(taus[2]["proj"], torch.nan)}]
    with pytest.raises(ValueError, match=r"task vector 2, key 'proj': got .* NaN or infinite"):
        adamerging(suite, broken, steps=0)


def test_adamerging_on_test_images_has_to_be_said(suite, taus):
    with pytest.raises(ValueError, match="split: got 'test'"):
        adamerging(suite, taus, split="test", steps=1)
    adamerging(suite, taus, split="test", transductive=True, steps=1, n=4)  # test labels are locked


def test_atlas_starts_at_the_base_and_learns_the_labels(suite, taus):
    assert not any(value.any() for value in atlas(suite, taus, steps=0, n=24).values())

    def loss(lam):
        theta = add(suite.theta_0, weigh(taus, lam))
        return sum(
            F.cross_entropy(logits(suite, embed(suite, theta, x), task), y).item()
            for task in suite.id_tasks
            for x, y in [suite.images(task, "train", 24)]
        )

    start, learned = atlas(suite, taus, steps=0, n=24), atlas(suite, taus, steps=15, n=24, lr=3e-2)
    assert loss(learned) < loss(start) - 0.1
    assert any((value < 0).any() for value in learned.values())


def test_atlas_cuts_long_gradients(suite, taus):
    """With plain SGD one step is as long as the gradient: at most 1."""
    data = {task: suite.images(task, "train", 24) for task in suite.id_tasks}

    def length(clip, batch=24):
        lam = descend(
            suite, taus, data,
            lambda z, y: 100 * sum(F.cross_entropy(a, b) for a, b in zip(z, y, strict=True)),
            torch.zeros(len(taus[0]), 3), lambda p: torch.optim.SGD(p, lr=1.0), steps=1, batch=batch, seed=0, clip=clip,
        )  # fmt: skip
        return torch.stack(list(lam.values())).norm().item()

    assert length(1.0) == pytest.approx(1.0, rel=1e-4)
    assert length(None) > 10


def test_atlas_cuts_each_gradient_at_length_1(suite, taus, monkeypatch):
    cut = []
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda parameters, length: cut.append(length))
    atlas(suite, taus, steps=2, n=24)
    assert cut == [1.0, 1.0]
    adamerging(suite, taus, steps=2, n=8)
    assert cut == [1.0, 1.0], "AdaMerging cuts nothing"


@pytest.mark.parametrize("method", [adamerging, atlas])
def test_learned_coefficients_are_the_same_again_and_other_for_another_seed(suite, taus, method):
    a, b, c = (method(suite, taus, steps=2, n=24, batch=3, seed=seed) for seed in (0, 0, 1))
    torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert any(not torch.equal(a[key], c[key]) for key in a)


@pytest.mark.parametrize("method", [adamerging, atlas])
def test_the_order_of_the_experts_only_orders_the_coefficients(suite, taus, method):
    a, b = (method(suite, order, steps=3, n=24, batch=24) for order in (taus, taus[::-1]))
    for key in a:
        torch.testing.assert_close(a[key], b[key].flip(0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", [adamerging, atlas])
def test_what_is_wrong_with_a_descent_is_named(suite, taus, method):
    for bad in ({"steps": -1}, {"lr": 0.0}, {"batch": 0}):
        (name,) = bad
        with pytest.raises(ValueError, match=rf"{name}: got {bad[name]}"):
            method(suite, taus, n=24, **bad)
    with pytest.raises(ValueError, match="n: got 0 images"):
        method(suite, taus, n=0)
    with pytest.raises(ValueError, match="split: got 'test'"):
        method(suite, taus, n=24, split="test")


def test_other_mistakes_are_named(suite, taus):
    with pytest.raises(ValueError, match="level: got 'block', expected 'task' or 'layer'"):
        adamerging(suite, taus, level="block")
    with pytest.raises(ValueError, match="n: got 2 images, expected at least 3, one for each class of 'noise'"):
        atlas(suite, taus, n=2)
    with pytest.raises(ValueError, match="got 0 task vectors"):
        adamerging(suite, [])
    with pytest.raises(ValueError, match="got 'proj' in the task vectors or the base only"):
        adamerging(suite, [{k: v for k, v in tau.items() if k != "proj"} for tau in taus])


# ---------------------------------------------------------------------------- Surgery


def test_surgery_brings_the_features_nearer_to_the_experts(suite, taus):
    theta = add(suite.theta_0, task_arithmetic(taus), 0.3)
    for task, bottleneck in surgery(suite, theta, n=20, steps=200, lr=1e-2).items():
        z, z_n = features(suite, theta, task, 20, "val"), features(suite, suite.experts[task], task, 20, "val")
        assert (bottleneck.repair(z) - z_n).abs().mean() < 0.5 * (z - z_n).abs().mean()
        assert bottleneck.down.shape == (16, 16)
        assert bottleneck.up.shape == (16, 16)


def test_surgery_takes_the_steps_that_a_module_would(suite, taus):
    """Two nn.Linear without biases, torch's L1Loss and Adam, all images in each batch."""
    theta, task = add(suite.theta_0, task_arithmetic(taus), 0.3), "ink"
    start = surgery(suite, theta, n=10, steps=0, rank=4)[task]
    down, up = torch.nn.Linear(16, 4, bias=False), torch.nn.Linear(4, 16, bias=False)
    down.weight.data, up.weight.data = start.down.clone(), start.up.clone()
    z, z_n = features(suite, theta, task, 10, "val"), features(suite, suite.experts[task], task, 10, "val")
    adam = torch.optim.Adam([down.weight, up.weight], lr=1e-2)
    for _ in range(7):
        adam.zero_grad()
        torch.nn.L1Loss()(z - up(down(z).relu()), z_n).backward()
        adam.step()
    learned = surgery(suite, theta, n=10, steps=7, rank=4, lr=1e-2)[task]
    torch.testing.assert_close(learned.down, down.weight.data, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(learned.up, up.weight.data, rtol=1e-4, atol=1e-6)


def test_surgery_without_steps_changes_nothing_and_with_the_expert_itself_neither(suite):
    theta = suite.experts["ink"]
    z = features(suite, theta, "ink", 5, "val")
    torch.testing.assert_close(surgery(suite, theta, n=5, steps=0)["ink"].repair(z), z, rtol=0, atol=0)
    torch.testing.assert_close(surgery(suite, theta, n=5, steps=5)["ink"].repair(z), z, rtol=0, atol=0.05)


def test_the_narrowest_bottleneck_learns_from_one_image_a_step(suite):
    narrow = surgery(suite, suite.theta_0, n=3, rank=1, batch=1, steps=3)
    assert [bottleneck.down.shape for bottleneck in narrow.values()] == [(1, 16)] * 3
    assert any(bottleneck.up.any() for bottleneck in narrow.values())  # a single ReLU may be silent for a task


def test_a_repair_grows_with_its_feature():
    g = torch.Generator().manual_seed(0)
    bottleneck = Bottleneck(torch.randn(2, 6, generator=g), torch.randn(6, 2, generator=g))
    z = torch.randn(4, 6, generator=g)
    torch.testing.assert_close(bottleneck.repair(3 * z), 3 * bottleneck.repair(z))
    assert not torch.allclose(bottleneck.repair(-z), -bottleneck.repair(z))


def test_surgery_names_what_is_wrong(suite):
    theta = suite.theta_0
    for bad, match in [
        ({"rank": 0}, "rank, batch: got 0, 16"),
        ({"batch": 0}, "rank, batch: got 16, 0"),
        ({"steps": -1}, "steps: got -1"),
        ({"lr": 0.0}, "lr: got 0.0"),
        ({"n": 0}, "n: got 0 images"),
        ({"split": "test"}, "split: got 'test'"),
    ]:
        with pytest.raises(ValueError, match=match):
            surgery(suite, theta, **bad)
    surgery(suite, theta, n=3, split="test", transductive=True, steps=1)


# ---------------------------------------------------------------------------- searches


def test_both_samplers_find_the_top_of_a_hill_and_start_where_told():
    def hill(at):
        return -((at["x"] - 0.7) ** 2) - 2 * (at["y"] - 0.2) ** 2

    start = {"x": 0.1, "y": 0.9}
    for sampler in ("gp", "cmaes"):
        first, value = maximise(hill, {"x": (0, 1), "y": (0, 1)}, trials=1, sampler=sampler, start=start)
        assert first == start
        assert value == hill(start)
        trials = {"gp": 25, "cmaes": 100}[sampler]  # a strategy that keeps no model of the hill needs more
        best, value = maximise(hill, {"x": (0, 1), "y": (0, 1)}, trials=trials, sampler=sampler, start=start)
        assert value > -0.01
        assert value == hill(best)
        again, _ = maximise(hill, {"x": (0, 1), "y": (0, 1)}, trials=trials, sampler=sampler, start=start)
        assert again == best


def test_of_equal_values_the_first_wins():
    best, _ = maximise(lambda at: 1.0, {"x": (0, 1)}, trials=5, sampler="gp", start={"x": 0.25}, warmup=5)
    assert best == {"x": 0.25}


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_a_search_may_start_at_either_end_of_its_range(end):
    best, _ = maximise(lambda at: 1.0, {"x": (0, 1)}, trials=1, sampler="gp", start={"x": end})
    assert best == {"x": end}


def test_a_search_is_silent_and_leaves_optunas_log_as_it_was():
    import optuna

    before, during = optuna.logging.get_verbosity(), []
    assert before != optuna.logging.ERROR
    for sampler in ("gp", "cmaes"):
        maximise(
            lambda at: during.append(optuna.logging.get_verbosity()) or 1.0,
            {"x": (0, 1), "y": (0, 1)}, trials=2, sampler=sampler, start={"x": 0.5, "y": 0.5},
        )  # fmt: skip
    assert during == [optuna.logging.ERROR] * 4
    assert optuna.logging.get_verbosity() == before


def test_what_the_samplers_are_told(monkeypatch):
    """Accuracy on fixed images has no noise; and evolution needs no random points besides its start."""
    import optuna

    told = {}
    for name in ("GPSampler", "CmaEsSampler"):
        real = getattr(optuna.samplers, name)
        monkeypatch.setattr(optuna.samplers, name, lambda real=real, **options: told.update(options) or real(**options))
    search = {"trials": 1, "start": {"x": 0.5}, "seed": 3}
    maximise(lambda at: 1.0, {"x": (0, 1)}, sampler="gp", warmup=4, **search)
    assert told == {"seed": 3, "n_startup_trials": 4, "deterministic_objective": True}
    told.clear()
    maximise(lambda at: 1.0, {"x": (0, 1)}, sampler="cmaes", **search)
    assert told == {"seed": 3, "n_startup_trials": 1, "x0": {"x": 0.5}}


def test_what_is_wrong_with_a_search_is_named(monkeypatch):
    def search(space=None, start=None, **knobs):
        return maximise(
            lambda at: 0.0,
            space or {"x": (0, 1)},
            **{"trials": 1, "sampler": "gp", "start": start or {"x": 0.5}} | knobs,
        )

    for bad, match in [
        ({"trials": 0}, "trials: got 0"),
        ({"sampler": "grid"}, "sampler: got 'grid'"),
        ({"space": {"x": (1, 1)}}, r"range of 'x': got 1\.\.1"),
        ({"start": {"y": 1}}, "start of 'x': got None"),
        ({"start": {"x": 2}}, r"start of 'x': got 2, expected a number in 0\.\.1"),
    ]:
        with pytest.raises(ValueError, match=match):
            search(**bad)
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(ValueError, match=r'needs Optuna: pip install "samerge-edu\[search\]"'):
        search()


def test_df_merge_starts_at_fisher_merging_and_never_ends_below_it(suite, taus):
    c1 = {task: 1.0 for task in suite.id_tasks}
    start, c = df_merge(suite, taus, trials=1, n=4, n_val=20)
    assert c == c1
    F_ = [
        fisher(suite, add(suite.theta_0, tau), task, 4, kind="empirical")
        for tau, task in zip(taus, suite.id_tasks, strict=True)
    ]
    torch.testing.assert_close(start, fisher_merge(taus, F_, normalise=False, floor=1e-6))
    found, c = df_merge(suite, taus, trials=6, warmup=3, n=4, n_val=20)
    scores = [id_average(suite, add(suite.theta_0, tau), "val", 20) for tau in (start, found)]
    assert scores[1] >= scores[0]
    assert set(c) == set(suite.id_tasks)
    assert all(0 <= value <= 1 for value in c.values())
    with pytest.raises(ValueError, match="got 2 task vectors, expected 3, one for each ID task"):
        df_merge(suite, taus[:2])


def test_df_merge_measures_the_fisher_at_the_scaled_point(suite, taus, monkeypatch):
    from samerge_edu.adaptation import df_merge as module

    half = {task: 0.5 for task in suite.id_tasks}
    monkeypatch.setattr(module, "maximise", lambda objective, *a, **k: (half, objective(half)))
    merged, _ = df_merge(suite, taus, n=4, n_val=5, kind="batch")
    halves = [{k: 0.5 * v for k, v in tau.items()} for tau in taus]
    F_ = [
        fisher(suite, add(suite.theta_0, tau), task, 4, kind="batch")
        for tau, task in zip(halves, suite.id_tasks, strict=True)
    ]
    torch.testing.assert_close(merged, fisher_merge(halves, F_, normalise=False))


def test_evolution_starts_at_task_arithmetic_and_never_ends_below_it(suite, taus):
    start, genome = evolve(suite, taus, groups=2, trials=1, n_val=20)
    assert genome == {"density_0": 1.0, "scale_0": 0.3, "density_1": 1.0, "scale_1": 0.3}
    torch.testing.assert_close(start, {k: 0.3 * v for k, v in task_arithmetic(taus).items()})
    found, genome = evolve(suite, taus, groups=2, trials=12, n_val=20)
    scores = [id_average(suite, add(suite.theta_0, tau), "val", 20) for tau in (start, found)]
    assert scores[1] >= scores[0]
    for key in found:  # what it returns is what the genome says
        g = {None: 0, 0: 0, 1: 1}[block_index(key)] if not key.startswith(("ln_post", "proj")) else 1
        trimmed = trim([{key: tau[key]} for tau in taus], genome[f"density_{g}"], scope="tensor")
        torch.testing.assert_close(found[key], genome[f"scale_{g}"] * sum(tau[key] for tau in trimmed))


def test_any_edit_can_evolve(suite, taus):
    seen = []

    def edit(own, density):
        seen.append((density, len(own), set(own[0])))
        return per_tensor(own, density)

    evolve(suite, taus, groups=1, edit=edit, trials=2, n_val=5, densities=(0.2, 0.8))
    assert all(0.2 <= density <= 0.8 and n == 3 and keys == set(taus[0]) for density, n, keys in seen)
    assert seen[0][0] == 0.8


def test_each_knob_of_a_recipe_has_its_own_range_and_one_expert_is_enough(suite, taus, monkeypatch):
    from samerge_edu.adaptation import evolve as module

    asked, genome = [], {"density_0": 0.5, "scale_0": 0.2, "density_1": 1.0, "scale_1": 0.4}
    monkeypatch.setattr(module, "maximise", lambda objective, space, **k: asked.append(space) or (genome, 0.0))
    merged, _ = evolve(suite, taus[:1], densities=(0.2, 0.9), scales=(0.1, 0.6))
    density, scale = (0.2, 0.9), (0.1, 0.6)
    assert asked == [{"density_0": density, "scale_0": scale, "density_1": density, "scale_1": scale}]
    torch.testing.assert_close(merged["proj"], 0.4 * taus[0]["proj"])
    first = trim([{"conv1": taus[0]["conv1.weight"]}], 0.5, scope="tensor")[0]["conv1"]
    torch.testing.assert_close(merged["conv1.weight"], 0.2 * first)


@pytest.mark.parametrize("groups", [0, 3])
def test_groups_are_blocks_at_most(suite, taus, groups):
    with pytest.raises(ValueError, match=rf"groups: got {groups}, expected 1\.\.2, the number of blocks"):
        evolve(suite, taus, groups=groups)
