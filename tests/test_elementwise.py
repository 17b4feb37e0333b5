"""The element-wise, data-free methods against loops over single numbers, at their limits, and their refusals."""

import inspect
import math

import numpy as np
import pytest
import torch
from shared_properties import assert_same, example_taus

from samerge_edu.merges.consensus import consensus, tall_masks
from samerge_edu.merges.localize_and_stitch import localize_and_stitch
from samerge_edu.merges.pcb import pcb
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.merges.ties import ties
from samerge_edu.params import flatten, lazy_task_vectors, pipe
from samerge_edu.transforms.breadcrumbs import breadcrumbs
from samerge_edu.transforms.dare import dare
from samerge_edu.transforms.della import della
from samerge_edu.transforms.lines import lines, scale_by_depth
from samerge_edu.transforms.trim import trim

G = torch.Generator().manual_seed(7)


def coarse_taus(N=4, step=0.5, seed=0):
    """Few different values: equal magnitudes, columns that cancel to exactly 0, zeros."""
    g = torch.Generator().manual_seed(seed)
    shapes = {"w": (5, 3), "kernel": (2, 2, 3, 2), "b": (4,), "s": (), "column": (3, 1), "none": (0, 2)}
    return [
        {k: (torch.randn(s, generator=g, dtype=torch.float64) / step).round() * step for k, s in shapes.items()}
        for _ in range(N)
    ]


def lists(taus):
    """The task vectors as N lists of numbers, tensors in the order of their names."""
    return [flatten(tau).tolist() for tau in taus]


def tensor_ranges(tau):
    """(begin, end) of each tensor in such a list."""
    ranges, begin = [], 0
    for key in sorted(tau):
        ranges.append((begin, begin + tau[key].numel()))
        begin += tau[key].numel()
    return ranges


def assert_is(update, expected):
    torch.testing.assert_close(flatten(update), torch.tensor(expected, dtype=torch.float64))


def trimmed(values, density, groups):
    """Loop over positions, from the largest magnitude down, the earlier of equals first."""
    out = [0.0] * len(values)
    for begin, end in groups:
        places = min(end - begin, max(1, round(density * (end - begin))))
        for i in sorted(range(begin, end), key=lambda i: (-abs(values[i]), i))[:places]:
            out[i] = values[i]
    return out


def groups_of(taus, scope):
    return tensor_ranges(taus[0]) if scope == "tensor" else [(0, len(lists(taus)[0]))]


INPUTS = {"normal": example_taus, "coarse": coarse_taus}

DEFAULTS = [
    (trim, {"density": 0.2, "scope": "global"}),
    (ties, {"density": 0.2, "reduce": "mean", "scope": "global"}),
    (localize_and_stitch, {"density": 0.1}),
    (dare, {"density": 0.5, "lazy": False}),
    (della, {"density": 0.7, "epsilon": 0.07}),
    (breadcrumbs, {"density": 0.15, "outliers": 0.006}),
    (consensus, {"min_tasks": 2, "mask_lam": 0.6}),
    (tall_masks, {"mask_lam": 0.6}),
    (pcb, {"density": 0.05, "form": "code", "winsorise": 0.01}),
    (lines, {"beta": 0.5, "outside": "alpha"}),
]


@pytest.mark.parametrize(("method", "defaults"), DEFAULTS, ids=lambda x: getattr(x, "__name__", ""))
def test_defaults_are_the_ones_that_the_docstrings_give_a_source_for(method, defaults):
    knobs = inspect.signature(method).parameters.values()
    assert {k.name: k.default for k in knobs if k.default is not k.empty} == defaults


# ---------------------------------------------------------------------------- trim and TIES


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("scope", ["global", "tensor"])
@pytest.mark.parametrize("density", [0.05, 0.2, 0.5, 1.0])
def test_trim_is_a_loop_from_the_largest_down(inputs, scope, density):
    taus = INPUTS[inputs]()
    for tau_hat, values in zip(trim(taus, density, scope), lists(taus), strict=True):
        assert_is(tau_hat, trimmed(values, density, groups_of(taus, scope)))


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("scope", ["global", "tensor"])
@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("density", [0.2, 0.6, 1.0])
def test_ties_is_three_loops(inputs, scope, reduce, density):
    taus = INPUTS[inputs]()
    tau_hat = [trimmed(values, density, groups_of(taus, scope)) for values in lists(taus)]
    expected = []
    for p in range(len(tau_hat[0])):
        positive = sum(tau_hat[n][p] for n in range(len(taus)) if tau_hat[n][p] > 0)
        negative = -sum(tau_hat[n][p] for n in range(len(taus)) if tau_hat[n][p] < 0)
        winners = []
        for n in range(len(taus)):
            if positive > negative and tau_hat[n][p] > 0:
                winners.append(tau_hat[n][p])
            if negative > positive and tau_hat[n][p] < 0:
                winners.append(tau_hat[n][p])
        total = sum(winners)
        expected.append(total / len(winners) if reduce == "mean" and winners else total)
    assert_is(ties(taus, density, reduce, scope), expected)


@pytest.mark.parametrize("piece", [1, 5])
def test_ties_of_pieces_is_ties_of_the_whole(monkeypatch, piece):
    whole = ties(example_taus(), density=0.6)
    monkeypatch.setattr("samerge_edu.params.PIECE", piece)
    assert_same(ties(example_taus(), density=0.6), whole)


def test_ties_of_one_sign_without_trim_is_the_mean():
    taus = [{k: v.abs() + 0.1 for k, v in tau.items()} for tau in example_taus()]
    assert_same(ties(taus, density=1.0), {k: sum(tau[k] for tau in taus) / 3 for k in taus[0]})
    assert_same(ties(taus, density=1.0, reduce="sum"), task_arithmetic(taus))


def test_ties_of_one_expert_is_its_trim():
    taus = coarse_taus(N=1)
    assert_same(ties(taus, 0.3), trim(taus, 0.3)[0])


def test_ties_gives_a_column_that_cancels_to_nothing():
    taus = [{"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([-1.0, 1.0])}]
    assert ties(taus, density=1.0)["w"].tolist() == [0.0, 1.5]


def test_ties_after_a_sparse_transform_trims_nothing_more():
    """Fewer than density * d entries are left: the threshold is 0 and every survivor stays."""
    sparse = trim(example_taus(), 0.1)
    assert_same(ties(sparse, 0.2), ties(sparse, 1.0))


def test_the_global_trim_may_erase_a_tensor_and_the_trim_per_tensor_does_not():
    taus = [{"large": torch.tensor([5.0, -4.0, 3.0, 2.0]), "small": torch.tensor([0.1, 0.2, -0.3, 0.1])}]
    assert not ties(taus, 0.5)["small"].any()
    assert ties(taus, 0.5, scope="tensor")["small"].tolist() == pytest.approx([0, 0.2, -0.3, 0])


@pytest.mark.parametrize("method", [trim, ties, localize_and_stitch, pcb])
def test_a_percentage_is_refused_and_explained(method):
    with pytest.raises(ValueError, match=r"density: got 20, expected the fraction kept, in \(0, 1\]; 20 % is 0\.2"):
        method(example_taus(), density=20)
    for density in (0, -0.5, 1.5, math.nan):
        with pytest.raises(ValueError, match="density: got"):
            method(example_taus(), density=density)


def test_ties_refuses_words_it_does_not_know():
    with pytest.raises(ValueError, match="reduce: got 'max', expected 'mean' or 'sum'"):
        ties(example_taus(), reduce="max")
    for method in (ties, trim):
        with pytest.raises(ValueError, match="scope: got 'layer', expected 'global' or 'tensor'"):
            method(example_taus(), scope="layer")


# ---------------------------------------------------------------------------- Localize-and-Stitch


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize("density", [0.1, 0.4, 1.0])
def test_localize_and_stitch_averages_what_was_localized(inputs, density):
    taus = INPUTS[inputs]()
    kept = [trimmed(values, density, groups_of(taus, "global")) for values in lists(taus)]
    expected = []
    for p in range(len(kept[0])):
        here = [values[p] for values in kept if values[p] != 0]
        expected.append(sum(here) / len(here) if here else 0.0)
    assert_is(localize_and_stitch(taus, density), expected)


def test_localize_and_stitch_is_not_diluted_by_an_expert_that_changed_nothing():
    a, b, c = example_taus()
    zero = {k: torch.zeros_like(v) for k, v in a.items()}
    assert_same(localize_and_stitch([a, zero, c], 0.3), localize_and_stitch([a, c], 0.3))
    assert_same(localize_and_stitch([b], 1.0), b)


# ---------------------------------------------------------------------------- DARE and DELLA


def test_dare_keeps_or_drops_and_rescales_exactly():
    taus = example_taus()
    for tau_hat, tau in zip(dare(taus, G, density=0.3), taus, strict=True):
        for key in tau:
            kept = tau_hat[key] != 0
            torch.testing.assert_close(tau_hat[key][kept], tau[key][kept] / 0.3)
    assert_same(dare(taus, G, density=1.0)[1], taus[1], rtol=0, atol=0)


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_dare_keeps_the_expectation(density):
    """10,000 lots: the share kept is within four standard deviations, and so is the mean."""
    tau = {"w": torch.full((100, 100), 2.0)}
    w = dare([tau], G, density)[0]["w"]
    deviation = math.sqrt(density * (1 - density) / 10_000)
    assert abs((w != 0).double().mean() - density) < 4 * deviation
    assert abs(w.double().mean() - 2.0) < 4 * 2 * deviation / density


def test_dare_draws_for_each_tensor_and_expert_alone():
    tau = {"a": torch.ones(64), "b": torch.ones(64)}
    first, second = dare([tau, tau], G, 0.5)
    drawn = [first["a"], first["b"], second["a"], second["b"]]
    assert len({tuple(t.tolist()) for t in drawn}) == 4
    assert torch.equal(dare([{"b": tau["b"]}], G, 0.5)[0]["b"], first["b"])  # other tensors do not matter
    assert torch.equal(dare([tau], torch.Generator().manual_seed(7), 0.5)[0]["a"], first["a"])
    assert not torch.equal(dare([tau], torch.Generator().manual_seed(8), 0.5)[0]["a"], first["a"])


def test_dare_needs_a_generator_and_a_density():
    with pytest.raises(TypeError, match="generator"):
        dare(example_taus())
    with pytest.raises(ValueError, match=r"density: got 90, .*90 % is 0\.9"):
        dare(example_taus(), G, density=90)


def probabilities(row, density, epsilon):
    """Rank by counting: how many of the row are smaller, or equal and earlier."""
    if len(row) == 1:
        return [density]
    p = []
    for i, x in enumerate(row):
        rank = sum(abs(y) < abs(x) or (abs(y) == abs(x) and j < i) for j, y in enumerate(row))
        p.append(density - epsilon + 2 * epsilon * rank / (len(row) - 1))
    return p


@pytest.mark.parametrize("inputs", INPUTS)
def test_della_divides_each_survivor_by_its_own_probability(inputs):
    taus = INPUTS[inputs]()
    seen = 0
    for seed in range(12):
        for tau_hat, tau in zip(della(taus, torch.Generator().manual_seed(seed), 0.6, 0.25), taus, strict=True):
            for key in tau:
                rows = tau[key].reshape(-1, tau[key].shape[-1] if tau[key].ndim else 1)
                for row, row_hat in zip(rows, tau_hat[key].reshape(rows.shape), strict=True):
                    for x, x_hat, p in zip(
                        row.tolist(), row_hat.tolist(), probabilities(row.tolist(), 0.6, 0.25), strict=True
                    ):
                        assert x_hat == 0 or x_hat == pytest.approx(x / p)
                        seen += x_hat != 0
    assert seen > 500


def test_della_keeps_each_rank_as_often_as_it_says():
    """4,000 rows of the same five magnitudes: each column's share is within four standard deviations."""
    tau = {"w": torch.tensor([3.0, -1.0, 5.0, 2.0, -4.0]).repeat(4000, 1)}
    kept = (della([tau], G, density=0.5, epsilon=0.4)[0]["w"] != 0).double().mean(dim=0)
    for share, p in zip(kept.tolist(), [0.5, 0.1, 0.9, 0.3, 0.7], strict=True):
        assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / 4000)


def test_della_without_spread_is_dare():
    taus = coarse_taus()
    for a, b in zip(della(taus, G, 0.4, epsilon=0.0), dare(taus, G, 0.4), strict=True):
        assert_same(a, b)
    assert_same(della(taus, G, density=1.0, epsilon=0.0)[2], taus[2])


def test_della_has_no_zero_over_zero_on_rows_of_one():
    tau = {"column": torch.tensor([[2.0], [-1.0]]), "scalar": torch.tensor(3.0), "none": torch.ones(3, 0)}
    tau_hat = della([tau], torch.Generator().manual_seed(1), 0.5, 0.2)[0]
    assert tau_hat["scalar"].item() in (0.0, 6.0)
    assert set(tau_hat["column"].flatten().tolist()) <= {0.0, 4.0, -2.0}
    assert tau_hat["none"].shape == (3, 0)


@pytest.mark.parametrize(("density", "epsilon"), [(0.5, 0.5), (0.7, 0.31), (0.5, -0.1), (0.5, math.nan)])
def test_della_refuses_probabilities_outside_0_to_1(density, epsilon):
    with pytest.raises(ValueError, match=rf"epsilon: got {epsilon} at density {density}, expected probabilities"):
        della(example_taus(), G, density, epsilon)
    with pytest.raises(ValueError, match=r"density: got 70, .*70 % is 0\.7"):
        della(example_taus(), G, density=70)


def test_della_may_be_certain_of_the_largest():
    w = della([{"w": torch.tensor([1.0, 9.0]).repeat(500, 1)}], G, 0.75, 0.25)[0]["w"]
    assert torch.equal(w[:, 1], torch.full((500,), 9.0))


def test_della_alone_refuses_what_is_not_finite():
    taus = example_taus()
    taus[1]["visual.conv1.weight"][0, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match=r"task vector 1, key 'visual\.conv1\.weight': got 1 entries that are NaN"):
        della(taus, G)


# ---------------------------------------------------------------------------- Breadcrumbs


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize(("density", "outliers"), [(0.5, 0.25), (0.15, 0.006), (0.3, 0.4), (1.0, 0.0)])
def test_breadcrumbs_keeps_the_middle_of_each_row(inputs, density, outliers):
    taus = INPUTS[inputs]()
    for tau_hat, tau in zip(breadcrumbs(taus, density, outliers), taus, strict=True):
        for key in tau:
            width = tau[key].shape[-1] if tau[key].ndim else 1
            rows = tau[key].reshape(-1, width).tolist()
            for row, got in zip(rows, tau_hat[key].reshape(-1, width).tolist(), strict=True):
                from_the_top = sorted(range(width), key=lambda i, row=row: (-abs(row[i]), i))[round(outliers * width) :]
                kept = from_the_top[: max(1, round(density * width))]
                assert got == [x if i in kept else 0 for i, x in enumerate(row)]


def test_breadcrumbs_without_masks_is_task_arithmetic():
    taus = example_taus()
    assert_same(pipe(lambda t: breadcrumbs(t, 1.0, 0.0), task_arithmetic)(taus), task_arithmetic(taus))


def test_breadcrumbs_leaves_something_of_every_small_tensor():
    """The authors' truncation of both counts erases these (as mergekit's slice [a:-0] did before 0.1.5)."""
    tau = {
        "scalar": torch.tensor(2.0),
        "one": torch.tensor([3.0]),
        "three": torch.tensor([1.0, -2.0, 0.5]),
        "none": torch.ones(0, 3),
    }
    tau_hat = breadcrumbs([tau])[0]
    assert tau_hat["scalar"] == 2
    assert tau_hat["one"].tolist() == [3]
    assert tau_hat["three"].tolist() == [0, -2, 0]
    assert tau_hat["none"].shape == (0, 3)


def test_a_row_of_one_may_be_all_outlier():
    assert breadcrumbs([{"w": torch.tensor([[2.0], [3.0]])}], density=0.4, outliers=0.6)[0]["w"].tolist() == [[0], [0]]
    assert breadcrumbs([{"w": torch.tensor([[2.0], [3.0]])}], density=0.4, outliers=0.4)[0]["w"].tolist() == [[2], [3]]


@pytest.mark.parametrize(("density", "outliers"), [(0.5, -0.1), (0.5, 0.6), (1.0, 0.01), (0.5, math.nan), (0.2, 1.0)])
def test_breadcrumbs_refuses_shares_that_do_not_add_up(density, outliers):
    with pytest.raises(ValueError, match=f"outliers: got {outliers} at density {density}, expected >= 0 and"):
        breadcrumbs(example_taus(), density, outliers)
    with pytest.raises(ValueError, match=r"15 % is 0\.15"):
        breadcrumbs(example_taus(), density=15)


# ---------------------------------------------------------------------------- consensus


@pytest.mark.parametrize("inputs", INPUTS)
@pytest.mark.parametrize(("min_tasks", "mask_lam"), [(0, 0.6), (1, 0.4), (2, 0.6), (3, 0.3), (2, 0.0), (9, 0.6)])
def test_consensus_counts_the_tasks_that_use_an_entry(inputs, min_tasks, mask_lam):
    taus = INPUTS[inputs]()
    values = lists(taus)
    expected = []
    for p in range(len(values[0])):
        total = sum(v[p] for v in values)
        used = sum(abs(v[p]) > mask_lam * abs(total - v[p]) for v in values)
        expected.append(total if used >= min_tasks else 0.0)
    assert_is(consensus(taus, min_tasks, mask_lam), expected)


def test_consensus_at_its_limits():
    taus = example_taus()
    assert_same(consensus(taus, min_tasks=0), task_arithmetic(taus))
    assert not any(v.any() for v in consensus(taus, min_tasks=4).values())
    assert not any(v.any() for v in consensus(taus[:1]).values())
    assert_same(consensus(taus[:1], min_tasks=1), taus[0])


def test_tall_masks_are_the_masks_and_find_an_expert_in_the_sum():
    taus = coarse_taus()
    masks = tall_masks(taus, mask_lam=0.4)
    for n, mask in enumerate(lists([{k: v.double() for k, v in m.items()} for m in masks])):
        others = [sum(v[p] for v in lists(taus)) - lists(taus)[n][p] for p in range(len(mask))]
        assert mask == [abs(x) > 0.4 * abs(o) for x, o in zip(lists(taus)[n], others, strict=True)]
    assert all(m.dtype == torch.bool for m in masks[0].values())
    assert tall_masks([{"w": torch.tensor([3.0, 0.0])}])[0]["w"].tolist() == [True, False]
    alone = [{"w": torch.tensor([3.0, 0.0])}, {"w": torch.tensor([0.0, -2.0])}]
    rebuilt = tall_masks(alone)[1]["w"] * task_arithmetic(alone)["w"]
    assert rebuilt.tolist() == [0, -2]


def test_consensus_refuses_negative_numbers():
    with pytest.raises(ValueError, match="min_tasks: got -1, expected at least 0"):
        consensus(example_taus(), min_tasks=-1)
    for method in (consensus, tall_masks):
        for mask_lam in (-0.1, math.nan):
            with pytest.raises(ValueError, match=f"mask_lam: got {mask_lam}, expected a number >= 0"):
                method(example_taus(), mask_lam=mask_lam)
        with pytest.raises(ValueError, match="missing key"):
            method([example_taus()[0], {}])


# ---------------------------------------------------------------------------- PCB


def vector_taus(d=400, N=3, seed=2):
    """d is a multiple of 100, so that the counts here and in the authors' program are the same."""
    g = torch.Generator().manual_seed(seed)
    taus = []
    for n in range(N):
        v = (n + 1) * 0.1 * torch.randn(d, generator=g, dtype=torch.float64)
        taus.append({"a": v[:90].reshape(9, 10), "b": v[90:390].reshape(10, 30), "c": v[390:]})
    return taus


def unit(x):
    return (x - x.min()) / (x.max() - x.min())


def clamped(x, low_share, high_share):
    """By sorting; both ends by the indices that the authors' vision program takes."""
    s = np.sort(x)
    return np.clip(x, s[int(len(x) * low_share)], s[int(len(x) * (1 - high_share) - 1)])


@pytest.mark.parametrize(("density", "winsorise"), [(0.05, 0.01), (0.2, 0.0), (0.5, 0.1)])
def test_pcb_is_the_authors_program(density, winsorise):
    taus = vector_taus()
    tau = np.array(lists(taus))
    N = len(tau)
    magnitude = np.array([clamped(np.abs(t), winsorise, winsorise) for t in tau])
    competition = sum(np.sign(tau[j]) * unit(magnitude[j]) for j in range(N))
    numerator, denominator = np.zeros(tau.shape[1]), np.zeros(tau.shape[1])
    for n in range(N):
        balance = np.exp(N * unit(magnitude[n]) ** 2) * np.tanh(tau[n] * competition)
        w = unit(clamped(balance, 1 - density, 0))
        numerator += w * np.sign(tau[n]) * magnitude[n]
        denominator += w
    assert_is(pcb(taus, density, winsorise=winsorise), (numerator / np.maximum(denominator, 1e-12)).tolist())


def test_pcb_with_softmax_is_its_equations_entry_by_entry():
    taus = vector_taus(d=400, N=2)
    tau = lists(taus)
    N, d = len(tau), len(tau[0])

    def softmax_of_unit(x, factor=1.0):
        low, high = min(x), max(x)
        e = [math.exp(factor * (v - low) / (high - low)) for v in x]
        return [v / sum(e) for v in e]

    numerator, denominator = [0.0] * d, [0.0] * d
    for n in range(N):
        a = softmax_of_unit([x * x for x in tau[n]], factor=N)
        inter = [softmax_of_unit([x * y for x, y in zip(tau[n], tau[j], strict=True)]) for j in range(N)]
        balance = [a[p] * sum(inter[j][p] for j in range(N)) for p in range(d)]
        for p in sorted(range(d), key=lambda p: -balance[p])[:40]:
            numerator[p] += balance[p] * tau[n][p]
            denominator[p] += balance[p]
    expected = [x / max(w, 1e-12) for x, w in zip(numerator, denominator, strict=True)]
    assert_is(pcb(taus, density=0.1, form="softmax"), expected)


def test_pcb_gives_no_weight_to_an_expert_without_winners():
    a, b, zero = *vector_taus()[:2], {k: torch.zeros_like(v) for k, v in vector_taus()[0].items()}
    merged = pcb([a, b, zero], density=0.3)
    assert all(v.isfinite().all() for v in merged.values())
    assert not any(v.any() for v in pcb([zero, zero]).values())
    constant = {k: torch.ones_like(v) for k, v in a.items()}
    assert not any(v.any() for v in pcb([constant]).values())
    assert any(v.any() for v in merged.values())


def test_pcb_of_many_experts_does_not_overflow():
    """exp(N u^2) is infinite in float32 from N = 89 on."""
    taus = vector_taus(N=100)
    merged = pcb([{k: v.float() for k, v in tau.items()} for tau in taus])
    assert_same(merged, {k: v.float() for k, v in pcb(taus).items()}, rtol=1e-3, atol=1e-3)
    assert sum(v.count_nonzero() for v in merged.values()) > 200


def test_pcb_refuses():
    with pytest.raises(ValueError, match="form: got 'paper', expected 'code' or 'softmax'"):
        pcb(vector_taus(), form="paper")
    for winsorise in (-0.1, 0.5, math.nan):
        with pytest.raises(ValueError, match=rf"winsorise: got {winsorise}, expected a fraction in \[0, 0\.5\)"):
            pcb(vector_taus(), winsorise=winsorise)


# ---------------------------------------------------------------------------- LiNeS

BLOCKS = ["visual.conv1.weight", "visual.transformer.resblocks.0.a.weight", "visual.transformer.resblocks.1.a.bias"]
BLOCKS += ["visual.transformer.resblocks.2.mlp.proj.weight", "visual.ln_post.weight", "visual.proj"]
BLOCKS += ["visual.transformer.resblocks.2.b", "visual.out_proj.weight", "visual.ln_pre.bias"]
DEPTH = dict(zip(BLOCKS, [0, 0, 0.5, 1, "after", "after", 1, 0, 0], strict=True))
HF = {
    "vision_model.encoder.layers.0.mlp.fc1.weight": 0,
    "vision_model.encoder.layers.1.mlp.fc1.weight": 1,
    "vision_model.post_layernorm.bias": "after",
    "vision_model.embeddings.class_embedding": 0,
    "visual_projection.weight": "after",
}


@pytest.mark.parametrize("depths", [DEPTH, HF], ids=["open_clip", "hugging face"])
@pytest.mark.parametrize("outside", ["alpha", "position"])
def test_scale_by_depth_scales_each_tensor_by_its_block(depths, outside):
    g = torch.Generator().manual_seed(0)
    tau = {k: torch.randn(2, 3, generator=g, dtype=torch.float64) for k in depths}
    scaled = scale_by_depth(tau, alpha=0.2, beta=0.7, outside=outside)
    for key, depth in depths.items():
        if depth == "after":
            depth = 1 if outside == "position" else 0
        torch.testing.assert_close(scaled[key], tau[key] * (0.2 + 0.7 * depth))


@pytest.mark.parametrize("merge", [task_arithmetic, ties, consensus])
def test_lines_makes_up_for_what_the_merge_removed(merge):
    taus = example_taus()
    update = merge(taus)
    alpha = sum(abs(sum(v[p] for v in lists(taus))) for p in range(len(lists(taus)[0])))
    alpha /= sum(abs(x) for x in lists([update])[0]) * 3
    assert_same(lines(taus, merge, beta=0.3), scale_by_depth(update, alpha, 0.3))
    if merge is task_arithmetic:
        assert alpha == pytest.approx(1 / 3)


def test_lines_at_its_limits():
    taus = [{k: 1e-6 * v for k, v in tau.items()} for tau in example_taus()]
    assert_same(lines(taus, task_arithmetic, beta=0.0), {k: v / 3 for k, v in task_arithmetic(taus).items()})
    one_block = [{"resblocks.0.w": torch.tensor([2.0])}]
    assert lines(one_block, task_arithmetic, beta=0.7)["resblocks.0.w"].item() == 2.0


def test_lines_refuses():
    taus = example_taus()
    for beta in (-0.1, math.nan):
        with pytest.raises(ValueError, match=f"beta: got {beta}, expected a number >= 0"):
            lines(taus, task_arithmetic, beta=beta)
    with pytest.raises(ValueError, match="outside: got 'last', expected 'alpha' or 'position'"):
        lines(taus, task_arithmetic, outside="last")
    with pytest.raises(ValueError, match=r"got no block, expected names with 'resblocks\.l\.' .*first key is 'w'"):
        lines([{"w": torch.ones(2)}], task_arithmetic)


# ---------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    "transform",
    [trim, breadcrumbs, lambda t: dare(t, G), lambda t: della(t, G)],
    ids=["trim", "breadcrumbs", "dare", "della"],
)
def test_transforms_of_lazy_task_vectors_are_those_of_task_vectors(transform):
    theta_0, *thetas = example_taus(torch.float32, n=4)
    lazy = lazy_task_vectors(theta_0, thetas)
    for a, b in zip(transform(lazy), transform([dict(tau) for tau in lazy]), strict=True):
        assert_same(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_transforms_keep_the_dtype(dtype):
    taus = example_taus(dtype)
    for transform in (trim, breadcrumbs, lambda t: dare(t, G), lambda t: della(t, G)):
        assert {v.dtype for tau in transform(taus) for v in tau.values()} == {dtype}


def test_lazy_dare_is_dare_and_holds_no_copy():
    taus, asked = example_taus(torch.float32), []

    class Watched(dict):
        def __getitem__(self, key):
            asked.append(key)
            return super().__getitem__(key)

    pruned = dare([Watched(tau) for tau in taus], generator=G, density=0.4, lazy=True)
    asked.clear()
    copies = dare(taus, generator=G, density=0.4)
    for _ in range(2):
        for lazy, copy in zip(pruned, copies, strict=True):
            assert all(torch.equal(lazy[key], copy[key]) for key in copy)
    assert asked == [*taus[0]] * 6, "drawn anew each time, and only what was asked for"
    summed = task_arithmetic(pruned)
    assert all(torch.equal(summed[key], value) for key, value in task_arithmetic(copies).items())
