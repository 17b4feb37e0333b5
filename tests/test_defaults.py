"""What a reader gets who names no number: the defaults that the docstrings give, one row a function.

A default is a claim (a paper's setting, or ours with a reason), so a change of one has to be made here too.
"""

import dataclasses
import inspect

import pytest

from samerge_edu.adaptation.adamerging import adamerging
from samerge_edu.adaptation.atlas import atlas
from samerge_edu.adaptation.df_merge import df_merge
from samerge_edu.adaptation.evolve import evolve, per_tensor
from samerge_edu.adaptation.search import maximise
from samerge_edu.adaptation.surgery import surgery
from samerge_edu.alignment.axes import Axes
from samerge_edu.alignment.rebasin import rebasin, turned
from samerge_edu.alignment.weight_matching import weight_matching
from samerge_edu.alignment.zipit import Zipped, match, zip_mlps, zipit
from samerge_edu.ensembles.ensemble import Ensemble, encode
from samerge_edu.ensembles.free_merging import free_merging
from samerge_edu.ensembles.localize_and_stitch import localize
from samerge_edu.ensembles.router import Router, train_router
from samerge_edu.ensembles.tall_masks import tall_experts
from samerge_edu.ensembles.twin_merging import twin_merging
from samerge_edu.statistics import activations, features, fisher, gradients, input_grams, labelled, unlabelled

VAL = {"n": 64, "split": "val", "transductive": False}
TRAIN = {"n": 64, "split": "train", "transductive": False}
LEARNED = {"batch": 16, "seed": 0}

DEFAULTS = {
    adamerging: VAL | LEARNED | {"level": "layer", "steps": 20, "lr": 1e-2, "lam": 0.3, "clamp": True},
    atlas: LEARNED | {"n": 64, "split": "train", "steps": 60, "lr": 1e-2, "weight_decay": 0.0},
    surgery: VAL | LEARNED | {"experts": None, "rank": 16, "steps": 500, "lr": 1e-3},
    df_merge: {"trials": 30, "warmup": 10, "n": 16, "n_val": 40, "kind": "empirical", "floor": 1e-6, "seed": 0},
    evolve: {
        **{"groups": 2, "edit": per_tensor, "trials": 100, "n_val": 40, "seed": 0},
        **{"densities": (0.05, 1.0), "scales": (0.0, 1.0)},
    },
    maximise: {"seed": 0, "warmup": 10},
    train_router: VAL | {"depth": 2, "hard": False, "epochs": 50, "lr": 5e-4, "batch": 64, "seed": 0},
    twin_merging: {"rank": 16, "router": True},
    free_merging: {"density": 0.01, "lam": 0.5, "router": True},
    tall_experts: {"n": 64, "mask_lams": (0.2, 0.3, 0.4, 0.5, 0.6), "split": "val", "router": False},
    localize: {
        **{"n": 64, "split": "train", "density": 1e-5, "bias": 5.0, "strength": 1.0},
        **{"steps": 10, "lr": 1e7, "batch": 128},
    },
    encode: {"batch": 16},
    rebasin: {"inside": "permutation", "sweeps": 100},
    turned: {"key": "proj"},
    weight_matching: {"sweeps": 100, "begin": None, "head_order": None},
    match: {"alpha": 0.3, "beta": 0.125},
    zipit: {"layers": None, "alpha": 0.3, "beta": 0.125},
    zip_mlps: {"alpha": 0.3, "beta": 0.125},
    unlabelled: {"split": "train", "transductive": False},
    labelled: {"split": "train"},
    features: TRAIN,
    input_grams: TRAIN | {"batch": 64, "names": None},
    activations: TRAIN | {"n": 16, "batch": 64},
    gradients: {"n": 64, "split": "train", "batch": 64},
    fisher: TRAIN | {"kind": "true", "batch": 16},
}


@pytest.mark.parametrize("function", DEFAULTS, ids=lambda function: function.__name__)
def test_the_documented_defaults(function):
    parameters = inspect.signature(function).parameters
    got = {name: p.default for name, p in parameters.items() if p.default is not p.empty}
    assert got == DEFAULTS[function]


@pytest.mark.parametrize("kept", [Router, Ensemble, Axes, Zipped])
def test_what_is_kept_cannot_be_changed_by_accident(kept):
    made = object.__new__(kept)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.router = None
