import inspect
import json
import math
import time
from functools import partial

import pytest
import torch
from oracles.flow import random_tower
from safetensors.torch import load_file, save_file

from samerge_edu.lora import LoRA, check_adapters, dense, read_peft, write_peft
from samerge_edu.merges.knots import knots
from samerge_edu.merges.peft_lora import cat, linear, svd
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.params import add
from samerge_edu.saliency import chain_flow, clip_flow
from samerge_edu.transforms.sa_lora import sa_lora

close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-6)
SHAPES = {"fc.weight": (5, 6), "block.0.weight": (7, 5)}


@pytest.fixture
def g():
    return torch.Generator().manual_seed(0)


def adapter(g, r=3, scale=0.5, shapes=SHAPES, dtype=torch.float32):
    draw = partial(torch.randn, generator=g)
    return {k: LoRA(draw(r, i).to(dtype), draw(o, r).to(dtype), scale) for k, (o, i) in shapes.items()}


def identical(a, b):
    return a.keys() == b.keys() and all(
        torch.equal(a[k].A, b[k].A) and torch.equal(a[k].B, b[k].B) and a[k].scale == pytest.approx(b[k].scale)
        for k in a
    )


# ---------------------------------------------------------------------------- dense


def test_dense_is_the_sum_of_its_rank_one_components(g):
    lora = adapter(g)["fc.weight"]
    expected = torch.zeros(5, 6)
    for i in range(5):
        for j in range(6):
            expected[i, j] = sum(lora.scale * lora.B[i, k] * lora.A[k, j] for k in range(3))
    close(dense({"w": lora})["w"], expected)


def test_dense_like_the_base_has_zeros_elsewhere_and_can_be_added(g):
    base = {"ln": torch.randn(4, generator=g), **{k: torch.randn(s, generator=g) for k, s in SHAPES.items()}}
    expert = adapter(g)
    tau = dense(expert, like=base)
    assert list(tau) == list(base)
    assert not tau["ln"].any()
    close(add(base, tau)["fc.weight"], base["fc.weight"] + dense(expert)["fc.weight"])


def test_a_gauge_changes_the_factors_and_not_the_update(g):
    A, B, s = adapter(g)["fc.weight"]
    M = torch.randn(3, 3, generator=g)
    close(dense({"w": LoRA(M @ A, B @ M.inverse(), s)})["w"], dense({"w": LoRA(A, B, s)})["w"], atol=1e-4)


def test_half_precision_is_multiplied_in_float32(g):
    halves = adapter(g, dtype=torch.float16)
    assert dense(halves)["fc.weight"].dtype == torch.float32
    A, B, s = halves["fc.weight"]
    close(dense(halves)["fc.weight"], s * B.float() @ A.float())


def test_adapters_that_do_not_fit_are_refused(g):
    good = adapter(g)
    A, B, s = good["fc.weight"]
    with pytest.raises(ValueError, match="got 0 adapters"):
        check_adapters([])
    with pytest.raises(ValueError, match="adapter 0 has no layers"):
        check_adapters([{}])
    with pytest.raises(ValueError, match="got one adapter, expected a list"):
        check_adapters(good)
    with pytest.raises(ValueError, match=r"adapter 1: missing key 'block.0.weight' \(1 differ"):
        check_adapters([good, {"fc.weight": good["fc.weight"]}])
    with pytest.raises(ValueError, match=r"adapter 1: extra key 'block.0.weight'"):
        check_adapters([{"fc.weight": good["fc.weight"]}, good])
    with pytest.raises(ValueError, match=r"adapter 0, key 'fc.weight': got A \(6, 3\) and B \(5, 3\), expected"):
        check_adapters([good | {"fc.weight": LoRA(A.T, B, s)}])
    with pytest.raises(
        ValueError, match=r"adapter 1, key 'fc.weight': got an update of shape \(5, 5\), expected \(5, 6\)"
    ):
        check_adapters([good, good | {"fc.weight": LoRA(A[:, :5], B, s)}])
    with pytest.raises(ValueError, match=r"adapter 1, key 'fc.weight': got rank 2, expected 3"):
        check_adapters([good, good | {"fc.weight": LoRA(A[:2], B[:, :2], s)}], same_rank=True)
    with pytest.raises(ValueError, match=r"adapter 0, key 'fc.weight': got NaN or infinity"):
        check_adapters([good | {"fc.weight": LoRA(A * math.inf, B, s)}])
    with pytest.raises(ValueError, match=r"key 'fc.weight': there is no such tensor in the base"):
        dense(good, like={"block.0.weight": torch.ones(7, 5)})
    with pytest.raises(ValueError, match=r"key 'fc.weight': got shape \(5, 6\), expected \(6, 5\)"):
        dense(good, like={"block.0.weight": torch.ones(7, 5), "fc.weight": torch.ones(6, 5)})


# ---------------------------------------------------------------------------- PEFT's files


def peft_folder(path, g, drop=(), more=None, **config):
    """What PEFT 0.21.2 writes for two linear layers, as far as it matters."""
    tensors = {}
    for module, (out, fan_in), r in (("fc", (5, 6), 3), ("block.0", (7, 5), 2)):
        tensors[f"base_model.model.{module}.lora_A.weight"] = torch.randn(r, fan_in, generator=g)
        tensors[f"base_model.model.{module}.lora_B.weight"] = torch.randn(out, r, generator=g)
    for name in drop:
        del tensors[name]
    save_file(tensors | (more or {}), path / "adapter_model.safetensors")
    defaults = {"peft_type": "LORA", "r": 3, "lora_alpha": 12, "rank_pattern": {"block.0": 2}, "alpha_pattern": {}}
    defaults |= {"use_rslora": False, "use_dora": False, "bias": "none", "modules_to_save": None}
    (path / "adapter_config.json").write_text(json.dumps(defaults | config), encoding="utf-8")
    return tensors


@pytest.mark.parametrize(
    ("config", "scales"),
    [
        ({}, {"fc": 12 / 3, "block.0": 12 / 2}),
        ({"use_rslora": True}, {"fc": 12 / 3**0.5, "block.0": 12 / 2**0.5}),
        ({"alpha_pattern": {"fc": 6}}, {"fc": 6 / 3, "block.0": 12 / 2}),
        ({"rank_pattern": {"0": 2}, "alpha_pattern": {"b.*": 5}}, {"fc": 12 / 3, "block.0": 5 / 2}),
    ],
)
def test_reading_what_peft_writes(tmp_path, g, config, scales):
    tensors = peft_folder(tmp_path, g, **config)
    expert = read_peft(tmp_path)
    assert set(expert) == {"fc.weight", "block.0.weight"}
    for module, scale in scales.items():
        A, B, s = expert[f"{module}.weight"]
        assert s == pytest.approx(scale)
        assert torch.equal(A, tensors[f"base_model.model.{module}.lora_A.weight"])
        assert torch.equal(B, tensors[f"base_model.model.{module}.lora_B.weight"])


def test_names_are_mapped_by_an_argument(tmp_path, g):
    peft_folder(tmp_path, g)
    expert = read_peft(tmp_path, weight_of=lambda module: f"visual.{module}.w")
    assert set(expert) == {"visual.fc.w", "visual.block.0.w"}


def test_the_fused_attention_of_open_clip_is_one_module_of_two_weights(tmp_path, g):
    shapes = {"a.attn.in_proj_weight": (12, 4), "fc.weight": (3, 4), "a.attn.out_proj.weight": (4, 4)}
    expert = adapter(g, shapes=shapes)
    write_peft(tmp_path, expert)
    back = read_peft(tmp_path)
    assert identical(back, expert)
    names = set(load_file(tmp_path / "adapter_model.safetensors"))
    assert {f"base_model.model.a.attn{part}.lora_A.weight" for part in ("", ".base_layer.out_proj")} < names
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["target_modules"] == ["a.attn", "fc"]
    mapped = read_peft(tmp_path, weight_of=lambda module: f"visual.{module}.weight")
    assert set(mapped) == {f"visual.{key}" for key in shapes}
    A, B, s = expert["a.attn.out_proj.weight"]
    for other in (
        {},
        {"a.attn.out_proj.weight": LoRA(A, B, 2 * s)},
        {"a.attn.out_proj.weight": LoRA(A[:2], B[:, :2], s)},
    ):
        with pytest.raises(ValueError, match=r"'a.attn.in_proj_weight': PEFT needs 'a.attn.out_proj.weight' beside it"):
            write_peft(tmp_path, {"a.attn.in_proj_weight": expert["a.attn.in_proj_weight"]} | other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_round_trip_with_mixed_ranks_and_scales(tmp_path, g, dtype):
    expert = adapter(g, dtype=dtype) | {
        "up.weight": adapter(g, r=2, scale=1.7, shapes={"up": (3, 4)}, dtype=dtype)["up"]
    }
    write_peft(tmp_path / "expert", expert, base_model="pocket")
    back = read_peft(tmp_path / "expert")
    assert identical(back, expert)
    assert back["fc.weight"].A.dtype == dtype
    config = json.loads((tmp_path / "expert" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (3, 1.5, "pocket")
    assert config["target_modules"] == ["block.0", "fc", "up"]
    assert "base_model.model.block.0.lora_A.weight" in load_file(tmp_path / "expert" / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"peft_type": "LOHA"}, "got peft_type = 'LOHA'; only LORA"),
        ({"use_dora": True}, "got use_dora = True; DoRA rescales"),
        ({"bias": "lora_only"}, "got bias = 'lora_only'; trained biases would be lost"),
        ({"lora_bias": True}, "got lora_bias = True"),
        ({"fan_in_fan_out": True}, "got fan_in_fan_out = True"),
        ({"modules_to_save": ["head"]}, "got modules_to_save = .'head'."),
        ({"r": 4}, "module 'fc' has rank 3 in the file, 4 in adapter_config.json"),
        ({"rank_pattern": {}}, "module 'block.0' has rank 2 in the file, 3 in"),
        (
            {"more": {"base_model.model.fc.lora_magnitude_vector": torch.ones(5)}},
            "got tensor '.*magnitude_vector', expected",
        ),
        ({"drop": ["base_model.model.fc.lora_B.weight"]}, "fc.lora_A.weight' without its lora_B"),
        ({"drop": ["base_model.model.fc.lora_A.weight"]}, "expected a lora_A for each lora_B"),
    ],
)
def test_what_is_no_s_B_A_is_refused(tmp_path, g, config, message):
    peft_folder(tmp_path, g, **config)
    with pytest.raises(ValueError, match=message):
        read_peft(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"lora_alpha": math.nan}, "got lora_alpha = nan; expected a finite number"),
        ({"lora_alpha": math.inf}, "got lora_alpha = inf; expected a finite number"),
        ({"lora_alpha": "4"}, "got lora_alpha = '4'; expected a finite number"),
        ({"lora_alpha": True}, "got lora_alpha = True; expected a finite number"),
        ({"lora_alpha": 10**400}, r"got lora_alpha = 10+ \.\.\.; expected a finite number"),
        ({"lora_alpha": None}, "missing field 'lora_alpha'"),
        ({"r": None}, "missing field 'r'"),
        ({"r": 0}, "got r = 0; expected a whole number >= 1"),
        ({"r": 3.0}, "got r = 3.0; expected a whole number >= 1"),
        ({"peft_type": None}, "missing field 'peft_type'"),
        ({"use_rslora": "false"}, "got use_rslora = 'false'; expected true or false"),
        ({"use_dora": "false"}, "got use_dora = 'false'; expected true or false"),
        ({"modules_to_save": 0}, "got modules_to_save = 0; expected names"),
        ({"target_modules": 5}, "got target_modules = 5; expected names"),
        ({"layers_to_transform": ["0"]}, "got layers_to_transform = .'0'.; expected whole numbers"),
        ({"rank_pattern": {"block.0": "2"}}, "got rank_pattern = .*; expected ranks by name"),
        ({"rank_pattern": {"block.0": 0}}, "got rank_pattern = .*; expected ranks by name"),
        ({"alpha_pattern": {"fc": math.nan}}, "got alpha_pattern = .*; expected numbers by name"),
        ({"alpha_pattern": ["fc"]}, "got alpha_pattern = .'fc'.; expected numbers by name"),
        ({"alora_invocation_tokens": [1]}, "got alora_invocation_tokens = .1.; an activated LoRA"),
        (
            {"layer_replication": [[0, 2]]},
            "got layer_replication = ..0, 2..; the adapter is of a model with more layers",
        ),
        ({"trainable_token_indices": {"x": [1]}}, "got trainable_token_indices = .*; trained tokens would be lost"),
        ({"init_lora_weights": "loftq"}, "got init_lora_weights = 'loftq'; such a start is taken off the base"),
        ({"init_lora_weights": 1}, "got init_lora_weights = 1; such a start"),
        ({"rank_pattern": {"(": 2}}, r"rank_pattern: '\(' is no regular expression"),
        (
            {"more": {"fc.lora_A.weight": torch.ones(3, 6).int()}},
            "got integers in 'fc.lora_A.weight', expected floating",
        ),
        ({"more": {"fc.lora_B.weight": torch.full((5, 3), math.nan)}}, "a lora_A for each lora_B"),
    ],
)
def test_fields_are_read_as_what_they_are(tmp_path, g, config, message):
    peft_folder(tmp_path, g, **config)
    with pytest.raises(ValueError, match=message) as refusal:
        read_peft(tmp_path)
    assert tmp_path.name in str(refusal.value)


@pytest.mark.parametrize("text", ["{", "[]", "3", "", "[" * 10**5, "\ud800"])
def test_a_configuration_that_is_no_table_is_named(tmp_path, g, text):
    peft_folder(tmp_path, g)
    (tmp_path / "adapter_config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"adapter_config\.json(: got a \w+, expected| is not readable as JSON)"):
        read_peft(tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_factors_with_nan_are_refused_with_the_folder(tmp_path, g, value):
    expert = adapter(g)
    write_peft(tmp_path, expert)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    next(iter(tensors.values()))[0, 0] = value
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    with pytest.raises(
        ValueError, match=f"{tmp_path.name}/adapter_model.safetensors: adapter 0, key .* NaN or infinity"
    ):
        read_peft(tmp_path)
    with pytest.raises(ValueError, match="NaN or infinity in A"):
        write_peft(tmp_path, expert | {"fc.weight": LoRA(expert["fc.weight"].A * value, expert["fc.weight"].B, 1.0)})


def test_large_factors_are_finite(g):
    """Their sum need not be: it overflows."""
    A, B = torch.full((2, 3), 3e38), torch.full((4, 2), 1e-3)
    assert check_adapters([{"w": LoRA(A, B, 1e-38)}])


def test_a_pattern_that_would_match_for_years_is_given_up(tmp_path, g):
    """40 letters and (a+)+$: 2^40 ways to match them."""
    module = "a" * 40 + "!"
    name = f"base_model.model.{module}.lora_"
    peft_folder(tmp_path, g, more={f"{name}A.weight": torch.ones(3, 6), f"{name}B.weight": torch.ones(5, 3)},
                rank_pattern={"block.0": 2, "(a|a|aa)+$": 3})  # fmt: skip
    clock = time.perf_counter()
    with pytest.raises(ValueError, match=r"rank_pattern: '\(a\|a\|aa\)\+\$' takes too long"):
        read_peft(tmp_path)
    assert time.perf_counter() - clock < 30


def test_a_missing_file_is_named(tmp_path, g):
    with pytest.raises(FileNotFoundError, match=r"adapter_config\.json"):
        read_peft(tmp_path)
    peft_folder(tmp_path, g)
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"adapter_model\.safetensors"):
        read_peft(tmp_path)


# ---------------------------------------------------------------------------- cat, svd, linear


def weighted_sum(adapters, weights):
    taus = [dense(a) for a in adapters]
    return {k: sum(w * t[k] for w, t in zip(weights, taus, strict=True)) for k in taus[0]}


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [0.7, 0.2, 1.3], [0.7, -0.2, 0.4]])
def test_cat_is_the_sum_and_svd_of_full_rank_too_and_linear_is_not(g, weights):
    adapters = [adapter(g, scale=s) for s in (0.5, 2.0, 1.1)]
    exact = weighted_sum(adapters, weights)
    for k, tau in dense(cat(adapters, weights)).items():
        close(tau, exact[k], atol=1e-4)
    for k, tau in dense(svd(adapters, weights, rank=9)).items():
        close(tau, exact[k], atol=1e-4)
    for k, tau in dense(linear(adapters, weights)).items():
        assert (tau - exact[k]).norm() > 0.3 * exact[k].norm()  # not a rounding error: another matrix


def test_linear_is_the_sum_plus_the_cross_terms(g):
    adapters, weights = [adapter(g, scale=s) for s in (0.5, 2.0)], [0.7, 1.5]
    for k, tau in dense(linear(adapters, weights)).items():
        root = [(w * a[k].scale) ** 0.5 for w, a in zip(weights, adapters, strict=True)]
        cross = sum(
            root[n] * root[m] * adapters[n][k].B @ adapters[m][k].A for n in range(2) for m in range(2) if n != m
        )
        close(tau - cross, weighted_sum(adapters, weights)[k])


@pytest.mark.parametrize("weight", [0.6, -0.6])
@pytest.mark.parametrize("merge", [cat, svd, linear])
def test_one_adapter_alone_is_itself(g, merge, weight):
    expert = adapter(g, scale=0.8)
    for k, tau in dense(merge([expert], [weight])).items():
        close(tau, weight * dense(expert)[k])


def test_linear_depends_on_the_gauge_and_cat_and_svd_do_not(g):
    a, b = adapter(g), adapter(g)
    turned = {k: LoRA(-lora.A, -lora.B, lora.scale) for k, lora in b.items()}  # the same expert
    for merge in (cat, svd):
        for k, tau in dense(merge([a, b])).items():
            close(dense(merge([a, turned]))[k], tau)
    assert not torch.allclose(dense(linear([a, b]))["fc.weight"], dense(linear([a, turned]))["fc.weight"], atol=0.1)


def test_svd_is_the_best_approximation_of_its_rank(g):
    adapters = [adapter(g, r=2), adapter(g, r=3)]
    merged = svd(adapters)
    for k, exact in weighted_sum(adapters, [1.0, 1.0]).items():
        U, S, Vt = torch.linalg.svd(exact)
        assert len(merged[k].A) == 3
        close(dense(merged)[k], (U[:, :3] * S[:3]) @ Vt[:3], atol=1e-4)
        close(dense(svd(adapters, rank=1))[k], S[0] * torch.outer(U[:, 0], Vt[0]), atol=1e-4)


def test_peft_merges_refuse(g):
    a, b = adapter(g), adapter(g, r=2)
    with pytest.raises(ValueError, match="got 1 weights, expected 2, one per adapter"):
        cat([a, a], [1.0])
    with pytest.raises(ValueError, match=r"adapter 1, key 'fc.weight': got rank 2, expected 3"):
        linear([a, b])
    with pytest.raises(ValueError, match="rank: got 0, expected at least 1"):
        svd([a, b], rank=0)


# ---------------------------------------------------------------------------- SA-Merging of ranks


def problem(g, N=3, r=4):
    """A chain of two layers and a third without adapter, in float64."""
    shapes = SHAPES | {"head.weight": (3, 7)}
    base = {k: torch.randn(s, generator=g, dtype=torch.float64) for k, s in shapes.items()}
    return base, [adapter(g, r=r, scale=0.1 * (n + 1), dtype=torch.float64) for n in range(N)]


def scores_from_explicit_updates(base, adapters, n):
    """|gamma eta| by forming every update and differentiating ln R with respect to expert n's."""
    tau = {k: v.requires_grad_() for k, v in dense(adapters[n], like=base).items()}
    x = torch.ones(6, dtype=torch.float64)
    for k in base:
        x = (base[k] + tau[k]).abs() @ x
    x.sum().log().backward()
    total = weighted_sum(adapters, [1.0] * len(adapters))
    scores = {}
    for k, (A, B, _) in adapters[n].items():
        G, star = tau[k].grad, total[k]
        scores[k] = torch.stack([((b @ G @ a) * (b @ star @ a)).abs() for a, b in zip(A, B.T, strict=True)])
    return scores


def test_one_round_against_explicit_updates(g):
    base, adapters = problem(g)
    out = sa_lora(adapters, theta_0=base, flow=chain_flow, T=1, p=0.5)
    for n, merged in enumerate(out):
        for k, S in scores_from_explicit_updates(base, adapters, n).items():
            best = set(S.topk(2).indices.tolist())
            for j in range(4):
                a, b = (adapters[n][k].A[j], adapters[n][k].B[:, j]) if j in best else (0 * S[0], 0 * S[0])
                assert (merged[k].A[j] == a).all()
                assert (merged[k].B[:, j] == b).all()


def test_experts_of_different_ranks_against_explicit_updates(g):
    base, _ = problem(g)
    for _ in range(20):  # so that weighting the experts by their rank would change a choice
        ranks = {r: adapter(g, r=r, scale=0.1, dtype=torch.float64) for r in (8, 1, 4)}
        adapters = list(ranks.values())
        out = sa_lora(adapters, theta_0=base, flow=chain_flow, T=1, p=0.5)
        for n, (r, merged) in enumerate(zip(ranks, out, strict=True)):
            for k, S in scores_from_explicit_updates(base, adapters, n).items():
                best = set(S.topk(math.ceil(r / 2)).indices.tolist())
                assert {j for j in range(r) if merged[k].A[j].any()} == best


def test_a_rank_that_does_nothing_is_never_kept_for_one_that_does():
    """The first rank has a = 0; the second is cancelled by the other expert, so that its score is 0 as well."""
    A = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    one, other = ({"w": LoRA(A, torch.tensor([[1.0, b]]), 0.1)} for b in (3.0, -3.0))
    for out in sa_lora([one, other], theta_0={"w": torch.ones(1, 2)}, flow=chain_flow, T=1, p=0.5):
        assert out["w"].A.tolist() == [[0.0, 0.0], [1.0, 2.0]]


def test_the_defaults_of_sa_lora_are_those_for_entries():
    knobs = inspect.signature(sa_lora).parameters
    assert (knobs["T"].default, knobs["p"].default) == (10, 0.2)


def test_rounds_rescore_and_keep_the_shape(g):
    """Round by round with explicit updates; in the end ceil(0.7^3 * 4) = 2 ranks are left in each layer."""
    base, adapters = problem(g)
    mine = adapters
    for t in (1, 2, 3):
        scores = [scores_from_explicit_updates(base, mine, n) for n in range(3)]
        keep = math.ceil(0.7**t * 4)
        new = []
        for n, expert in enumerate(mine):
            new.append({})
            for k, (A, B, s) in expert.items():
                m = torch.zeros(4, dtype=torch.float64)
                m[scores[n][k].topk(keep).indices] = 1
                new[n][k] = LoRA(m[:, None] * A, B * m, s)
        mine = new
    rounds = []
    out = sa_lora(adapters, theta_0=base, flow=chain_flow, T=3, p=0.3, progress=lambda t, now: rounds.append(t))
    assert all(identical(a, b) for a, b in zip(out, mine, strict=True))
    assert rounds == [1, 2, 3]
    assert out[0]["fc.weight"].A.any(dim=1).sum() == 2
    assert out[0]["fc.weight"].A.shape == (4, 6)


def test_gamma_is_what_autograd_says_of_the_factors(g):
    """dR/dB = s G A^T, so b_k . (dR/dB)_k = s gamma_k: the identity that saves the update."""
    base, adapters = problem(g, N=1)
    factors = {k: (A.clone().requires_grad_(), B.clone().requires_grad_(), s) for k, (A, B, s) in adapters[0].items()}
    x = torch.ones(6, dtype=torch.float64)
    for k in base:
        W = base[k] + factors[k][2] * factors[k][1] @ factors[k][0] if k in factors else base[k]
        x = W.abs() @ x
    x.sum().log().backward()
    S = scores_from_explicit_updates(base, adapters, 0)
    total = dense(adapters[0])
    for k, (A, B, s) in factors.items():
        gamma = (B * B.grad).sum(dim=0) / s
        eta = torch.stack([b @ total[k] @ a for a, b in zip(A, B.T, strict=True)])
        close((gamma * eta).abs(), S[k])


def test_the_gauge_matters_but_not_order_and_size_of_the_ranks(g):
    base, adapters = problem(g)

    def run(change):
        experts = [{k: LoRA(*change(A, B), s) for k, (A, B, s) in e.items()} for e in adapters]
        for e, original in zip(experts, adapters, strict=True):
            close(dense(e)["fc.weight"], dense(original)["fc.weight"])  # the same experts
        return [dense(e)["fc.weight"] for e in sa_lora(experts, theta_0=base, flow=chain_flow, T=2, p=0.3)]

    plain = run(lambda A, B: (A, B))
    order, size = torch.randperm(4, generator=g), torch.tensor([0.1, 3.0, -2.0, 7.0], dtype=torch.float64)
    close(run(lambda A, B: (A[order], B[:, order])), plain)
    close(run(lambda A, B: (size[:, None] * A, B / size)), plain)
    M = torch.randn(4, 4, generator=g, dtype=torch.float64)
    mixed = run(lambda A, B: (M @ A, B @ M.inverse()))
    assert max((a - b).abs().max() for a, b in zip(mixed, plain, strict=True)) > 0.01


def test_sa_lora_limits_and_manners(g):
    base, adapters = problem(g)
    base_before = {k: v.clone() for k, v in base.items()}
    before = [{k: LoRA(A.clone(), B.clone(), s) for k, (A, B, s) in e.items()} for e in adapters]
    run = partial(sa_lora, theta_0=base, flow=chain_flow)
    assert all(identical(a, b) for a, b in zip(run(adapters, p=0.0), adapters, strict=True))
    out = run(adapters, T=2)
    assert all(identical(a, b) for a, b in zip(out, run(adapters[::-1], T=2)[::-1], strict=True))
    for k in out[0]:
        out[0][k].A.zero_()
    assert all(identical(a, b) for a, b in zip(adapters, before, strict=True))
    assert all(torch.equal(base[k], base_before[k]) for k in base)


def test_sa_lora_on_a_clip_tower_in_half_precision(tmp_path, g):
    base = random_tower(g)
    shapes = {k: tuple(v.shape) for k, v in base.items() if "resblocks" in k and v.ndim == 2}
    adapters = [adapter(g, r=4, scale=0.02, shapes=shapes, dtype=torch.float16) for _ in range(2)]
    out = sa_lora(adapters, theta_0=base, flow=partial(clip_flow, heads=2), T=10, p=0.2)
    write_peft(tmp_path, out[0])
    assert identical(read_peft(tmp_path), out[0])
    for k, (A, B, _) in out[0].items():
        assert A.dtype == B.dtype == torch.float16
        assert A.any(dim=1).sum() == B.any(dim=0).sum() == 1  # ceil(0.107 * 4)
        assert A.shape == adapters[0][k].A.shape
    merged = add(base, task_arithmetic([dense(a, like=base) for a in out]))
    close(merged["proj"], base["proj"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"T": 0}, "T: got 0"),
        ({"p": 1.0}, "p: got 1.0, expected the share pruned in a round"),
        ({"adapters": []}, "got 0 adapters"),
        ({"theta_0": {"fc.weight": torch.ones(5, 6)}}, "theta_0, key 'block.0.weight': got no such tensor"),
        ({"theta_0": {"fc.weight": torch.ones(6, 5)}}, r"theta_0, key 'fc.weight': got \(6, 5\), expected \(5, 6\)"),
    ],
)
def test_sa_lora_refuses(g, change, message):
    base, adapters = problem(g)
    with pytest.raises(ValueError, match=message):
        sa_lora(**{"adapters": adapters, "theta_0": base, "flow": chain_flow} | change)


# ---------------------------------------------------------------------------- KnOTS


def total(blocks):
    return {k: sum(b[k] for b in blocks) for k in blocks[0]}


def test_knots_with_a_linear_merge_is_the_sum(g):
    taus = [dense(adapter(g)) for _ in range(3)]
    for k, tau_m in knots(taus, merge=total).items():
        close(tau_m, total(taus)[k], atol=1e-5)


def test_the_blocks_are_the_updates_in_an_orthonormal_basis_of_the_outputs(g):
    taus, seen = [dense(adapter(g, r=1)) for _ in range(3)], []

    def look(blocks):
        seen.extend(blocks)
        return total(blocks)

    knots(taus, merge=look)
    for tau, block in zip(taus, seen, strict=True):
        assert block["fc.weight"].shape == (3, 6)  # three experts of rank 1 span three directions
        close(block["fc.weight"].T @ block["fc.weight"], tau["fc.weight"].T @ tau["fc.weight"])  # lengths are kept
    common = torch.cat([b["fc.weight"] for b in seen], dim=1)
    close(common @ common.T, torch.diag(torch.diagonal(common @ common.T)), atol=1e-4)


def test_an_entrywise_merge_in_the_basis_differs_from_the_same_merge_outside(g):
    taus = [dense(adapter(g)) for _ in range(3)]

    def largest(blocks):
        return {k: torch.stack([b[k] for b in blocks]).amax(dim=0) for k in blocks[0]}

    assert (knots(taus, merge=largest)["fc.weight"] - largest(taus)["fc.weight"]).norm() > 0.1


def test_knots_passes_on_what_is_no_matrix_and_survives_zeros(g):
    taus = [{"ln": torch.randn(4, generator=g), "w": torch.zeros(3, 2, dtype=torch.float32)} for _ in range(2)]
    before = [{k: v.clone() for k, v in t.items()} for t in taus]
    out = knots(taus, merge=total)
    close(out["ln"], taus[0]["ln"] + taus[1]["ln"])
    assert not out["w"].any()
    assert all(torch.equal(a[k], b[k]) for a, b in zip(taus, before, strict=True) for k in a)


def test_the_cutoff_drops_directions(g):
    U, V = (torch.linalg.qr(torch.randn(4, 4, generator=g))[0] for _ in range(2))
    tau = U @ torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.1])) @ V
    kept = U @ torch.diag(torch.tensor([3.0, 2.0, 0.0, 0.0])) @ V
    close(knots([{"w": tau}], merge=total, cutoff=1.5)["w"], kept, atol=1e-5)


def rows_of_the_block(tau, **knobs):
    """How many directions the common basis has."""
    seen = []
    knots([{"w": tau}], merge=lambda blocks: seen.append(len(blocks[0]["w"])) or blocks[0], **knobs)
    return seen[0]


def test_directions_at_the_cutoff_go_and_one_always_stays():
    tau = torch.diag(torch.tensor([4.0, 2.0, 1.5e-5, 0.9e-5]))
    assert rows_of_the_block(tau) == 3  # the authors' 1e-5
    assert rows_of_the_block(tau, cutoff=2.0) == 1
    assert rows_of_the_block(tau, cutoff=0.0) == 4
    assert rows_of_the_block(torch.zeros(3, 3)) == 1


def test_knots_refuses(g):
    with pytest.raises(ValueError, match="got 0 task vectors"):
        knots([], merge=total)
    with pytest.raises(ValueError, match="cutoff: got -1, expected at least 0"):
        knots([dense(adapter(g))], merge=total, cutoff=-1)
