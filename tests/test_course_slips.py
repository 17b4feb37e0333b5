"""Every program that differs from a solution in one place."""

import torch

from samerge_edu.course.slips import SAID_OF_A_SLIP, WHAT_IS_RETURNED, slips


def normalised(x, y, dim=1):
    """x / |x| + 0 * y"""
    size = x.abs().sum(dim=dim, keepdim=True)
    return x / size if size.min() > 0 else 0 * y


X, Y = torch.tensor([[3.0, -1.0], [2.0, 2.0]]), torch.ones(2, 2)


def changes() -> dict[str, list]:
    found: dict[str, list] = {}
    for slip in slips(normalised):
        found.setdefault(slip.change, []).append(slip)
    return found


def test_one_slip_for_each_place_where_something_can_go_wrong():
    assert {
        ".abs() dropped",
        "sum -> mean",
        "dim= dropped",
        "keepdim= dropped",
        "True -> False",
        "/ -> *",
        "/ exchanged",
        "> -> >=",
        "> -> <",
        "if exchanged",
        "min -> max",
        "x -> y",
        "y -> x",
        "0 -> 1",
        "other dtype",
        "as list",
        "negated",
    } <= changes().keys()


def test_a_slip_differs_from_the_solution_in_that_place_alone():
    [missing] = changes()[".abs() dropped"]
    assert torch.equal(missing.function(X, Y), X / X.sum(dim=1, keepdim=True))
    assert missing.line == "size = x.abs().sum(dim=dim, keepdim=True)"
    assert missing.says == f"{SAID_OF_A_SLIP} `abs` is missing."
    [swapped] = changes()["/ -> *"]
    assert torch.equal(swapped.function(X, Y), X * X.abs().sum(dim=1, keepdim=True))
    assert torch.equal(normalised(X, Y), X / X.abs().sum(dim=1, keepdim=True)), "the solution itself stays"


def test_the_docstring_is_no_place_for_a_slip():
    assert all("|x|" not in slip.line for slip in slips(normalised))


def test_what_is_returned_may_have_another_form():
    forms = {s.change: s.function(X, Y) for s in slips(normalised) if s.line == WHAT_IS_RETURNED}
    assert forms["other dtype"].dtype == torch.float64
    assert isinstance(forms["as list"], list)
    assert torch.equal(forms["transposed"], normalised(X, Y).T)
    assert torch.equal(forms["negated"], -normalised(X, Y))
