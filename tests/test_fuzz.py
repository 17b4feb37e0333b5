"""A small fuzz in every test run; the large one is `python tests/fuzz_files.py`."""

import random

import pytest
import torch
from fuzz_files import BAD, as_it_says, damaged, fuzz, fuzz_adapter, good_model, outcome, same
from safetensors.torch import save

from samerge_edu.lora import read_peft


@pytest.mark.parametrize("seed", [0, 1])
def test_damaged_files_are_refused_in_plain_words_or_read_as_what_they_are(seed):
    counts = fuzz(models=100, adapters=150, seed=seed)
    for what, tally in counts.items():
        assert not BAD & tally.keys(), what
        assert tally["accepted"] >= 10, "a fuzz that damages everything beyond recognition shows nothing"
        assert tally["refused"] >= 50


def test_the_fuzz_would_notice(tmp_path):
    """Its own verdicts: foreign and nameless errors, and adapters that are not what was read."""

    def fail(error):
        raise error

    assert outcome(lambda: 1, "x")[1] == "accepted"
    assert outcome(lambda: fail(KeyError("x")), "x")[1] == "foreign"
    assert outcome(lambda: fail(ValueError("nothing said")), "x")[1] == "nameless"
    assert outcome(lambda: fail(ValueError("in x")), "x")[1] == "refused"
    rng, wrong = random.Random(0), 0
    for _ in range(60):
        if next(fuzz_adapter(tmp_path / "a", rng)) == "accepted":
            right = read_peft(tmp_path / "a")
            key = next(iter(right))
            A, B, scale = right[key]
            for lie in (
                right[key]._replace(scale=2 * scale + 1),
                right[key]._replace(A=A + 1),
                right[key]._replace(B=-B),
            ):
                assert not as_it_says(tmp_path / "a", right | {key: lie})
            wrong += 1
    assert wrong > 5
    whole = save(good_model())
    assert sum(damaged(whole, rng) != whole for _ in range(50)) > 40
    assert not same(torch.ones(2), torch.ones(2).double())
