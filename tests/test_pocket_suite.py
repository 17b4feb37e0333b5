"""The shipped weights: they load as any local CLIP, they are what their metadata says, and they meet every band."""

import json

import open_clip
import pytest
import torch
from PIL import Image

from samerge_edu import doctor
from samerge_edu.evaluate import accuracy, provenance
from samerge_edu.files import LazyParams
from samerge_edu.params import check_same_structure, flatten, task_vectors
from samerge_edu.suites import load_suite
from samerge_edu.suites.pocket.captions import WordTokenizer
from samerge_edu.suites.pocket.suite import OTHER_BASES, WEIGHTS, load_clip, load_pocket_base
from samerge_edu.suites.pocket.tasks import ID_TASKS, OOD_TASKS, draw
from samerge_edu.suites.pocket.training import all_captions, normalise


@pytest.fixture(scope="module")
def suite():
    return load_suite("pocket")


def test_every_band_is_met_from_the_weights(suite):
    """Measured anew, not read from a file. Targets are shown by the doctor and do not count here."""
    missed = [b for b in doctor.bands(suite) if doctor.outside(b) and not doctor.is_target(b)]
    assert not missed


def test_all_weights_together_are_under_60_mb():
    assert sum(f.stat().st_size for f in WEIGHTS.rglob("*") if f.is_file()) < 60e6


def test_tasks_and_experts(suite):
    assert tuple(suite.id_tasks) == ID_TASKS
    assert tuple(suite.ood_tasks) == OOD_TASKS
    check_same_structure([suite.theta_0, *suite.experts.values()], what="model")


def test_the_base_loads_through_open_clip_and_sees_what_the_suite_sees(suite, monkeypatch):
    monkeypatch.setenv("SAMERGE_PRECISION", "float32")  # compare in float32
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{WEIGHTS / 'base'}")
    images, _ = draw("signs", "test", range(5))
    pictures = torch.stack([preprocess(Image.fromarray(image.transpose(1, 2, 0))) for image in images])
    torch.testing.assert_close(pictures, normalise(images), atol=1e-6, rtol=0)
    with torch.inference_mode():
        ours = model.eval().encode_image(pictures, normalize=True)
    torch.testing.assert_close(suite.encode(suite.theta_0, pictures), ours)


def test_encoding_changes_no_module_and_no_parameter(suite):
    before = {k: v.clone() for k, v in suite.visual.state_dict().items()}
    theta = {k: v.clone() for k, v in suite.theta_0.items()}
    suite.encode(theta, suite.images("digits", "val", 3)[0])
    assert all(torch.equal(before[k], v) for k, v in suite.visual.state_dict().items())
    assert all(torch.equal(theta[k], suite.theta_0[k]) for k in theta)


@pytest.mark.parametrize("task", ["digits", "textures"])
def test_metadata_tells_the_truth(suite, task):
    metadata = suite.experts[task].metadata
    assert "GELU (not QuickGELU)" in metadata["architecture"]
    assert {"recipe", "command", "licence"} <= metadata.keys()
    told = json.loads(metadata["test_accuracy"])[task]
    assert accuracy(suite, dict(suite.experts[task]), task) == pytest.approx(told, abs=1.0)  # other CPUs, fp16 weights


@pytest.mark.parametrize("rank", [16, 4])
def test_lora_experts_are_low_rank_and_good(rank):
    lora = load_suite("pocket-lora" if rank == 16 else "pocket-lora-4")
    assert tuple(lora.experts) == ID_TASKS
    tau = task_vectors(lora.theta_0, [lora.experts["signs"]])[0]
    key = "transformer.resblocks.2.mlp.c_fc.weight"
    assert torch.linalg.matrix_rank(tau[key].double(), rtol=1e-4) <= rank
    assert not tau["conv1.weight"].any()
    assert accuracy(lora, lora.experts["signs"], "signs", n=200) > 95


def test_small_suites():
    weak, similar, other = (load_suite(f"pocket-{name}") for name in ("weak", "similar", "other"))
    assert list(weak.experts) == ["signs", "land_cover"]
    assert sorted(similar.experts) == ["signs_dusk", "signs_noon"]
    assert accuracy(similar, dict(similar.experts["signs_dusk"]), "signs_noon", n=100) > 80  # similar, indeed
    assert list(other.experts) == ["digits"]
    full = load_suite("pocket")
    assert accuracy(weak, weak.theta_0, "flags", n=200) < accuracy(full, full.theta_0, "flags", n=200)


@pytest.mark.parametrize("which", OTHER_BASES)
def test_other_bases_are_what_their_metadata_says(which):
    """Each with its own heads, on images of all kinds: rounded to int8 or not, as it was measured."""
    base = load_pocket_base(which)
    (file,) = (WEIGHTS / which / "base").glob("*.safetensors")
    told = json.loads(LazyParams(file).metadata["test_accuracy"])
    for task in ("digits", "land_cover", "flags"):
        assert accuracy(base, base.theta_0, task) == pytest.approx(told[task], abs=1.0)
    assert list(base.experts) == (["digits"] if which == "other" else [])


def test_an_expert_in_int8_is_as_good_as_it_says_and_stands_on_its_own_base():
    at_home, abroad = load_pocket_base("other"), load_suite("pocket-other")
    expert = at_home.experts["digits"]
    told = json.loads(expert.metadata["test_accuracy"])["digits"]
    assert accuracy(at_home, expert, "digits") == pytest.approx(told, abs=0.5)
    assert all(torch.equal(expert[k], abroad.experts["digits"][k]) for k in expert)
    tau = task_vectors(at_home.theta_0, [dict(expert)])[0]
    assert 0.02 < flatten(tau).norm() / flatten(at_home.theta_0).norm() < 0.1
    assert flatten(task_vectors(abroad.theta_0, [dict(expert)])[0]).norm() > flatten(abroad.theta_0).norm()
    with pytest.raises(ValueError, match="base: got 'third', expected one of other, second"):
        load_pocket_base("third")


def test_images_are_kept_and_wrong_names_refused(suite):
    assert suite.images("digits", "val", 5)[0] is suite.images("digits", "val", 5)[0]
    with pytest.raises(ValueError, match="task: got 'numbers', expected one of digits"):
        suite.images("numbers", "val")
    with pytest.raises(ValueError, match="split: got 'dev', expected train, val or test"):
        suite.images("digits", "dev")
    with pytest.raises(ValueError, match="suite: got 'purse', expected one of pocket"):
        load_suite("purse")


def test_a_caption_finds_its_image(suite):
    images, labels = suite.images("object_colours", "test", 40)
    names = suite.tasks["object_colours"].classes
    found = suite.encode(suite.theta_0, images) @ suite.read([f"a {name} object" for name in names]).T
    assert (found.argmax(dim=1) == labels).double().mean() > 0.8


def test_tokenizer_knows_every_caption_and_names_neighbours_of_a_stranger():
    model, tokenize = load_clip(WEIGHTS / "base")
    captions = all_captions()
    tokens = tokenize(captions)
    assert len({tuple(row.tolist()) for row in tokens}) == len(set(captions))
    assert tokens.argmax(dim=1).min() > 0  # <end> is the highest number: open_clip reads the answer there
    assert model.token_embedding.num_embeddings == tokenize.vocab_size
    with pytest.raises(ValueError, match=r"'circel' is not among .* did you mean circle"):
        tokenize("a circel")
    with pytest.raises(ValueError, match="got 20 words, expected at most 14"):
        tokenize("a " * 20)
    assert WordTokenizer.of_captions(captions).words == tokenize.words


def test_images_are_encoded_in_float32_unless_asked_otherwise(suite, monkeypatch):
    images = suite.images("digits", "test", 20)[0]
    monkeypatch.delenv("SAMERGE_PRECISION", raising=False)
    usual = suite.encode(suite.theta_0, images)
    monkeypatch.setenv("SAMERGE_PRECISION", "float32")
    assert torch.equal(suite.encode(suite.theta_0, images), usual)
    monkeypatch.setenv("SAMERGE_PRECISION", "bfloat16")
    coarse = suite.encode(suite.theta_0, images)
    assert coarse.dtype == torch.float32
    assert 1e-4 < (coarse - usual).abs().max() < 0.05
    assert provenance()["precision"] == "bfloat16"
    monkeypatch.setenv("SAMERGE_PRECISION", "half")
    with pytest.raises(ValueError, match="SAMERGE_PRECISION: got 'half', expected float32 or bfloat16"):
        suite.encode(suite.theta_0, images)
