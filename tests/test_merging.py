"""`se.merge`: any checkpoints, any method; what is kept, what is refused, what is said."""

import copy
import inspect
from functools import partial

import pytest
import torch
from architectures import ARCHITECTURES, architecture, expert_of, floats
from safetensors.torch import save_model
from tiny_suite import TinySuite
from torch import nn

import samerge_edu as se
from samerge_edu.catalogue import method_rows
from samerge_edu.merging import knobs_of, with_knobs
from samerge_edu.methods import DATA_METHODS, LORA_METHODS, METHODS, Checkpoints, Method
from samerge_edu.params import add, task_vectors


def problem(name="timm ViT", n=2):
    model, example = architecture(name)
    return model, [expert_of(model, seed) for seed in range(1, n + 1)], example


# ---------------------------------------------------------------------------- the arithmetic


@pytest.mark.parametrize("method", ["TIES", "Task Arithmetic", "LwPTV + TIES", "Iso-C"])
def test_it_is_the_published_recipe_at_the_published_scale(method):
    model, experts, _ = problem()
    theta_0 = floats(model)
    taus = task_vectors(theta_0, experts)
    expected = add(theta_0, METHODS[method].recipe(None)(taus), METHODS[method].lam)
    theta = se.merge(model, experts, method)
    assert list(theta) == list(model.state_dict())
    for key in theta_0:
        torch.testing.assert_close(theta[key], expected[key], rtol=1e-6, atol=1e-7)
    assert theta.record["lam"] == METHODS[method].lam
    assert theta.record["lam_from"] == "paper"


def test_the_scale_given_is_used_and_said():
    model, experts, _ = problem()
    theta = se.merge(model, experts, "task arithmetic", lam=0.0)
    assert theta.record["lam_from"] == "argument"
    assert all(torch.equal(theta[k], v) for k, v in model.state_dict().items())


def test_what_is_kept_integer_buffers_dtype_order_and_no_gradient():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2)).to(torch.bfloat16)
    model[1].num_batches_tracked.fill_(7)
    experts = [copy.deepcopy(model) for _ in range(2)]
    for n, expert in enumerate(experts):
        expert[1].num_batches_tracked.fill_(100 + n)
        with torch.no_grad():
            expert[2].weight.add_(0.01)
    before = copy.deepcopy(model.state_dict())
    theta = se.merge(model, experts, "average")
    assert list(theta) == list(model.state_dict())
    assert theta["1.num_batches_tracked"] == 7
    assert theta.record["from_base"] == ["1.num_batches_tracked"]
    assert {x.dtype for k, x in theta.items() if k != "1.num_batches_tracked"} == {torch.bfloat16}
    assert not any(x.requires_grad for x in theta.values())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    model.load_state_dict(theta)


def test_tied_weights_are_merged_once_and_stay_tied():
    model, experts, _ = problem("T5 encoder")
    theta = se.merge(model, experts, "TIES")
    assert theta["shared.weight"] is theta["encoder.embed_tokens.weight"]
    assert theta.record["tied"] == {"encoder.embed_tokens.weight": "shared.weight"}
    untied = {k: v.clone() for k, v in experts[0].items()}
    untied["encoder.embed_tokens.weight"][0, 0] += 1
    with pytest.raises(ValueError, match=r"expert 1, key 'encoder.embed_tokens.weight': tied to 'shared.weight'"):
        se.merge(model, [untied, experts[1]], "TIES")


def test_files_modules_and_dictionaries_are_the_same_thing(tmp_path):
    model, experts, _ = problem()
    expert = copy.deepcopy(model)
    expert.load_state_dict(experts[0])
    save_model(model, str(tmp_path / "base.safetensors"))
    save_model(expert, str(tmp_path / "expert.safetensors"))
    in_memory = se.merge(floats(model), [experts[0], experts[1]], "ties")
    mixed = se.merge(tmp_path / "base.safetensors", [str(tmp_path / "expert.safetensors"), experts[1]], "ties")
    assert set(mixed) == set(in_memory)
    assert all(torch.equal(mixed[k], in_memory[k]) for k in mixed)
    assert all(torch.equal(a, b) for a, b in zip(expert.state_dict().values(), experts[0].values(), strict=True))


# ---------------------------------------------------------------------------- methods and knobs


def test_rows_are_found_in_any_case_and_a_slip_is_answered():
    assert METHODS["ties"] is METHODS["TIES"]
    with pytest.raises(KeyError, match="method: got 'tise', did you mean TIES"):
        METHODS["tise"]
    with pytest.raises(ValueError, match="method: got 'lwptv', did you mean LwPTV"):
        se.merge({"w": torch.ones(2)}, [{"w": torch.ones(2)}], "lwptv")


def test_a_row_is_callable_on_a_suite_and_on_checkpoints():
    suite = TinySuite()
    thetas = [suite.experts[task] for task in suite.id_tasks]
    on_suite, on_checkpoints = METHODS["TIES"](suite), METHODS["TIES"](suite.theta_0, thetas)
    assert all(torch.equal(on_suite[k], on_checkpoints[k]) for k in suite.theta_0)
    assert METHODS["SA-Merging"](suite).keys() == suite.theta_0.keys()
    with pytest.raises(ValueError, match=r"give the module and an input, se.merge\(..., model=module, example=input\)"):
        METHODS["SA-Merging"](suite.theta_0, thetas)
    with pytest.raises(ValueError, match="here are checkpoints only"):
        Method(lambda s: s.images, 1.0, "", 0)(suite.theta_0, thetas)


def test_knobs_are_set_by_name_and_unknown_ones_listed():
    model, experts, _ = problem()
    theta = se.merge(model, experts, "TIES", density=0.1)
    expected = add(floats(model), se.ties(task_vectors(floats(model), experts), density=0.1))
    assert all(torch.equal(theta[k], expected[k]) for k in expected)
    assert theta.record["knobs"] == {"density": 0.1, "reduce": "mean", "scope": "global"}
    with pytest.raises(
        ValueError, match=r"got knob 'densty', did you mean density\? expected one of density, reduce, scope"
    ):
        se.merge(model, experts, "TIES", densty=0.1)
    with pytest.raises(ValueError, match=r"DARE [+] TIES: got knob 'density', did you mean .*dare_density"):
        se.merge(model, experts, "DARE + TIES", density=0.1)
    both = se.merge(model, experts, "DARE + TIES", dare_density=0.9, ties_density=0.3)
    assert both.record["knobs"] == {
        "dare_density": 0.9, "lazy": False, "ties_density": 0.3, "reduce": "sum", "scope": "global",
    }  # fmt: skip


def test_a_knob_that_is_called_like_the_scale_is_set_by_its_full_name():
    run = METHODS["SVC + Task Arithmetic"].recipe(None)
    assert knobs_of(run)["lam"] != 0.25
    assert knobs_of(with_knobs(run, {"svc_lam": 0.25}))["lam"] == 0.25


def test_setting_a_knob_leaves_the_recipe_as_it_was():
    run = METHODS["DARE + TIES"].recipe(None)
    before = knobs_of(run)
    assert knobs_of(with_knobs(run, {"ties_density": 0.7}))["ties_density"] == 0.7
    assert knobs_of(run) == before


def test_the_catalogue_read_off_the_source_is_what_runs():
    suite = Checkpoints({"w": torch.ones(2, 2)}, flow=lambda theta: None)
    rows = method_rows()
    assert list(rows) == [*METHODS, *LORA_METHODS, *DATA_METHODS]
    for name, method in METHODS.items():
        row = rows[name]
        assert (row["lam"], row["paper"], row["year"], row["needs"], row["per_tensor"]) == (
            method.lam, method.paper, method.year, method.needs, method.per_tensor,
        )  # fmt: skip
        if method.needs == "none":
            running = knobs_of(method.recipe(suite))
            named = {k: getattr(v, "__name__", str(v)) for k, v in running.items()}
            assert {k: str(v).removeprefix("math.") for k, v in row["knobs"].items()} == named, name


def test_every_method_is_at_the_top_level():
    named = {step for row in method_rows().values() for step in row["steps"]} - {"svd", "linear", "cat"}
    assert named <= set(dir(se))
    for name in named:
        assert inspect.getdoc(getattr(se, name))


# ---------------------------------------------------------------------------- what does not fit


def test_bases_that_differ_are_named():
    model, experts, _ = problem()
    far = {
        k: v + 3 * v.std() * torch.randn(v.shape, generator=torch.Generator().manual_seed(9))
        for k, v in experts[0].items()
    }
    with pytest.warns(
        UserWarning, match=r"expert 2 seems to come from another base: .tau. / .theta_0. is [23]\.\d\d at '"
    ):
        se.merge(model, [experts[0], far], "average")
    with pytest.raises(ValueError, match=r"model 2: missing key 'head.weight' .*model n is expert n"):
        se.merge(model, [experts[0], {k: v for k, v in experts[1].items() if k != "head.weight"}])
    with pytest.raises(ValueError, match=r"got dtype torch.float64, expected torch.float32"):
        se.merge(model, [{k: v.double() for k, v in experts[0].items()}])


def test_vocabularies_of_different_size_are_named():
    model, experts, _ = problem("RobertaModel")
    key = "embeddings.word_embeddings.weight"
    longer = experts[0] | {key: torch.cat([experts[0][key], experts[0][key][:2]])}
    with pytest.raises(ValueError, match=rf"expert 2, key '{key}': got 52 rows, expected 50: the vocabularies differ"):
        se.merge(model, [experts[1], longer], "ties")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({"w": torch.ones(1)}, {"w": torch.ones(1)}), "got one expert, expected a list"),
        (({"w": torch.ones(1)}, []), "got 0 experts"),
        (({"w": 3}, [{"w": torch.ones(1)}]), "'w': got int, expected a tensor"),
        (
            ({"w": torch.ones(1)}, [{"w": torch.tensor([float("nan")])}], "ties"),
            "task vector 0, key 'w': got 1 entries",
        ),
        (({"w": torch.ones(1)}, [{"w": torch.ones(1)}], 7), "method: got 7, expected a name, a Method or a function"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        se.merge(*arguments)


def test_sa_merging_of_any_module_and_its_refusal_without_one():
    model, experts, example = problem("RobertaModel")
    with pytest.raises(ValueError, match=r"se.merge\(..., model=module, example=input\)"):
        se.merge(model, experts, "SA-Merging")
    theta = se.merge(model, experts, "SA-Merging", model=model, example=example, T=2)
    kept = (
        theta["encoder.layer.0.output.dense.weight"] != floats(model)["encoder.layer.0.output.dense.weight"]
    ).float()
    assert 0.6 < kept.mean() < 0.9  # two experts, 64 % each
    model.load_state_dict(theta)


# ---------------------------------------------------------------------------- three programs of a researcher


def test_program_1_average_my_two_fine_tuned_vits():
    import timm

    vit = partial(timm.create_model, "vit_tiny_patch16_224", depth=1, num_classes=3)
    base, mine, yours = vit(), vit(), vit()
    for expert in (mine, yours):
        expert.load_state_dict({k: v + 0.001 * torch.randn_like(v) for k, v in base.state_dict().items()})
    base.load_state_dict(se.merge(base, [mine, yours], "TIES", density=0.5))
    assert base(torch.zeros(1, 3, 224, 224)).isfinite().all()


def test_program_2_sa_merging_of_a_language_model_in_front_of_wudi():
    base, experts, ids = problem("LLaMA")
    theta = se.merge(base, experts, "SA-Merging + WUDI", model=base, example=ids, wudi_scope="blocks", steps=3)
    base.load_state_dict(theta)
    assert base(**ids).logits.isfinite().all()


def test_program_3_my_own_method():
    def sign_vote(taus, strength=1.0):
        return {k: strength * torch.stack([t[k].sign() for t in taus]).mean(0) * taus[0][k].abs() for k in taus[0]}

    base, experts, _ = problem("torchvision ViT")
    theta = se.merge(base, experts, sign_vote, lam=0.5, strength=2.0)
    assert theta.record["method"] == "sign_vote"
    assert theta.record["knobs"] == {"strength": 2.0}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_merged_and_loads(name):
    model, experts, example = problem(name)
    for method, options in {"TIES": {}, "SA-Merging": {"model": model, "example": example, "T": 1}}.items():
        model.load_state_dict(se.merge(model, experts, method, **options))
