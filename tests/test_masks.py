"""The primitives that rank and draw, against Python's own sort."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from samerge_edu.masks import (
    SAMPLE,
    below,
    check_density,
    keep_count,
    keep_largest,
    kth_largest,
    nonzero,
    own_generator,
    topk_mask,
    zero_outside_,
)
from samerge_edu.params import flatten

# few different values: ties in nearly every example
scores = st.lists(st.sampled_from([-2.5, -1.0, 0.0, 0.5, 3.0, 1e30]), min_size=1, max_size=12)


def brute_force(score: list[float], k: int) -> list[bool]:
    kept = sorted(range(len(score)), key=lambda i: (-score[i], i))[:k]
    return [i in kept for i in range(len(score))]


@settings(deadline=None)
@given(scores, st.integers(0, 12))
def test_topk_mask_keeps_the_first_of_equals(score, k):
    k = min(k, len(score))
    assert topk_mask(torch.tensor(score), k).tolist() == brute_force(score, k)


def test_topk_mask_works_row_by_row_in_any_number_of_dimensions():
    score = torch.randint(0, 4, (3, 2, 5), generator=torch.Generator().manual_seed(0)).double()
    expected = [[brute_force(row.tolist(), 2) for row in block] for block in score]
    assert topk_mask(score, 2).tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_topk_mask_in_every_dtype(dtype):
    score = torch.tensor([[1.0, 3.0, 3.0, 2.0], [0.0, -1.0, 0.0, 0.0]], dtype=dtype)
    assert topk_mask(score, 2).tolist() == [[False, True, True, False], [True, False, True, False]]


def test_topk_mask_of_strided_and_empty_scores():
    score = torch.arange(12.0).reshape(3, 4).T
    assert not score.is_contiguous()
    assert topk_mask(score, 1).tolist() == [[False, False, True]] * 4
    assert topk_mask(torch.ones(2, 0), 0).shape == (2, 0)
    assert topk_mask(torch.ones(0, 3), 2).shape == (0, 3)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 2.0]), st.booleans()), min_size=1, max_size=12), st.integers(0, 12)
)
def test_topk_mask_among_some(pairs, k):
    score, among = map(torch.tensor, zip(*pairs, strict=True))
    k = min(k, int(among.sum()))
    some = among.nonzero().squeeze(1).tolist()
    kept = [i for i, yes in zip(some, brute_force(score[some].tolist(), k), strict=True) if yes]
    assert topk_mask(score, k, among).nonzero().squeeze(1).tolist() == kept


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_topk_mask_among_some_in_every_dtype(dtype):
    score, among = torch.tensor([5.0, 1.0, 3.0, 3.0, 2.0, 9.0], dtype=dtype), torch.tensor([0, 1, 1, 1, 1, 0]).bool()
    for k, kept in ((0, []), (1, [2]), (2, [2, 3]), (3, [2, 3, 4]), (4, [1, 2, 3, 4])):
        assert topk_mask(score, k, among).nonzero().squeeze(1).tolist() == kept


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_comparisons_in_every_dtype(dtype, shape):
    x = torch.tensor([0, -2, 3, 0, 1, -1]).to(dtype).reshape(shape)
    assert nonzero(x).flatten().tolist() == [False, True, True, False, True, True]
    assert below(x, 1).flatten().tolist() == [True, True, False, True, False, True]
    zero_outside_(x, x > 0)
    assert x.flatten().tolist() == [0, 0, 3, 0, 1, 0]
    assert nonzero(torch.tensor(2, dtype=dtype)).item() is True
    assert nonzero(torch.tensor(0, dtype=dtype)).item() is False


def long_scores(case: str) -> torch.Tensor:
    """(2, d) scores, long enough for the sample that narrows the search."""
    g, d = torch.Generator().manual_seed(0), 150_000
    score = torch.randn(2, d, generator=g)
    if case == "ties":
        score = score.round()
    elif case == "equal":
        score[:] = 7
    elif case == "the sample misleads":  # it sees small numbers only
        score[:] = torch.arange(1, d + 1)
        score[:, (SAMPLE * d).astype(int)] = -1.0
    elif case == "infinite":
        score[:, ::3], score[:, 1::3] = torch.inf, -torch.inf
    return score


@pytest.mark.parametrize("case", ["random", "ties", "equal", "the sample misleads", "infinite"])
@pytest.mark.parametrize("share", [0, 1e-5, 0.2, 0.5, 0.8, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_topk_mask_of_long_rows(case, share, dtype):
    score = long_scores(case).to(dtype)
    k = round(share * score.shape[1])
    expected = torch.zeros_like(score, dtype=torch.bool)
    expected.scatter_(1, score.sort(dim=1, descending=True, stable=True).indices[:, :k], True)
    assert torch.equal(topk_mask(score, k), expected)


@pytest.mark.parametrize("case", ["random", "ties", "equal", "the sample misleads", "infinite"])
@pytest.mark.parametrize("k", [1, 1500, 75_000, 148_500, 150_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kth_largest_of_long_rows(case, k, dtype):
    score = long_scores(case).to(dtype)
    assert torch.equal(kth_largest(score, k), score.sort(dim=1, descending=True).values[:, [k - 1]])


@pytest.mark.parametrize("case", ["random", "ties", "equal", "the sample misleads", "infinite"])
@pytest.mark.parametrize("taking_part", [0.0, 1e-4, 0.1, 0.9, 1.0])
@pytest.mark.parametrize("share", [0, 0.2, 0.8, 1])
def test_topk_mask_of_a_long_row_among_some(case, taking_part, share):
    score = long_scores(case)[0]
    among = torch.rand(len(score), generator=torch.Generator().manual_seed(1)) < taking_part
    some = among.nonzero().squeeze(1)
    k = round(share * len(some))
    expected = torch.zeros_like(among)
    expected[some[score[some].sort(descending=True, stable=True).indices[:k]]] = True
    before = score.clone(), among.clone()
    assert torch.equal(topk_mask(score, k, among), expected)
    assert torch.equal(score, before[0])
    assert torch.equal(among, before[1])


def test_topk_mask_refuses_more_than_take_part():
    with pytest.raises(ValueError, match=r"k: got 2, expected 0\.\.1"):
        topk_mask(torch.ones(3), 2, among=torch.tensor([False, True, False]))


@pytest.mark.parametrize("k", [-1, 4])
def test_topk_mask_refuses_a_count_that_is_not_there(k):
    with pytest.raises(ValueError, match=rf"k: got {k}, expected 0\.\.3"):
        topk_mask(torch.ones(3), k)


@settings(deadline=None)
@given(scores, st.integers(1, 12))
def test_kth_largest_is_the_kth_of_the_sorted(score, k):
    k = min(k, len(score))
    for dtype in (torch.float64, torch.float32):
        threshold = kth_largest(torch.tensor([score, score], dtype=dtype), k)
        assert threshold.shape == (2, 1)
        assert threshold.tolist() == [[torch.tensor(sorted(score)[-k], dtype=dtype)]] * 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_kth_largest_in_every_dtype_goes_along_the_last_dimension(dtype):
    score = torch.tensor([[[5.0, 1.0, 3.0], [2.0, 7.0, 4.0]], [[-1.0, -3.0, -2.0], [9.0, 8.0, 6.0]]], dtype=dtype)
    assert kth_largest(score, 1).tolist() == [[[5], [7]], [[-1], [9]]]
    assert kth_largest(score, 2).tolist() == [[[3], [4]], [[-2], [8]]]
    assert kth_largest(score, 3).dtype == dtype


def test_kth_largest_does_not_hold_on_to_the_scores():
    threshold = kth_largest(torch.rand(1000, generator=torch.Generator().manual_seed(0)), 10)
    assert threshold.untyped_storage().nbytes() == 4


@pytest.mark.parametrize("k", [0, 4])
def test_kth_largest_refuses_a_count_that_is_not_there(k):
    with pytest.raises(ValueError, match=rf"k: got {k}, expected 1\.\.3"):
        kth_largest(torch.ones(3), k)


# ---------------------------------------------------------------------------- counts


@pytest.mark.parametrize(
    ("density", "numel", "kept"), [(0.2, 10, 2), (0.29, 100, 29), (0.01, 7, 1), (1.0, 7, 7), (0.5, 0, 0), (0.3, 1, 1)]
)
def test_keep_count(density, numel, kept):
    assert keep_count(density, numel) == kept


@pytest.mark.parametrize("density", [0, -0.1, 101, float("nan")])
def test_a_density_is_a_fraction(density):
    with pytest.raises(ValueError, match=rf"density: got {density}, expected the fraction kept, in \(0, 1\]$"):
        check_density(density)


@pytest.mark.parametrize(("density", "fraction"), [(20, 0.2), (1.5, 0.015), (100, 1)])
def test_a_percentage_is_explained(density, fraction):
    with pytest.raises(ValueError, match=rf"got {density}, .*; {density} % is {fraction}$"):
        check_density(density)


# ---------------------------------------------------------------------------- whole models


@settings(deadline=None)
@given(
    st.lists(scores, min_size=1, max_size=4),
    st.integers(1, 3),
    st.floats(0.01, 1),
    st.sampled_from([torch.float16, torch.float32, torch.float64]),
)
def test_keep_largest_ranks_the_whole_model(tensors, N, density, dtype):
    """Two keys in the wrong order, a scalar and an empty tensor among them; expert n has the entries rolled by n."""
    names = [f"layer {i}" for i in reversed(range(len(tensors)))]
    taus = []
    for n in range(N):
        tau = {k: torch.tensor(t).clamp(max=1e4).roll(n).to(dtype) for k, t in zip(names, tensors, strict=True)}
        taus.append(tau | {"a scalar": torch.tensor(float(n), dtype=dtype), "empty": torch.zeros(2, 0, dtype=dtype)})
    keep = keep_largest(taus, density)
    for n, tau in enumerate(taus):
        flat = flatten(tau).abs().tolist()
        kept = brute_force(flat, keep_count(density, len(flat)))
        expected = [k and s > 0 for k, s in zip(kept, flat, strict=True)]
        assert torch.cat([keep(key)[n].flatten() for key in sorted(tau)]).tolist() == expected
        assert all(keep(key)[n].shape == tau[key].shape for key in tau)


def test_keep_largest_breaks_ties_by_name_then_position():
    taus = [
        {"b": torch.tensor([[1.0, -1.0]]), "a": torch.tensor([1.0, 0.5])},
        {"b": torch.zeros(1, 2), "a": torch.ones(2)},
    ]
    keep = keep_largest(taus, density=0.5)
    assert keep("a").tolist() == [[True, False], [True, True]]
    assert keep("b").tolist() == [[[True, False]], [[False, False]]]


@pytest.mark.parametrize("k", [1, 2**20 - 1, 2**20, 2**20 + 1, 2**20 + 6])
def test_keep_largest_breaks_ties_in_long_tensors(k):
    d = 2**20 + 7
    mask = keep_largest([{"w": torch.ones(d)}], density=k / d)("w")[0]
    assert mask[:k].all()
    assert not mask[k:].any()


def test_keep_largest_per_tensor_keeps_a_share_of_each():
    taus = [{"large": torch.tensor([9.0, -8.0, 7.0, 6.0]), "small": torch.tensor([[0.1, -0.3], [0.2, 0.0]])}]
    keep = keep_largest(taus, density=0.5, scope="tensor")
    assert keep("large").tolist() == [[True, True, False, False]]
    assert keep("small").tolist() == [[[False, True], [True, False]]]


def test_keep_largest_never_keeps_a_zero():
    taus = [{"w": torch.tensor([0.0, 2.0, 0.0, 0.0])}]
    for scope in ("global", "tensor"):
        assert keep_largest(taus, 0.75, scope)("w").tolist() == [[False, True, False, False]]


def test_keep_largest_refuses():
    taus = [{"w": torch.ones(3)}]
    with pytest.raises(ValueError, match="scope: got 'layer', expected 'global' or 'tensor'"):
        keep_largest(taus, 0.5, scope="layer")
    with pytest.raises(ValueError, match=r"20 % is 0\.2"):
        keep_largest(taus, 20)


# ---------------------------------------------------------------------------- lots


def test_each_tensor_of_each_expert_has_lots_of_its_own():
    g = torch.Generator().manual_seed(3)

    def draw(key, n, generator=g):
        return tuple(torch.rand(4, generator=own_generator(generator, key, n)).tolist())

    assert draw("a", 0) == draw("a", 0)  # nothing is used up
    draws = [
        draw("a", 0),
        draw("a", 1),
        draw("b", 0),
        draw("a", 0, torch.Generator().manual_seed(4)),
        draw("a1", 1),
        draw("a", 11),
    ]
    assert len(set(draws)) == len(draws)
    torch.rand(1, generator=g)
    assert draw("a", 0) == draws[0]  # the seed counts, not what was drawn from it
