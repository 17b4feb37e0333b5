"""TSV-M, Iso-C, Iso-CTS and FREE's filter, each against scipy or explicit indices, and at their limits."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from samerge_edu.matrices import block_weight, nearest_orthonormal, not_text_projection, thin_svd
from samerge_edu.merges.iso import iso_c, iso_cts
from samerge_edu.merges.tsv_m import tsv_m
from samerge_edu.params import lazy_task_vectors
from samerge_edu.transforms.free_fr import free_fr, high_pass

SHAPES = {"tall": (11, 6), "wide": (4, 9), "square": (8, 8), "bias": (7,), "patch": (3, 2, 4, 4), "scale": ()}
MERGES = {"tsv_m": tsv_m, "iso_c": iso_c, "iso_cts": iso_cts}


def experts(N=3, seed=0, shapes=SHAPES, dtype=torch.float64):
    """N task vectors of unequal size, so that a lost weight or a wrong mean shows."""
    g = torch.Generator().manual_seed(seed)
    return [{k: (n + 1) * torch.randn(s, generator=g, dtype=dtype) for k, s in shapes.items()} for n in range(N)]


def with_spectrum(m, n, S, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    U = torch.linalg.qr(torch.randn(m, len(S), generator=g, dtype=torch.float64)).Q
    V = torch.linalg.qr(torch.randn(n, len(S), generator=g, dtype=torch.float64)).Q
    return (U * torch.tensor(S, dtype=torch.float64) @ V.mT).to(dtype)


def singular_values(matrix):
    return torch.from_numpy(scipy.linalg.svdvals(matrix.double().numpy()))


# ---------------------------------------------------------------------------- the primitives


@pytest.mark.parametrize("shape", [(9, 4), (4, 9), (6, 6), (5, 1), (1, 5), (1, 1)])
def test_thin_svd_has_the_singular_values_of_scipy_and_multiplies_back(shape):
    M = experts(1, shapes={"M": shape})[0]["M"]
    U, S, Vt = thin_svd(M)
    r = min(shape)
    assert (U.shape, S.shape, Vt.shape) == ((shape[0], r), (r,), (r, shape[1]))
    torch.testing.assert_close(S, singular_values(M))
    torch.testing.assert_close(U * S @ Vt, M)
    torch.testing.assert_close(U.mT @ U, torch.eye(r, dtype=M.dtype))
    torch.testing.assert_close(Vt @ Vt.mT, torch.eye(r, dtype=M.dtype))


@pytest.mark.parametrize("shape", [(40, 20), (20, 40)])
def test_thin_svd_is_accurate_in_float32_over_five_decades(shape):
    S = [10.0 ** (-5 * i / 19) for i in range(20)]  # 1 .. 1e-5: float32 Grams would lose all below 3e-4
    M = with_spectrum(*shape, S, dtype=torch.float32)
    U, got, Vt = thin_svd(M)
    assert U.dtype == got.dtype == Vt.dtype == torch.float32
    torch.testing.assert_close(got.double(), singular_values(M), rtol=1e-4, atol=0)
    torch.testing.assert_close(U @ Vt, torch.from_numpy(_procrustes(M.double().numpy())).float(), atol=1e-3, rtol=0)


def test_thin_svd_cut_at_rank_k_misses_exactly_the_tail():
    M = experts(1, shapes={"M": (12, 7)})[0]["M"]
    U, S, Vt = thin_svd(M, rank=3)
    assert (U.shape, S.shape, Vt.shape) == ((12, 3), (3,), (3, 7))
    tail = singular_values(M)[3:]
    torch.testing.assert_close((M - U * S @ Vt).norm(), tail.square().sum().sqrt())


@pytest.mark.parametrize("shape", [(3, 9, 4), (3, 4, 9)])
def test_thin_svd_of_a_stack_is_the_stack_of_svds(shape):
    M = torch.stack([n * m for n, m in enumerate(experts(1, shapes={"M": shape})[0]["M"])])  # the first is zero
    U, S, Vt = thin_svd(M)
    for n in range(3):
        torch.testing.assert_close(U[n] * S[n] @ Vt[n], M[n])
        torch.testing.assert_close(S[n], thin_svd(M[n])[1])


@pytest.mark.parametrize("shape", [(9, 5), (5, 9)])
def test_directions_that_are_absent_have_no_vectors(shape):
    U, S, Vt = thin_svd(with_spectrum(*shape, [2.0, 1.0], dtype=torch.float32))
    torch.testing.assert_close(S, torch.tensor([2.0, 1.0, 0.0, 0.0, 0.0]))
    assert not U[:, 2:].any()
    assert not Vt[2:].any()
    assert U[:, :2].norm(dim=0).sub(1).abs().max() < 1e-6


def test_the_line_between_small_and_absent_is_a_millionth_of_the_largest():
    _, S, _ = thin_svd(with_spectrum(6, 4, [7.0, 7 * 1.1e-6, 7 * 0.9e-6]))
    torch.testing.assert_close(S, torch.tensor([7.0, 7 * 1.1e-6, 0.0, 0.0], dtype=torch.float64), rtol=1e-4, atol=0)


def test_thin_svd_of_nothing():
    assert [x.shape for x in thin_svd(torch.zeros(0, 3))] == [(0, 0), (0,), (0, 3)]
    assert not any(x.any() for x in thin_svd(torch.zeros(2, 3)))


def _procrustes(M):
    """Nearest orthonormal by scipy's orthogonal Procrustes, on the square matrix that fills M up with zeros."""
    side = max(M.shape)
    square = np.zeros((side, side))
    square[: M.shape[0], : M.shape[1]] = M
    U, _, Vt = scipy.linalg.svd(M, full_matrices=False)
    if M.shape[0] == M.shape[1]:
        R, _ = scipy.linalg.orthogonal_procrustes(np.eye(side), square)
        np.testing.assert_allclose(R, U @ Vt, atol=1e-8)
    return U @ Vt


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9)])
def test_nearest_orthonormal_is_scipys_polar_factor_and_procrustes_solution(shape):
    M = experts(1, shapes={"M": shape})[0]["M"]
    got = nearest_orthonormal(M)
    torch.testing.assert_close(got, torch.from_numpy(scipy.linalg.polar(M.numpy())[0]))
    torch.testing.assert_close(got, torch.from_numpy(_procrustes(M.numpy())))


def test_no_orthonormal_matrix_nearby_is_nearer():
    M = experts(1, shapes={"M": (7, 4)})[0]["M"]
    best = nearest_orthonormal(M)
    for seed in range(50):
        g = torch.Generator().manual_seed(seed)
        other = torch.linalg.qr(best + 0.1 * torch.randn(7, 4, generator=g, dtype=torch.float64)).Q
        other = other * (other * best).sum(dim=0).sign()  # qr may flip columns
        assert (M - best).norm() <= (M - other).norm()


def test_nearest_orthonormal_of_repeated_columns_shares_the_direction():
    u = torch.tensor([[3.0], [4.0]]) / 5
    torch.testing.assert_close(nearest_orthonormal(torch.cat([u, u], dim=1)), torch.cat([u, u], dim=1) / math.sqrt(2))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("visual.transformer.resblocks.3.attn.in_proj_weight", True),
        ("visual.transformer.resblocks.3.attn.out_proj.weight", True),
        ("visual.transformer.resblocks.11.mlp.c_fc.weight", True),
        ("visual.transformer.resblocks.11.mlp.c_proj.weight", True),
        ("vision_model.encoder.layers.0.self_attn.q_proj.weight", True),
        ("encoder.layers.0.self_attn.k_proj.weight", True),
        ("encoder.layers.0.self_attn.v_proj.weight", True),
        ("encoder.layers.0.mlp.fc1.weight", True),
        ("encoder.layers.0.mlp.fc2.weight", True),
        ("visual.transformer.resblocks.3.attn.in_proj_bias", False),
        ("visual.transformer.resblocks.3.ln_1.weight", False),
        ("visual.positional_embedding", False),
        ("visual.proj", False),
        ("text_projection", False),
    ],
)
def test_block_weight_knows_both_spellings(name, expected):
    assert block_weight(name, torch.zeros(2, 2)) is expected


def test_not_text_projection():
    assert not_text_projection("visual.proj", torch.zeros(2, 2))
    assert not not_text_projection("model.text_projection.weight", torch.zeros(2, 2))


# ---------------------------------------------------------------------------- TSV-M


def tsv_m_by_scipy(matrices):
    """The authors' loop (src/utils/TSVM_utils.py) with scipy's SVD and polar factor, for full-rank concatenations."""
    N, r = len(matrices), min(matrices[0].shape)
    k = r // N
    U, S, V = np.zeros((matrices[0].shape[0], N * k)), np.zeros(N * k), np.zeros((N * k, matrices[0].shape[1]))
    for n, M in enumerate(matrices):
        u, s, v = scipy.linalg.svd(M.numpy(), full_matrices=False)
        U[:, n * k : (n + 1) * k], S[n * k : (n + 1) * k], V[n * k : (n + 1) * k] = u[:, :k], s[:k], v[:k]
    return torch.from_numpy(scipy.linalg.polar(U)[0] @ np.diag(S) @ scipy.linalg.polar(V)[0])


@pytest.mark.parametrize("N", [2, 3, 4])
def test_tsv_m_against_scipy(N):
    taus = experts(N)
    tau_m = tsv_m(taus)
    for key in ("tall", "wide", "square"):
        torch.testing.assert_close(tau_m[key], tsv_m_by_scipy([tau[key] for tau in taus]))


def test_tsv_m_has_exactly_the_experts_leading_singular_values():
    taus = experts(3)
    for key in ("tall", "square"):
        leading = torch.cat([singular_values(tau[key])[: min(tau[key].shape) // 3] for tau in taus])
        got = singular_values(tsv_m(taus)[key])
        torch.testing.assert_close(got[: len(leading)], leading.sort(descending=True).values)
        assert got[len(leading) :].sum() < 1e-9


def test_tsv_m_of_one_expert_is_the_expert():
    (tau,) = experts(1)
    for key, merged in tsv_m([tau]).items():
        torch.testing.assert_close(merged, tau[key])


def test_tsv_m_of_copies_is_the_best_approximation_of_their_rank():
    (tau,) = experts(1)
    U, S, Vt = (torch.from_numpy(x) for x in scipy.linalg.svd(tau["square"].numpy()))
    torch.testing.assert_close(tsv_m([tau] * 3)["square"], U[:, :2] * S[:2] @ Vt[:2])  # k = floor(8 / 3)


def test_tsv_m_of_orthogonal_experts_is_their_sum():
    a, b = torch.zeros(2, 5, 4, dtype=torch.float64)
    a[:2, :2], b[2:, 2:] = torch.tensor([[3.0, 1.0], [1.0, 2.0]]), torch.tensor([[5.0, 0], [1, 1], [0, 2]])
    torch.testing.assert_close(tsv_m([{"w": a}, {"w": b}])["w"], a + b)


def test_tsv_m_ignores_directions_that_an_expert_does_not_have():
    thin = {"w": with_spectrum(9, 8, [2.0], seed=1)}  # rank 1 of a share of 4
    other = {"w": with_spectrum(9, 8, [3.0, 2.5, 2.2, 2.1], seed=2)}
    merged = tsv_m([thin, other])["w"]
    torch.testing.assert_close(
        singular_values(merged)[:6], torch.tensor([3.0, 2.5, 2.2, 2.1, 2.0, 0.0], dtype=torch.float64)
    )


# ---------------------------------------------------------------------------- Iso


def test_iso_c_equalises_the_singular_values_of_the_sum_and_keeps_their_sum():
    taus = experts(3)
    tau_m = iso_c(taus)
    for key in ("tall", "wide", "square"):
        total = sum(tau[key] for tau in taus)
        S = singular_values(total)
        torch.testing.assert_close(singular_values(tau_m[key]), S.mean().expand(len(S)))
        torch.testing.assert_close(tau_m[key] / S.mean(), torch.from_numpy(scipy.linalg.polar(total.numpy())[0]))


def test_iso_c_does_not_turn_rounding_into_directions():
    taus = [{"w": with_spectrum(12, 10, [3.0, 1.0], seed=n, dtype=torch.float32)} for n in range(2)]
    total = taus[0]["w"] + taus[1]["w"]
    S = singular_values(iso_c(taus)["w"])
    strength = singular_values(total).sum() / 10  # four directions present, of ten
    torch.testing.assert_close(S, torch.cat([strength.expand(4), torch.zeros(6)]), atol=1e-5, rtol=1e-5)


def iso_cts_by_scipy(matrices, common_fraction):
    """The authors' steps (src/utils/iso.py) with scipy, and the sizes as the paper words them."""
    N, r, total = len(matrices), min(matrices[0].shape), sum(matrices).numpy()
    s = round((r - int(common_fraction * r)) / N)
    k = r - N * s
    u, sv, v = scipy.linalg.svd(total, full_matrices=False)
    U, S, V = [u[:, :k]], [sv[:k]], [v[:k]]
    for M in matrices:
        rest = M.numpy() - u[:, :k] @ u[:, :k].T @ M.numpy()
        un, sn, vn = scipy.linalg.svd(rest, full_matrices=False)
        U.append(un[:, :s]), S.append(sn[:s]), V.append(vn[:s])
    U, V = scipy.linalg.polar(np.concatenate(U, 1))[0], scipy.linalg.polar(np.concatenate(V, 0))[0]
    return torch.from_numpy(np.concatenate(S).mean() * U @ V)


@pytest.mark.parametrize(("N", "common_fraction"), [(2, 0.8), (3, 0.8), (3, 0.5), (2, 0.25), (2, 0.0)])
def test_iso_cts_against_scipy(N, common_fraction):
    taus = experts(N)
    tau_m = iso_cts(taus, common_fraction=common_fraction)
    for key in ("tall", "square"):
        torch.testing.assert_close(tau_m[key], iso_cts_by_scipy([tau[key] for tau in taus], common_fraction))
    assert iso_cts(taus)["square"].equal(iso_cts(taus, common_fraction=0.8)["square"])


def test_iso_cts_with_nothing_but_common_directions_is_iso_c():
    taus = experts(3)
    for key, merged in iso_cts(taus, common_fraction=1.0).items():
        torch.testing.assert_close(merged, iso_c(taus)[key])


@pytest.mark.parametrize("common_fraction", [0.0, 0.5, 0.8])
def test_iso_cts_of_one_expert_is_iso_c_of_it(common_fraction):
    taus = experts(1)
    for key, merged in iso_cts(taus, common_fraction=common_fraction).items():
        torch.testing.assert_close(merged, iso_c(taus)[key])


def test_iso_cts_never_shares_out_more_directions_than_there_are():
    taus = experts(2, shapes={"w": (5, 3)})  # round(3 / 2) = 2 each would be 4 of 3: floor, and one from the sum
    S = singular_values(iso_cts(taus, common_fraction=0.0)["w"])
    torch.testing.assert_close(S, S[:1].expand(3))
    U, _, _ = thin_svd(taus[0]["w"] + taus[1]["w"])
    assert (nearest_orthonormal(iso_cts(taus, common_fraction=0.0)["w"]).mT @ U[:, 0]).norm() > 0.9


@pytest.mark.parametrize("common_fraction", [-0.1, 1.1, float("nan")])
def test_iso_cts_names_a_share_outside_its_range(common_fraction):
    with pytest.raises(ValueError, match=r"common_fraction: got .*, expected a share in \[0, 1\]"):
        iso_cts(experts(2), common_fraction=common_fraction)


# ---------------------------------------------------------------------------- what all three do


@pytest.mark.parametrize("merge", MERGES.values(), ids=MERGES)
class TestEverySpectralMerge:
    def test_other_tensors_are_the_plain_mean(self, merge):
        taus = experts(3)
        tau_m = merge(taus)
        for key in ("bias", "patch", "scale"):
            torch.testing.assert_close(tau_m[key], (taus[0][key] + taus[1][key] + taus[2][key]) / 3)

    def test_is_matrix_decides_and_text_projection_is_none_by_default(self, merge):
        taus = experts(2, shapes={"text_projection": (5, 4), "w": (5, 4)})
        mean = {key: (taus[0][key] + taus[1][key]) / 2 for key in taus[0]}
        torch.testing.assert_close(merge(taus)["text_projection"], mean["text_projection"])
        assert not torch.allclose(merge(taus)["w"], mean["w"])
        swapped = merge(taus, is_matrix=lambda name, tensor: name == "text_projection" and tensor.shape == (5, 4))
        torch.testing.assert_close(swapped["w"], mean["w"])
        assert not torch.allclose(swapped["text_projection"], mean["text_projection"])

    def test_is_matrix_is_only_asked_about_matrices(self, merge):
        taus = experts(2)
        torch.testing.assert_close(merge(taus, is_matrix=lambda name, tensor: True), merge(taus))

    def test_the_order_of_the_experts_does_not_matter(self, merge):
        taus = experts(3)
        torch.testing.assert_close(merge(taus), merge([taus[2], taus[0], taus[1]]))

    def test_scaling_all_experts_scales_the_result(self, merge):
        taus = experts(3)
        scaled = merge([{k: -1e-3 * v for k, v in tau.items()} for tau in taus])
        torch.testing.assert_close(scaled, {k: -1e-3 * v for k, v in merge(taus).items()})

    def test_turning_rows_or_columns_turns_the_result(self, merge):
        taus = experts(3)
        g = torch.Generator().manual_seed(9)
        Q, R = (torch.linalg.qr(torch.randn(s, s, generator=g, dtype=torch.float64)).Q for s in (11, 6))
        turned = merge([{"tall": Q @ tau["tall"] @ R} for tau in taus])["tall"]
        torch.testing.assert_close(turned, Q @ merge(taus)["tall"] @ R)

    def test_transposing_transposes(self, merge):
        taus = experts(3)
        if merge is iso_cts:
            pytest.skip("it projects on the complement of the left directions only, as the authors do")
        torch.testing.assert_close(merge([{"w": t["tall"].mT} for t in taus])["w"], merge(taus)["tall"].mT)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
    def test_half_precision_is_computed_in_float32(self, merge, dtype):
        taus = experts(3, dtype=torch.float32)
        low = [{k: v.to(dtype) for k, v in tau.items()} for tau in taus]
        merged = merge(low)
        exact = merge([{k: v.float() for k, v in tau.items()} for tau in low])
        assert {v.dtype for v in merged.values()} == {dtype}
        torch.testing.assert_close(merged, {k: v.to(dtype) for k, v in exact.items()})

    def test_inputs_stay_and_may_be_non_contiguous_or_lazy(self, merge):
        taus = experts(3)
        before = [{k: v.clone() for k, v in tau.items()} for tau in taus]
        strided = [{k: v.mT.contiguous().mT if v.ndim >= 2 else v for k, v in tau.items()} for tau in taus]
        base = {k: torch.zeros_like(v) for k, v in taus[0].items()}
        expected = merge(taus)
        torch.testing.assert_close(merge(strided), expected)
        torch.testing.assert_close(merge(lazy_task_vectors(base, taus)), expected)
        torch.testing.assert_close(taus, before, rtol=0, atol=0)

    def test_zeros_stay_zeros_and_a_silent_expert_is_no_error(self, merge):
        taus = experts(2)
        zero = {k: torch.zeros_like(v) for k, v in taus[0].items()}
        assert not any(v.any() for v in merge([zero, zero]).values())
        assert all(v.isfinite().all() for v in merge([taus[0], zero]).values())

    @pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (1, 4), (4, 1), (2, 2)])
    def test_the_smallest_matrices(self, merge, shape):
        taus = experts(3, shapes={"w": shape})
        merged = merge(taus)["w"]
        assert merged.shape == shape
        assert merged.isfinite().all()
        if merge is tsv_m:  # fewer directions than experts
            torch.testing.assert_close(merged, sum(tau["w"] for tau in taus) / 3)

    def test_nan_is_named(self, merge):
        taus = experts(2)
        taus[1]["wide"][0, 0] = torch.nan
        with pytest.raises(ValueError, match="task vector 1, key 'wide': got 1 entries that are NaN or infinite"):
            merge(taus)

    def test_structure_is_checked(self, merge):
        with pytest.raises(ValueError, match="got 0 task vectors, expected at least 1"):
            merge([])
        with pytest.raises(ValueError, match="key 'tall': got shape"):
            merge([experts(1)[0], experts(1, shapes=SHAPES | {"tall": (6, 11)})[0]])


# ---------------------------------------------------------------------------- FREE's filter

BLOCK = "visual.transformer.resblocks.0.mlp.c_fc.weight"


def filter_by_the_authors(weight, ratio=0.7, doubled=False):
    """merge_vit/src/task_vectors.py, `cal_low_and_high_fft_for_tensor`, index by index in numpy."""
    freq = np.fft.fft2(weight.numpy())
    H, W = freq.shape
    kept = np.zeros_like(freq)
    for y in range(H):
        for x in range(W):
            distance = math.sqrt((x - W // 2) ** 2 + (y - H // 2) ** 2)
            times = (distance <= min(H, W) // 10) + (min(H, W) // 10 <= distance <= min(H, W) * ratio)
            kept[y, x] = freq[y, x] * (times if doubled else min(times, 1))
    return torch.from_numpy(np.fft.ifft2(kept).real)


@pytest.mark.parametrize("shape", [(10, 10), (24, 8), (6, 20), (2, 2)])
@pytest.mark.parametrize("radius", [0.3, 0.7, 1.5])
def test_the_filter_is_the_authors_on_even_sides_but_for_their_doubled_circle(shape, radius):
    tau = {BLOCK: experts(1, shapes={"w": shape})[0]["w"]}
    got = free_fr([tau], radius=radius)[0][BLOCK]
    torch.testing.assert_close(got, filter_by_the_authors(tau[BLOCK], radius))
    assert not torch.allclose(got, filter_by_the_authors(tau[BLOCK], radius, doubled=True))


@pytest.mark.parametrize("metric", ["indices", "frequency"])
@pytest.mark.parametrize("shape", [(9, 7), (5, 12), (3, 3)])
def test_on_odd_sides_each_wave_is_kept_or_removed_whole(shape, metric):
    H, W = shape
    for fy in range(H):
        for fx in range(W):
            y, x = torch.arange(H, dtype=torch.float64)[:, None], torch.arange(W, dtype=torch.float64)
            wave = torch.cos(2 * math.pi * (fy * y / H + fx * x / W) + 0.3)
            dy, dx = 0.5 - min(fy, H - fy) / H, 0.5 - min(fx, W - fx) / W
            if metric == "indices":
                dy, dx = dy * H / min(shape), dx * W / min(shape)
            expected = wave if math.hypot(dy, dx) <= 0.45 else torch.zeros(shape, dtype=torch.float64)
            got = free_fr([{BLOCK: wave}], radius=0.45, metric=metric)[0][BLOCK]
            torch.testing.assert_close(got, expected, atol=1e-9, rtol=0)


def test_the_share_removed_depends_on_the_shape_in_indices_only():
    share = {m: [1 - high_pass((H, 768), metric=m).float().mean().item() for H in (768, 2304, 3072)]
             for m in ("indices", "frequency")}  # fmt: skip
    assert share["indices"] == pytest.approx([0.0002, 0.577, 0.683], abs=1e-3)
    assert share["frequency"] == pytest.approx([0.0002, 0.0002, 0.0002], abs=1e-4)
    assert high_pass((768, 768)).equal(high_pass((768, 768), metric="frequency"))
    assert high_pass((96, 24)).mT.equal(high_pass((24, 96)))


def test_the_authors_radius_metric_scope_and_alignment_are_the_default():
    taus = experts(2, shapes=SHAPES | {BLOCK: (24, 8)})
    written_out = free_fr(taus, radius=0.7, metric="indices", align=True, scope="blocks")
    torch.testing.assert_close(free_fr(taus), written_out, rtol=0, atol=0)


def test_a_wide_filter_keeps_everything_and_the_mean_goes_first():
    taus = experts(1, shapes={BLOCK: (8, 6)})
    torch.testing.assert_close(free_fr(taus, radius=math.sqrt(0.5) + 1e-3, metric="frequency"), taus)
    got = free_fr(taus, radius=math.sqrt(0.5) - 1e-3, metric="frequency")[0][BLOCK]
    torch.testing.assert_close(got, taus[0][BLOCK] - taus[0][BLOCK].mean())


def test_alignment_makes_every_expert_as_loud_as_the_loudest_after_the_filter():
    taus = experts(3, shapes={BLOCK: (12, 6)})
    plain, aligned = free_fr(taus, align=False), free_fr(taus)
    loudness = [tau[BLOCK].abs().mean() for tau in plain]
    for before, after, mine in zip(plain, aligned, loudness, strict=True):
        torch.testing.assert_close(after[BLOCK], before[BLOCK] * max(loudness) / mine)


def test_a_silent_expert_stays_silent():
    taus = experts(2, shapes={BLOCK: (12, 6)})
    taus[1][BLOCK].zero_()
    quiet = free_fr(taus)[1][BLOCK]
    assert quiet.eq(0).all()
    assert all(tau[BLOCK].eq(0).all() for tau in free_fr([taus[1], taus[1]]))


def test_scope_blocks_leaves_the_rest_pre_trained_and_scope_matrices_passes_it_on():
    taus = experts(2, shapes=SHAPES | {BLOCK: (12, 6)})
    blocks, matrices = free_fr(taus, align=False), free_fr(taus, align=False, scope="matrices")
    for tau, in_blocks, in_matrices in zip(taus, blocks, matrices, strict=True):
        assert [k for k, v in in_blocks.items() if v.any()] == [BLOCK]
        torch.testing.assert_close(in_blocks[BLOCK], in_matrices[BLOCK])
        for key in ("bias", "patch", "scale"):
            assert in_matrices[key].equal(tau[key])
        for key in ("tall", "wide"):
            alone = free_fr([{BLOCK: tau[key]}], align=False)[0][BLOCK]
            torch.testing.assert_close(in_matrices[key], alone)


def test_a_block_bias_is_no_matrix_even_if_its_name_says_weight():
    tau = {BLOCK: torch.ones(3), "attn.in_proj_weight": torch.eye(4)}
    assert free_fr([tau])[0][BLOCK].eq(0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_free_fr_keeps_dtype_and_inputs(dtype):
    taus = [{k: v.to(dtype) for k, v in tau.items()} for tau in experts(2, shapes={BLOCK: (12, 6)})]
    before = [tau[BLOCK].clone() for tau in taus]
    exact = free_fr([{k: v.float() for k, v in tau.items()} for tau in taus])
    for got, reference, tau, old in zip(free_fr(taus), exact, taus, before, strict=True):
        assert got[BLOCK].dtype == dtype
        torch.testing.assert_close(got[BLOCK], reference[BLOCK].to(dtype))
        assert tau[BLOCK].equal(old)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": 0.0}, "radius: got 0.0, expected a positive number"),
        ({"radius": float("nan")}, "radius: got nan"),
        ({"metric": "pixels"}, "metric: got 'pixels', expected 'indices' or 'frequency'"),
        ({"scope": "all"}, "scope: got 'all', expected 'blocks' or 'matrices'"),
    ],
)
def test_free_fr_names_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        free_fr(experts(2, shapes={BLOCK: (12, 6)}), **arguments)


def test_free_fr_takes_one_tensor_of_a_streamed_model_that_lies_outside_the_blocks():
    assert not any(tau["w"].any() for tau in free_fr(experts(2, shapes={"w": (12, 6)})))


def test_free_fr_names_nan_empty_lists_and_models_without_blocks():
    taus = experts(2, shapes={BLOCK: (12, 6)})
    with pytest.raises(ValueError, match="scope 'blocks': got keys like 'w', expected some that end in"):
        free_fr(experts(2, shapes={"w": (12, 6), "b": (6,)}))
    with pytest.raises(ValueError, match="got 0 task vectors"):
        free_fr([])
    taus[0][BLOCK][1, 1] = torch.inf
    with pytest.raises(ValueError, match="task vector 0, key"):
        free_fr(taus)
