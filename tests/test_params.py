"""Checks and arithmetic of models: every refusal by its words."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from some_models import FLOATS, equal, models

from samerge_edu import params
from samerge_edu.files import LazyParams, save_params
from samerge_edu.params import (
    add,
    block_index,
    check_finite,
    check_same_structure,
    flatten,
    lazy_task_vectors,
    own,
    pieces,
    pipe,
    split_buffers,
    stacked,
    structure,
    task_vectors,
    total,
    unflatten,
    working,
)


def base_and_experts(N=3, dtype=torch.float32):
    g = torch.Generator().manual_seed(0)
    shapes = {"w": (4, 3), "kernel": (2, 3, 2, 2), "bias": (4,), "scale": (), "none": (0, 2)}
    theta_0 = {k: torch.randn(s, generator=g).to(dtype) for k, s in shapes.items()}
    thetas = [
        {k: v + (0.1 * (n + 1) * torch.randn(v.shape, generator=g)).to(dtype) for k, v in theta_0.items()}
        for n in range(N)
    ]
    return theta_0, thetas


def test_split_buffers_parts_a_state_dict_without_loss():
    state_dict = {"w": torch.ones(2).half(), "ids": torch.arange(3), "mask": torch.tensor([True]), "b": torch.zeros(1)}
    floats, rest = split_buffers(state_dict)
    assert (list(floats), list(rest)) == (["w", "b"], ["ids", "mask"])
    assert all(({**floats, **rest})[k] is v for k, v in state_dict.items())


# ---------------------------------------------------------------------------- checks


def test_the_same_structure_in_another_order_is_fine():
    a = {"w": torch.ones(2), "b": torch.ones(3)}
    check_same_structure([a, {"b": torch.zeros(3), "w": torch.zeros(2)}])


ODD_ONES = {
    "missing key 'w'": {"b": torch.ones(3)},
    r"extra key 'x' \(2 extra in all\)": {
        "w": torch.ones(2),
        "b": torch.ones(3),
        "x": torch.ones(1),
        "y": torch.ones(1),
    },
    r"key 'w': got shape \(2, 1\), expected \(2,\)": {"w": torch.ones(2, 1), "b": torch.ones(3)},
    r"key 'w': got dtype torch\.float16, expected torch\.float32": {"w": torch.ones(2).half(), "b": torch.ones(3)},
    r"key 'w': got integer buffer torch\.int64, .*split_buffers": {"w": torch.ones(2).long(), "b": torch.ones(3)},
    r"key 'w': got integer buffer torch\.bool": {"w": torch.ones(2).bool(), "b": torch.ones(3)},
    r"key 'w': got integer buffer torch\.int32": {"w": torch.ones(2).int(), "b": torch.ones(3)},
    r"key 'w': got integer buffer torch\.uint8": {"w": torch.ones(2).byte(), "b": torch.ones(3)},
    r"key 'w': got complex tensor torch\.complex64": {"w": torch.ones(2) * 1j, "b": torch.ones(3)},
}


@pytest.mark.parametrize("message", ODD_ONES)
def test_structures_that_differ_are_refused_by_name(message):
    model = {"w": torch.ones(2), "b": torch.ones(3)}
    with pytest.raises(ValueError, match=f"^task vector 2.*{message}"):
        check_same_structure([model, model, ODD_ONES[message]])
    with pytest.raises(ValueError, match=f"^model 2.*{message}"):
        task_vectors(model, [model, ODD_ONES[message]])
    with pytest.raises(ValueError, match=r"\(model 0 is the base, model n is expert n\)"):
        lazy_task_vectors(model, [model, ODD_ONES[message]])


def test_an_integer_buffer_in_the_first_model_is_refused_too():
    model = {"ids": torch.arange(3)}
    with pytest.raises(ValueError, match="task vector 0, key 'ids': got integer buffer"):
        check_same_structure([model])


def test_too_few_models_and_one_without_a_list():
    model = {"w": torch.ones(2)}
    with pytest.raises(ValueError, match="got 0 task vectors, expected at least 1"):
        check_same_structure([])
    with pytest.raises(ValueError, match="got 1 task vectors, expected at least 2"):
        check_same_structure([model], at_least=2)
    check_same_structure([model, model], at_least=2)
    with pytest.raises(ValueError, match="got one task vector, expected a list of them: put it in brackets"):
        check_same_structure(model)
    with pytest.raises(ValueError, match="task vector 0 has no tensors"):
        check_same_structure([{}])
    for make in (task_vectors, lazy_task_vectors):
        with pytest.raises(ValueError, match="got 0 experts, expected at least 1"):
            make(model, [])
        with pytest.raises(ValueError, match="got one expert, expected a list of them"):
            make(model, model)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_not_finite_is_named(bad, dtype):
    theta_0, thetas = base_and_experts(dtype=dtype)
    thetas[1]["kernel"][1, 2, 0, 1] = bad
    with pytest.raises(ValueError, match="expert 1, key 'kernel': got 1 entries that are NaN or infinite"):
        task_vectors(theta_0, thetas)
    with pytest.raises(ValueError, match="task vector 1, key 'kernel': got 1 entries"):
        check_finite(thetas)


def test_two_infinities_that_cancel_are_found():
    with pytest.raises(ValueError, match="task vector 0, key 'w': got 2 entries"):
        check_finite([{"w": torch.tensor([float("inf"), 1.0, -float("inf")])}])


def test_large_finite_numbers_pass_though_their_sum_overflows():
    check_finite([{"w": torch.full((3,), 3e38)}, {"w": torch.full((3,), 6e4)}])


# ---------------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize("make", [task_vectors, lazy_task_vectors])
@pytest.mark.parametrize("dtype", FLOATS)
def test_task_vectors_are_differences(make, dtype):
    theta_0, thetas = base_and_experts(dtype=dtype)
    for tau, theta in zip(make(theta_0, thetas), thetas, strict=True):
        assert list(tau) == list(theta_0)
        assert len(tau) == len(theta_0)
        for key in theta_0:
            wide = torch.float64 if dtype == torch.float64 else torch.float32
            assert torch.equal(tau[key], theta[key].to(wide) - theta_0[key].to(wide))
            assert structure(tau)[key] == (tuple(theta_0[key].shape), wide) == (tuple(tau[key].shape), tau[key].dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_base_plus_task_vector_is_the_expert(dtype):
    theta_0, thetas = base_and_experts(dtype=dtype)
    theta = add(theta_0, task_vectors(theta_0, thetas)[2])
    for key in theta_0:
        assert theta[key].dtype == dtype
        torch.testing.assert_close(theta[key], thetas[2][key])


def test_lazy_task_vectors_of_files_are_those_of_the_models(tmp_path):
    theta_0, thetas = base_and_experts()
    for n, model in enumerate([theta_0, *thetas]):
        save_params(tmp_path / f"{n}.safetensors", model)
    files = [LazyParams(tmp_path / f"{n}.safetensors") for n in range(4)]
    for lazy, tau in zip(lazy_task_vectors(files[0], files[1:]), task_vectors(theta_0, thetas), strict=True):
        assert equal({k: lazy[k] for k in tau}, tau)


def test_add_scales_the_update():
    theta_0 = {"w": torch.tensor([1.0, 2.0]), "b": torch.tensor(3.0)}
    tau = {"b": torch.tensor(1.0), "w": torch.tensor([0.5, -1.0])}
    assert equal(add(theta_0, tau, lam=-2.0), {"w": torch.tensor([0.0, 4.0]), "b": torch.tensor(1.0)})
    assert equal(add(theta_0, tau, lam=0.0), theta_0)
    assert equal(theta_0, {"w": torch.tensor([1.0, 2.0]), "b": torch.tensor(3.0)})


def test_add_takes_half_precision_sums_in_float32():
    """In 16 bits 2048 + 1 is 2048; the update 0.75 + 0.75 must not be rounded on the way."""
    theta = add({"w": torch.tensor([2048.0]).half()}, {"w": torch.tensor([0.75])}, lam=2.0)
    assert theta["w"].dtype == torch.float16
    assert theta["w"].item() == 2050.0  # 2049.5 is rounded once, to the next even float16


@pytest.mark.parametrize("lam", [float("nan"), float("inf")])
def test_add_refuses_a_scale_that_is_no_number(lam):
    with pytest.raises(ValueError, match=f"lam: got {lam}, expected a finite number"):
        add({"w": torch.ones(1)}, {"w": torch.ones(1)}, lam)


def test_add_refuses_what_does_not_fit():
    theta_0 = {"w": torch.ones(2), "b": torch.ones(1)}
    with pytest.raises(ValueError, match="key 'b' is missing from the update"):
        add(theta_0, {"w": torch.ones(2)})
    with pytest.raises(ValueError, match="key 'x' is missing from the base"):
        add(theta_0, theta_0 | {"x": torch.ones(1)})
    with pytest.raises(ValueError, match=r"key 'w': got shape \(1, 2\) in the update, expected \(2,\)"):
        add(theta_0, theta_0 | {"w": torch.ones(1, 2)})


def test_total_is_taken_in_working_precision_and_changes_nobody():
    experts = [{"w": torch.tensor([n, 2.0**-10]).bfloat16()} for n in (1.0, 3.0, 5.0)]
    assert total(experts, "w").tolist() == [9.0, 3 * 2.0**-10]
    assert total(experts, "w").dtype == torch.float32
    ones = [{"w": torch.ones(2)} for _ in range(2)]
    assert total(ones, "w").tolist() == [2.0, 2.0]
    assert all(tau["w"].tolist() == [1.0, 1.0] for tau in ones)


def test_working_and_stacked_widen_half_precision_only():
    assert [working(torch.ones(1, dtype=d)).dtype for d in FLOATS] == [torch.float32] * 3 + [torch.float64]
    experts = [{"w": torch.tensor([n, 2.0]).bfloat16()} for n in (1.0, 3.0)]
    assert stacked(experts, "w").tolist() == [[1.0, 2.0], [3.0, 2.0]]
    assert stacked(experts, "w").dtype == torch.float32
    alone = {"w": torch.ones(2)}
    stacked([alone], "w").mul_(0)  # always a copy
    assert alone["w"].tolist() == [1.0, 1.0]


@settings(deadline=None)
@given(models())
def test_unflatten_undoes_flatten(model):
    model = {k: v.float() for k, v in model.items()}
    assert equal(unflatten(flatten(model), like=model), model)


@settings(deadline=None)
@given(models(), st.randoms(use_true_random=False))
def test_flatten_does_not_depend_on_the_order_of_keys(model, random):
    names = list(model)
    random.shuffle(names)
    assert torch.equal(flatten({k: model[k] for k in names}), flatten(model))


def test_flatten_goes_by_name_and_reads_strided_tensors_row_by_row():
    assert flatten({"b": torch.ones(2), "a": torch.arange(4.0).reshape(2, 2).T}).tolist() == [0, 2, 1, 3, 1, 1]


def test_unflatten_keeps_dtypes_and_refuses_another_length():
    like = {"w": torch.zeros(2, 1).half(), "b": torch.zeros(())}
    assert equal(
        unflatten(torch.tensor([1.0, 2.0, 3.0]), like),
        {"w": torch.tensor([[2.0], [3.0]]).half(), "b": torch.tensor(1.0)},
    )
    with pytest.raises(ValueError, match=r"got a vector of shape \(2,\), expected \(3,\)"):
        unflatten(torch.ones(2), like)


# ---------------------------------------------------------------------------- names and recipes


@pytest.mark.parametrize(
    ("key", "block"),
    [
        ("visual.transformer.resblocks.0.attn.in_proj_weight", 0),
        ("transformer.resblocks.11.ln_1.bias", 11),
        ("vision_model.encoder.layers.23.mlp.fc2.weight", 23),
        ("layers.3.weight", 3),
        ("visual.conv1.weight", None),
        ("visual.ln_post.weight", None),
        ("players.3.weight", None),
        ("layers.3", None),
    ],
)
def test_block_index(key, block):
    assert block_index(key) == block


def test_pipe_runs_in_reading_order_and_shows_its_steps():
    recipe = pipe(str, len)
    assert recipe(12345) == 5
    assert recipe.steps == (str, len)
    with pytest.raises(ValueError, match="got 0 steps, expected at least 1"):
        pipe()


def test_what_is_ours_may_be_changed_and_the_callers_stays():
    tau = {"w": torch.arange(6.0).reshape(2, 3).T}
    mine = own(tau, "w")
    mine.add_(1)
    assert mine.is_contiguous()
    assert torch.equal(tau["w"], torch.arange(6.0).reshape(2, 3).T)


def test_what_is_computed_at_each_reading_is_not_copied_again():
    read = []

    class Fresh(dict):
        fresh = True

        def __getitem__(self, key):
            read.append(torch.ones(2))
            return read[-1]

    assert own(Fresh(w=None), "w").data_ptr() == read[0].data_ptr()


@pytest.mark.parametrize("piece", [1, 4, 6, 100])
def test_pieces_in_a_row_are_the_tensor(monkeypatch, piece):
    monkeypatch.setattr(params, "PIECE", piece)
    models = [
        {"w": torch.arange(6.0).reshape(2, 3).T + n, "s": torch.tensor(1.0), "none": torch.ones(0, 2)} for n in (0, 9)
    ]
    for key in models[0]:
        row = torch.cat(list(pieces(models, key)), dim=1)
        assert torch.equal(row.view(stacked(models, key).shape), stacked(models, key))
