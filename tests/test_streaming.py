"""Merges that never hold the models: the same numbers as in memory, in a file that is whole or not there."""

import hashlib
import json
import math
from functools import partial
from types import SimpleNamespace

import open_clip
import pytest
import torch
from hub_server import HubServer
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_hub import tiny_hub_folder

from samerge_edu import forecast as forecast_module
from samerge_edu.evaluate import scores
from samerge_edu.files import LazyParams, load_params, save_params, write_safetensors
from samerge_edu.forecast import check_fits, forecast, free_memory
from samerge_edu.merges.average import average
from samerge_edu.merges.iso import iso_c
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.merges.ties import ties
from samerge_edu.methods import METHODS
from samerge_edu.params import add, pipe, task_vectors
from samerge_edu.streaming import merge_suite, merge_to_file
from samerge_edu.suites.published.clip_vit import load_clip_vit
from samerge_edu.suites.published.names import build_clip, image_tower, to_hf
from samerge_edu.transforms.trim import trim


@pytest.fixture
def models(tmp_path):
    """A base and three experts as files, tensors of several shapes and sizes of update."""
    g = torch.Generator().manual_seed(0)
    shapes = {"conv.weight": (4, 3, 2, 2), "fc.weight": (6, 11), "fc.bias": (6,), "scale": ()}
    sizes = {"conv.weight": 1.0, "fc.weight": 0.1, "fc.bias": 3.0, "scale": 1.0}
    base = {k: torch.randn(s, generator=g) for k, s in shapes.items()}
    save_params(tmp_path / "0.safetensors", base)
    for n in (1, 2, 3):
        expert = {k: v + n * sizes[k] * torch.randn(v.shape, generator=g) for k, v in base.items()}
        save_params(tmp_path / f"{n}.safetensors", expert)
    return [LazyParams(tmp_path / f"{n}.safetensors") for n in range(4)]


def merged(models, merge, out, **options):
    options = {"lam": 0.4, "per_tensor": True, "recipe": "a test"} | options
    return merge_to_file(models[0], models[1:], merge, out, **options)


def in_memory(models, merge, lam=0.4):
    base, *experts = [dict(m.items()) for m in models]
    return add(base, merge(task_vectors(base, experts)), lam)


@pytest.mark.parametrize(
    "merge",
    [
        average,
        task_arithmetic,
        partial(ties, density=0.3, scope="tensor"),
        pipe(partial(trim, density=0.3, scope="tensor"), task_arithmetic),
        METHODS["DARE"].recipe(None),
    ],
    ids=["average", "task arithmetic", "TIES of each tensor", "trim of each tensor", "DARE"],
)
def test_tensor_by_tensor_gives_what_it_gives_in_memory(models, tmp_path, merge):
    out = merged(models, merge, tmp_path / "out.safetensors")
    expected = in_memory(models, merge)
    assert load_params(out).keys() == expected.keys()
    assert all(torch.equal(v, expected[k]) for k, v in load_params(out).items())


def test_a_global_method_gets_all_tensors_and_per_tensor_would_be_another_method(models, tmp_path):
    merge = partial(ties, density=0.3)
    right = load_params(merged(models, merge, tmp_path / "right.safetensors", per_tensor=False))
    other = load_params(merged(models, merge, tmp_path / "other.safetensors", per_tensor=True))
    expected = in_memory(models, merge)
    assert all(torch.equal(right[k], expected[k]) for k in expected)
    assert not torch.allclose(other["fc.weight"], expected["fc.weight"])


def test_spectral_methods_stream(tmp_path):
    g = torch.Generator().manual_seed(1)
    for n in range(4):
        save_params(
            tmp_path / f"{n}.safetensors",
            {"a.weight": torch.randn(5, 3, generator=g), "b": torch.randn(4, generator=g)},
        )
    models = [LazyParams(tmp_path / f"{n}.safetensors") for n in range(4)]
    out = load_params(merged(models, iso_c, tmp_path / "out.safetensors"))
    expected = in_memory(models, iso_c)
    assert all(torch.equal(out[k], expected[k]) for k in expected)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.per_tensor])
def test_rows_marked_per_tensor_do_treat_each_tensor_on_its_own(name):
    """The same result from all tensors at once as from one at a time, on a tower's names and shapes."""
    g = torch.Generator().manual_seed(3)
    vision = {"image_size": 16, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8, "mlp_ratio": 2.0}
    text = {"context_length": 8, "vocab_size": 50, "width": 8, "heads": 1, "layers": 1}
    tower = build_clip({"embed_dim": 12, "vision_cfg": vision, "text_cfg": text}).visual.state_dict()
    taus = [{k: torch.randn(v.shape, generator=g) * (1 + len(k)) for k, v in tower.items()} for _ in range(3)]
    merge = METHODS[name].recipe(SimpleNamespace(theta_0=tower, attention_heads=2, device=torch.device("cpu")))
    whole = merge(taus)
    for key in tower:
        torch.testing.assert_close(merge([{key: tau[key]} for tau in taus])[key], whole[key], msg=key)


def test_one_tensor_of_each_model_at_a_time(models, tmp_path, monkeypatch):
    reads, read = [], LazyParams.__getitem__
    monkeypatch.setattr(LazyParams, "__getitem__", lambda self, k: reads.append((k, self.path.stem)) or read(self, k))
    seen = []

    def watched(taus):
        assert [list(tau) for tau in taus] == [[next(iter(taus[0]))]] * 3  # one key, three experts
        seen.extend(taus[0])
        return average(taus)

    merged(models, watched, tmp_path / "out.safetensors", progress=seen.append)
    assert seen == [key for key in models[0] for _ in (0, 1)]  # merged, written, then the next
    keys = [key for key, _ in reads]
    assert keys == sorted(keys, key=list(models[0]).index)  # never back, never ahead


def test_half_precision_is_merged_in_float32_and_written_in_half(tmp_path):
    g = torch.Generator().manual_seed(0)
    for n in range(4):
        save_params(tmp_path / f"{n}.safetensors", {"w": (1 + torch.randn(40, generator=g) / 100).bfloat16()})
    models = [LazyParams(tmp_path / f"{n}.safetensors") for n in range(4)]
    out = load_params(merged(models, average, tmp_path / "out.safetensors", lam=1.0))["w"]
    exact = sum(m["w"].double() for m in models[1:]) / 3
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, exact.bfloat16())


def test_the_file_says_what_it_is(models, tmp_path):
    keep = {"text.weight": torch.randn(3, 2).half()}
    out = merged(models, average, tmp_path / "out.safetensors", recipe="Average of 3", prefix="visual.", keep=keep)
    written = LazyParams(out)
    about = written.metadata
    assert (about["format"], about["recipe"], float(about["lam"])) == ("pt", "Average of 3", 0.4)
    assert json.loads(about["versions"]).keys() == {"torch", "safetensors"}
    inputs = [(i["file"], i["sha256"]) for i in json.loads(about["inputs"])]
    assert inputs == [(m.path.name, hashlib.sha256(m.path.read_bytes()).hexdigest()) for m in models]
    assert torch.equal(written["text.weight"], keep["text.weight"])
    assert set(written) == {"text.weight", *(f"visual.{k}" for k in models[0])}
    one, other = ({"w": torch.tensor([1.0, x])} for x in (2.0, 3.0))
    hashes = []
    for experts in ([one], [one], [other]):
        path = merge_to_file(one, experts, average, tmp_path / "o", lam=1.0, per_tensor=True, recipe="")
        hashes.append(json.loads(LazyParams(path).metadata["inputs"])[1]["sha256"])
    assert hashes[0] == hashes[1] != hashes[2]  # models in memory have a fingerprint too


@pytest.mark.parametrize("stop", [RuntimeError("power cut"), KeyboardInterrupt()])
def test_an_interrupted_merge_leaves_the_old_file_or_none(models, tmp_path, stop):
    def interrupted(taus):
        if "fc.bias" in taus[0]:
            raise stop
        return average(taus)

    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(type(stop)):
        merged(models, interrupted, tmp_path / "out.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    merged(models, average, tmp_path / "out.safetensors")
    old = (tmp_path / "out.safetensors").read_bytes()
    with pytest.raises(type(stop)):
        merged(models, interrupted, tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").read_bytes() == old
    assert len(list(tmp_path.iterdir())) == len(before) + 1


def test_bad_input_is_refused(models, tmp_path):
    with pytest.raises(ValueError, match="lam: got nan, expected a finite number"):
        merged(models, average, tmp_path / "out.safetensors", lam=math.nan)
    with pytest.raises(ValueError, match="got 0 experts"):
        merged(models[:1], average, tmp_path / "out.safetensors")
    bad = load_params(models[2].path)
    bad["fc.weight"][1, 2] = math.inf
    save_params(tmp_path / "2.safetensors", bad)
    with pytest.raises(ValueError, match=r"expert 1, key 'fc.weight': got 1 entries that are NaN or infinite"):
        merged(models, average, tmp_path / "out.safetensors")
    with pytest.raises(ValueError, match=r"'fc.weight': got NaN or infinity in the merged model"):
        merged(models, average, tmp_path / "out.safetensors", per_tensor=False)
    assert not (tmp_path / "out.safetensors").exists()


def test_what_is_kept_may_hold_integers(models, tmp_path):
    keep = {"position_ids": torch.arange(3), "mask": torch.tensor([True, False])}
    out = merged(models, average, tmp_path / "out.safetensors", keep=keep)
    with safe_open(out, "pt") as f:
        assert all(torch.equal(f.get_tensor(k), v) for k, v in keep.items())
    assert sorted(LazyParams(out).buffers) == ["mask", "position_ids"]


@pytest.mark.parametrize(
    "options", [{"recipe": None}, {"keep": {"__metadata__": torch.ones(1)}}, {"prefix": 3}, {"lam": "1"}]
)
def test_a_good_file_is_not_replaced_by_one_that_cannot_be_read(models, tmp_path, options):
    out = merged(models, average, tmp_path / "out.safetensors")
    before = out.read_bytes()
    with pytest.raises((ValueError, TypeError)):
        merged(models, average, out, **options)
    assert out.read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("options", [{"recipe": None}, {"lam": math.inf}])
def test_what_cannot_be_written_is_refused_before_anything_is_merged(models, tmp_path, options):
    def merge(taus):
        pytest.fail("minutes of work for nothing")

    with pytest.raises(ValueError, match=r"metadata|lam"):
        merged(models, merge, tmp_path / "out.safetensors", per_tensor=False, **options)


def test_the_writer_and_the_safetensors_library_agree(tmp_path):
    tensors = {"h": torch.randn(3).half(), "f": torch.randn(2, 2), "d": torch.randn(1).double(), "e": torch.empty(0, 4)}
    tensors |= {"s": torch.tensor(2.5), "t": torch.randn(4, 3).T}
    contents = {k: (tuple(v.shape), v.dtype) for k, v in tensors.items()}
    write_safetensors(tmp_path / "ours", contents, reversed(tensors.items()), {"a": "b"})
    with safe_open(tmp_path / "ours", "pt") as f:
        assert f.metadata() == {"a": "b"}
        assert all(torch.equal(f.get_tensor(k), v) for k, v in tensors.items())
    with pytest.raises(ValueError, match=r"missing tensor 'f' \(1 missing in all\)"):
        write_safetensors(tmp_path / "bad", contents, [(k, v) for k, v in tensors.items() if k != "f"], {})
    with pytest.raises(ValueError, match=r"'f': got \(4,\) torch.float32, expected \(\(2, 2\), torch.float32\)"):
        write_safetensors(tmp_path / "bad", contents, [("f", torch.ones(4))], {})
    assert not list(tmp_path.glob("bad*"))


# ---------------------------------------------------------------------------- forecast


def test_the_forecast_takes_shapes_without_numbers():
    """As notebook 12 asks it about models that nobody has downloaded."""
    with torch.device("meta"):
        model = torch.nn.Linear(30, 20).state_dict()
    assert forecast([model] * 3, per_tensor=True).needs["one tensor at a time"] == 4 * 4 * 600


def test_the_forecast_counts_and_the_plan_is_the_first_that_fits(monkeypatch):
    models = [{"a": torch.zeros(1000, 100), "b": torch.zeros(50_000)}] * 5  # a base and 4 experts
    monkeypatch.setattr(forecast_module, "free_memory", lambda device: 10**9)
    plan = forecast(models, per_tensor=True)
    assert plan.needs == {  # (N + 2) * 150,000 entries; (N + 2) * the largest tensor
        "everything in memory": 4 * 6 * 150_000,
        "half precision": 2 * 6 * 150_000,
        "one tensor at a time": 4 * 6 * 100_000,
    }
    assert plan.plan == "everything in memory"
    assert forecast(models, per_tensor=False, copies=0.5).needs == {
        "everything in memory": 4 * (6 + 0.5 * 4) * 150_000,
        "read as needed": 4 * ((1 + 0.5 * 4) * 150_000 + 5 * 100_000),
    }
    # 0.8 of what is free may be used: 3.6, 1.8 and 2.4 MB are needed
    for free, expected in [(4_500_000, "everything in memory"), (4_499_999, "half precision"), (2_249_999, None)]:
        monkeypatch.setattr(forecast_module, "free_memory", lambda device, free=free: free)
        assert forecast(models, per_tensor=True).plan == expected
    deep = [{f"block {i}": torch.zeros(1000) for i in range(50)}] * 5
    monkeypatch.setattr(forecast_module, "free_memory", lambda device: 50_000)
    assert forecast(deep, per_tensor=True).plan == "one tensor at a time"
    assert "plan: one tensor at a time" in str(forecast(deep, per_tensor=True))
    assert "plan: does not fit" in str(forecast(deep, per_tensor=False))


def test_what_cannot_fit_is_refused_before_anything_is_read(models, tmp_path, monkeypatch):
    monkeypatch.setattr(forecast_module, "free_memory", lambda device: 100)
    monkeypatch.setattr(LazyParams, "__getitem__", lambda self, k: pytest.fail("a tensor was read"))
    for per_tensor, why in [(True, ""), (False, "; the method looks at all tensors at once")]:
        with pytest.raises(MemoryError, match=rf"merging 3 experts needs .* GiB, cpu has 0.00 GiB free .*{why}$"):
            merged(models, average, tmp_path / "out.safetensors", per_tensor=per_tensor)
    check_fits(80, "just fits")
    with pytest.raises(MemoryError, match="81 images needs"):
        check_fits(81, "81 images")


def test_free_memory_is_a_plausible_number():
    free = free_memory()
    assert 2**20 < free < 2**45


# ---------------------------------------------------------------------------- a published suite


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """The tiny suite, downloaded from a server of its own by the code that loads the real one."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    for variable in ("SAMERGE_ASSETS", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    with HubServer(tiny_hub_folder()) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield load_clip_vit(("mnist", "eurosat"), ("cifar10",), model="ViT-tiny")


def test_a_merged_suite_loads_in_open_clip_and_in_transformers(suite, tmp_path, monkeypatch):
    monkeypatch.setenv("SAMERGE_PRECISION", "float32")  # compare in float32
    transformers = pytest.importorskip("transformers", reason="a development dependency")
    (tmp_path / "merged").mkdir()
    out = merge_suite(
        suite, average, tmp_path / "merged" / "merged.safetensors", lam=1.0, per_tensor=True, recipe="Average"
    )
    taus = task_vectors(suite.theta_0, list(suite.experts.values()))
    images, _ = suite.images("mnist")
    expected = suite.encode(add(suite.theta_0, average(taus)), images)

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'merged'}")
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model.encode_image(images, normalize=True), expected)
        caption = open_clip.SimpleTokenizer()(["a photo"])
        base = suite.heads.clip
        torch.testing.assert_close(
            model.encode_text(caption), base.encode_text(caption)
        )  # the text tower is the base's
    assert preprocess.transforms[-1].mean == suite.config["preprocess_cfg"]["mean"]

    v = suite.config["model_cfg"]["vision_cfg"]
    config = transformers.CLIPVisionConfig(
        hidden_size=v["width"], intermediate_size=2 * v["width"], num_hidden_layers=v["layers"], num_attention_heads=4,
        image_size=32, patch_size=8, projection_dim=24,
    )  # fmt: skip
    hf = transformers.CLIPVisionModelWithProjection(config).eval()
    hf.load_state_dict(to_hf(image_tower(load_params(out))), strict=True)
    with torch.no_grad():
        theirs = torch.nn.functional.normalize(hf(pixel_values=images).image_embeds, dim=-1)
    torch.testing.assert_close(theirs, expected, atol=1e-5, rtol=1e-5)
    assert LazyParams(out).metadata["recipe"] == "Average on vit-tiny: mnist, eurosat; tiny: made by tests/tiny_hub.py"


def test_a_folder_takes_merges_of_one_architecture(suite, tmp_path):
    for name in ("first", "second"):
        merge_suite(suite, average, tmp_path / f"{name}.safetensors", lam=1.0, per_tensor=True, recipe="Average")
    (tmp_path / "open_clip_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"is another model's: choose a folder of its own for third\.safetensors"):
        merge_suite(suite, average, tmp_path / "third.safetensors", lam=1.0, per_tensor=True, recipe="Average")
    assert not (tmp_path / "third.safetensors").exists()


def test_the_published_suite_keeps_the_protocol(suite):
    assert (suite.name, suite.attention_heads, list(suite.experts)) == ("vit-tiny", 4, ["mnist", "eurosat"])
    assert {t: task.kind for t, task in suite.tasks.items()} == {"mnist": "id", "eurosat": "id", "cifar10": "ood"}
    assert "proj" not in suite.theta_0
    assert suite.theta_0.structure == suite.experts["mnist"].structure
    assert suite.heads["eurosat"].shape == (10, 24)
    torch.testing.assert_close(suite.heads["eurosat"].norm(dim=1), torch.ones(10))
    own = scores(suite, suite.experts["mnist"], tasks=["mnist"])["mnist"]
    assert own > 90 > 50 > scores(suite, suite.theta_0, tasks=["mnist"])["mnist"]
    images, labels = suite.images("mnist", n=20)
    assert images.shape == (20, 3, 32, 32)
    assert labels.bincount().tolist() == [2] * 10  # balanced
    with pytest.raises(ValueError, match="task: got 'imagenet', expected one of"):
        load_clip_vit(("imagenet",))
    with pytest.raises(ValueError, match="tasks: got 9, expected 8, 14, 20"):
        load_clip_vit(9)
    with pytest.raises(ValueError, match="model: got 'ViT-H', expected one of ViT-B-32"):
        load_clip_vit(model="ViT-H")


def test_lora_experts_and_a_limited_test_set(suite):
    lora = load_clip_vit(("mnist", "eurosat"), (), model="ViT-tiny", lora=True, per_class=3)
    assert lora.family == "tiny: made by tests/tiny_hub.py, at most 3 images of each class"
    assert len(lora.images("mnist")[1]) == 30
    assert len(lora.images("mnist", "train")[1]) == 70  # of 80; the first of each class is validation
    tau = task_vectors(lora.theta_0, [lora.experts["mnist"]])[0]
    key = "transformer.resblocks.1.attn.in_proj_weight"
    full = suite.experts["mnist"][key] - suite.theta_0[key]
    for update, whole in zip(tau[key].chunk(3), full.chunk(3), strict=True):  # the best rank-4 copy of each
        assert torch.linalg.matrix_rank(update, atol=1e-4) == 4
        S = torch.linalg.svdvals(whole)
        torch.testing.assert_close((whole - update).norm(), S[4:].norm(), atol=1e-4, rtol=1e-3)
    assert not tau["transformer.resblocks.1.mlp.c_fc.weight"].any()


def test_an_expert_with_another_activation_is_refused(suite, tmp_path, monkeypatch):
    stick = tmp_path / "stick" / "samerge-edu" / "tiny-clip_mnist"
    stick.mkdir(parents=True)
    (stick / "config.json").write_text(json.dumps({"hidden_act": "gelu"}), encoding="utf-8")
    monkeypatch.setenv("SAMERGE_ASSETS", str(tmp_path / "stick"))
    with pytest.raises(ValueError, match="tiny-clip_mnist: got weights trained with 'gelu', expected 'quick_gelu'"):
        load_clip_vit(("mnist",), (), model="ViT-tiny")


def test_a_damaged_expert_is_refused(suite, tmp_path, monkeypatch):
    stick = tmp_path / "stick" / "samerge-edu" / "tiny-clip_mnist"
    stick.mkdir(parents=True)
    whole = (tiny_hub_folder() / "samerge-edu/tiny-clip_mnist/model.safetensors").read_bytes()
    (stick / "model.safetensors").write_bytes(whole[:-100])
    monkeypatch.setenv("SAMERGE_ASSETS", str(tmp_path / "stick"))
    with pytest.raises(ValueError, match=r"model.safetensors is not a readable safetensors file"):
        load_clip_vit(("mnist",), (), model="ViT-tiny")
    save_file({"w": torch.ones(2)}, stick / "model.safetensors")
    with pytest.raises(ValueError, match="not a CLIP vision model"):
        load_clip_vit(("mnist",), (), model="ViT-tiny")


# ---------------------------------------------------------------------------- GPU

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@cuda
def test_merging_on_the_gpu_gives_the_same_file_content(models, tmp_path):
    on_cpu = load_params(merged(models, average, tmp_path / "cpu.safetensors"))
    on_gpu = load_params(merged(models, average, tmp_path / "gpu.safetensors", device="cuda"))
    for k in on_cpu:
        torch.testing.assert_close(on_gpu[k], on_cpu[k], atol=1e-6, rtol=1e-6)


@pytest.mark.gpu
@cuda
def test_encoding_on_the_gpu_gives_the_same_features(suite):
    on_gpu = load_clip_vit(("mnist",), (), model="ViT-tiny", device="cuda")
    images, _ = suite.images("mnist")
    expected = suite.encode(suite.experts["mnist"], images)
    got = on_gpu.encode(on_gpu.experts["mnist"], on_gpu.images("mnist")[0]).cpu()
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
