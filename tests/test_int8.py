"""int8 with a scale a row: by hand, its error bound, round trips through a file, and what is refused."""

import pytest
import torch
from hypothesis import given, settings
from some_models import models

from samerge_edu.files import save_params
from samerge_edu.int8 import SCALE, LazyInt8, dequantize, quantize, rounded, save_int8
from samerge_edu.params import structure

GENERATOR = torch.Generator().manual_seed(0)
MODEL = {
    "conv": torch.randn(4, 3, 2, 2, generator=GENERATOR),
    "bias": torch.randn(4, generator=GENERATOR),
    "logit_scale": torch.tensor(4.6),
    "W": torch.randn(3, 5, generator=GENERATOR) * torch.tensor([[1e-6], [1.0], [1e3]]),
}


def test_by_hand():
    Q, s = quantize(torch.tensor([[1.27, -0.5, 0.004], [0.0, 0.0, 0.0]]))
    assert Q.tolist() == [[127, -50, 0], [0, 0, 0]]
    torch.testing.assert_close(s, torch.tensor([0.01, 0.0]))
    torch.testing.assert_close(dequantize(Q, s), torch.tensor([[1.27, -0.5, 0.0], [0.0, 0.0, 0.0]]))


def test_the_largest_entry_is_127_of_its_row_also_where_the_scale_has_no_digits():
    Q, s = quantize(torch.tensor([[5.0, -5.0], [3e-4, -1e-4]]))
    assert Q.tolist() == [[127, -127], [127, -42]]
    torch.testing.assert_close(s, torch.tensor([5 / 127, 3e-4 / 127]))
    small = 2.0**-149  # the smallest float32: 190 / 127 of it is stored as 1 of it, and 190 steps are more than a byte
    Q, s = quantize(torch.tensor([[190 * small, -190 * small]]))
    assert (Q.tolist(), s.tolist()) == ([[127, -127]], [small])


def test_what_was_loaded_does_not_change_with_the_file(tmp_path):
    save_int8(path := tmp_path / "m.safetensors", MODEL | {"bias": torch.ones(5000)})
    loaded, whole = LazyInt8(path).read_all(), path.read_bytes()
    with path.open("r+b") as f:  # in place, as other programs write
        f.write(b"\xff" * len(whole))
    assert (loaded["bias"] == 1).all()


def test_no_entry_is_wrong_by_more_than_half_a_step_of_its_own_row():
    for W in (MODEL["W"], MODEL["conv"]):
        step = W.flatten(1).abs().amax(dim=1) / 127
        wrong = (dequantize(*quantize(W)) - W).flatten(1).abs().amax(dim=1)
        assert (wrong <= 0.5001 * step).all()
        assert (wrong > 0.1 * step).any(), "the bound says something"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats(dtype):
    Q, s = quantize(MODEL["W"].to(dtype))
    assert Q.dtype == torch.int8
    assert s.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_a_file_gives_back_what_was_rounded_and_vectors_exactly(tmp_path):
    save_int8(path := tmp_path / "m.safetensors", MODEL, {"recipe": "x"})
    lazy = LazyInt8(path)
    assert lazy.metadata == {"recipe": "x"}
    assert structure(lazy) == structure(MODEL)
    assert lazy.buffers == []
    whole = lazy.read_all()
    for key, tensor in MODEL.items():
        expected = tensor if tensor.ndim < 2 else dequantize(*quantize(tensor))
        assert torch.equal(lazy[key], expected)
        assert torch.equal(whole[key], expected)
        assert torch.equal(rounded(MODEL)[key], expected)
    assert LazyInt8(path, dtype=torch.float16)["W"].dtype == torch.float16
    with pytest.raises(KeyError):
        lazy["W" + SCALE]
    large = {"W": torch.randn(500, 400)}
    save_int8(path, large)
    assert path.stat().st_size < 500 * 400 + 4 * 500 + 500


@settings(deadline=None, max_examples=30)
@given(models())
def test_a_second_round_trip_changes_nothing_more(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("int8") / "m.safetensors"
    model = model | {"W": torch.ones(2, 2)}
    save_int8(path, model)
    once = LazyInt8(path).read_all()
    save_int8(path, once)
    for key, tensor in LazyInt8(path).read_all().items():
        torch.testing.assert_close(tensor, once[key])


def test_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(ValueError, match="key 'W': got 1 entries that are NaN or infinite"):
        save_int8(path, {"W": torch.tensor([[1.0, torch.nan]])})
    with pytest.raises(ValueError, match="key 'ids': got integer buffer"):
        save_int8(path, {"ids": torch.arange(3)})
    save_params(path, {"w": torch.ones(2, 2)})
    with pytest.raises(ValueError, match=r"got no '...\.int8_scale', expected a file that save_int8"):
        LazyInt8(path)
