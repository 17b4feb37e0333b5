"""What every merge must do, and the table of merges that must do it.

To add a method: one line in MERGES (a transform is followed by a merge, so that everything is
`list[Params] -> Params`), and, where a property does not hold by the method's own formula, one line in
EXCEPTIONS with the reason. `test_shared_properties.py` runs each property over each method, and checks
that each exception really is one.
"""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from samerge_edu import contract
from samerge_edu.contract import assert_same, example_taus  # noqa: F401 - tests take both from here
from samerge_edu.merges.actmat import actmat
from samerge_edu.merges.average import average
from samerge_edu.merges.consensus import consensus
from samerge_edu.merges.emr import emr
from samerge_edu.merges.iso import iso_c, iso_cts
from samerge_edu.merges.localize_and_stitch import localize_and_stitch
from samerge_edu.merges.magmax import magmax
from samerge_edu.merges.pcb import pcb
from samerge_edu.merges.svc import svc
from samerge_edu.merges.tact import tact
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.merges.ties import ties
from samerge_edu.merges.tsv_m import tsv_m
from samerge_edu.merges.wudi import wudi, wudi_flow, wudi_optimum
from samerge_edu.params import pipe
from samerge_edu.transforms.breadcrumbs import breadcrumbs
from samerge_edu.transforms.dare import dare
from samerge_edu.transforms.della import della
from samerge_edu.transforms.elect import elect
from samerge_edu.transforms.free_fr import free_fr
from samerge_edu.transforms.lines import lines
from samerge_edu.transforms.lwptv import lwptv
from samerge_edu.transforms.trim import trim

GENERATOR = torch.Generator().manual_seed(0)  # only its seed counts: see masks.own_generator

# ---------------------------------------------------------------------------- the table

MERGES: dict[str, Callable] = {
    "average": average,
    "task arithmetic": task_arithmetic,
    # element-wise
    "trim": pipe(partial(trim, density=0.3), task_arithmetic),
    "trim, per tensor": pipe(partial(trim, density=0.3, scope="tensor"), task_arithmetic),
    "TIES": partial(ties, density=0.3),
    "TIES, sum": partial(ties, density=0.3, reduce="sum"),
    "TIES, per tensor": partial(ties, density=0.3, scope="tensor"),
    "elect, per tensor": pipe(partial(elect, density=0.3, scope="tensor"), task_arithmetic),
    "elect": pipe(partial(elect, density=0.3), task_arithmetic),
    "Localize-and-Stitch": partial(localize_and_stitch, density=0.3),
    "PCB": partial(pcb, density=0.1),
    "PCB, soft-max": partial(pcb, density=0.1, form="softmax"),
    "Consensus": consensus,
    "MagMax": magmax,
    "EMR": emr,
    "DARE": pipe(partial(dare, generator=GENERATOR), task_arithmetic),
    "DARE, lazy": pipe(partial(dare, generator=GENERATOR, lazy=True), task_arithmetic),
    "DARE + TIES": pipe(partial(dare, generator=GENERATOR), ties),
    "DELLA": pipe(partial(della, generator=GENERATOR, density=0.5, epsilon=0.3), partial(ties, density=1.0)),
    "Breadcrumbs": pipe(partial(breadcrumbs, density=0.5, outliers=0.25), task_arithmetic),
    "LiNeS": partial(lines, merge=task_arithmetic),
    "TIES + LiNeS, by position": partial(lines, merge=partial(ties, density=0.3), beta=0.8, outside="position"),
    "LwPTV": pipe(partial(lwptv, eta=0.4), task_arithmetic),
    "LwPTV, sum, blocks + TIES": pipe(partial(lwptv, eta=0.6, norm="sum", granularity="block"), ties),
    "LwPTV, AND": pipe(partial(lwptv, eta=0.4, mask_rule="and"), task_arithmetic),
    "LwPTV, own": pipe(partial(lwptv, eta=0.4, mask_rule="own"), task_arithmetic),
    "LwPTV, parameters": pipe(partial(lwptv, eta=0.6, granularity="parameter"), task_arithmetic),
    "LwPTV, shuffled": pipe(partial(lwptv, eta=0.4, shuffle=GENERATOR), task_arithmetic),
    # spectral and least squares
    "TSV-M": tsv_m,
    "Iso-C": iso_c,
    "Iso-CTS": iso_cts,
    "WUDI": partial(wudi, scope="matrices"),
    "WUDI, blocks": wudi,
    "WUDI, flow": partial(wudi_flow, time=3.0, scope="matrices"),
    "WUDI, end of the flow": partial(wudi_flow, scope="matrices"),
    "WUDI, optimum": partial(wudi_optimum, scope="matrices"),
    "WUDI, optimum, blocks": wudi_optimum,
    "ACTMat": actmat,
    "TACT": tact,
    "SVC + TA": partial(svc, merge=task_arithmetic, lam=0.3),
    "SVC + TSV-M": partial(svc, merge=tsv_m, floor=1.0),
    "FR": pipe(partial(free_fr, scope="matrices"), task_arithmetic),
    "FR, blocks": pipe(free_fr, task_arithmetic),
}

EXCEPTIONS: dict[str, dict[str, str]] = {
    "order_of_experts": {
        "DARE": "each expert draws its own lots",
        "DARE, lazy": "each expert draws its own lots",
        "DARE + TIES": "each expert draws its own lots",
        "DELLA": "each expert draws its own lots",
    },
    "key_order": {},
    "positive_homogeneity": {
        "PCB": "tanh sees the raw task vectors",
        "WUDI": "the step of Adam, lr, is in the unit of the weights",
        "WUDI, blocks": "the step of Adam, lr, is in the unit of the weights",
    },
    "sign_flip": {},
    "inputs_unchanged": {},
    "half_precision": {
        "FR": "the filtered task vectors are rounded to 16 bits before they are summed",
        "FR, blocks": "the filtered task vectors are rounded to 16 bits before they are summed",
        "SVC + TA": "the merged update is rounded to 16 bits before it is calibrated",
        "SVC + TSV-M": "the merged update is rounded to 16 bits before it is calibrated",
    },
    "lazy": {},
    "non_contiguous": {},
    "zero_task_vectors": {},
    "one_expert": {
        "Consensus": "two tasks have to use an entry: one expert gives the base",
    }
    | {name: "the mean of one task vector is itself: refused" for name in MERGES if name.startswith("LwPTV")},
    "tiny_tensors": {
        "WUDI, blocks": "none of the names is that of a weight in a transformer block",
        "WUDI, optimum, blocks": "none of the names is that of a weight in a transformer block",
        "FR, blocks": "none of the names is that of a weight in a transformer block",
    },
    "refusals": {},
    "not_finite": {
        "average": "a NaN stays a NaN: nothing is ranked",
        "task arithmetic": "a NaN stays a NaN: nothing is ranked",
    },
}


def refusals(merge: Callable) -> None:
    a, b, c = example_taus()
    with pytest.raises(ValueError, match="got 0 task vectors, expected at least"):
        merge([])
    with pytest.raises(ValueError, match="got one task vector, expected a list"):
        merge(a)
    with pytest.raises(ValueError, match=r"missing key 'visual.proj'"):
        merge([a, {k: v for k, v in b.items() if k != "visual.proj"}, c])
    with pytest.raises(ValueError, match="extra key 'more'"):
        merge([a, b, c | {"more": torch.ones(2, dtype=torch.float64)}])
    with pytest.raises(ValueError, match=r"task vector 1, key 'visual.proj': got shape \(7, 4\), expected \(4, 7\)"):
        merge([a, b | {"visual.proj": b["visual.proj"].T}, c])
    with pytest.raises(ValueError, match=r"task vector 2, key 'visual.proj': got dtype torch.float32"):
        merge([a, b, c | {"visual.proj": c["visual.proj"].float()}])


def not_finite(merge: Callable) -> None:
    for bad in (float("nan"), float("inf"), -float("inf")):
        taus = example_taus()
        taus[1]["visual.proj"][2, 3] = bad
        with pytest.raises(
            ValueError, match=r"task vector 1, key 'visual.proj': got 1 entries that are NaN or infinite"
        ):
            merge(taus)


PROPERTIES = contract.PROPERTIES | {f.__name__: f for f in (refusals, not_finite)}
