"""Every row of the leaderboard, literally: what to run, how the paper scales it, what it needs.

A recipe is a function of the suite that returns the merge itself, `taus -> tau_m`. Most ignore the suite; those that
need its base, its architecture or its data take them from it:

    "LwPTV + TIES": Method(lambda suite: pipe(lwptv, ties), lam=1.0, paper="...", year=...)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch

from . import statistics
from .adaptation.adamerging import adamerging
from .adaptation.atlas import atlas
from .adaptation.coefficients import weigh
from .adaptation.df_merge import df_merge
from .adaptation.evolve import evolve
from .adaptation.surgery import surgery
from .ensembles.ensemble import Ensemble
from .ensembles.free_merging import free_merging
from .ensembles.localize_and_stitch import localize, stitch
from .ensembles.tall_masks import tall_experts
from .ensembles.twin_merging import twin_merging
from .lora import Adapter, dense
from .merges.acm import acm, mutual_information
from .merges.actmat import actmat
from .merges.average import average
from .merges.consensus import consensus
from .merges.fisher import fisher
from .merges.iso import iso_c, iso_cts
from .merges.knots import knots
from .merges.localize_and_stitch import localize_and_stitch
from .merges.magmax import magmax
from .merges.pcb import pcb
from .merges.peft_lora import cat, linear, svd
from .merges.regmean import regmean
from .merges.regmean_pp import regmean_pp
from .merges.svc import svc
from .merges.tact import tact
from .merges.task_arithmetic import task_arithmetic
from .merges.ties import ties
from .merges.tsv_m import tsv_m
from .merges.wudi import wudi, wudi_optimum
from .names import one_of
from .params import Params, add, pipe, task_vectors
from .saliency import Flow, clip_flow, flow_score
from .suites.suite import Suite
from .transforms.breadcrumbs import breadcrumbs
from .transforms.cat import cat as cat_merging
from .transforms.dare import dare
from .transforms.della import della
from .transforms.elect import elect
from .transforms.free_fr import free_fr
from .transforms.lines import lines
from .transforms.lwptv import lwptv
from .transforms.sa_lora import sa_lora
from .transforms.sa_merging import sa_merging
from .transforms.sta import sta

SEED = 0
"""Where a recipe draws random numbers, its generator starts here: the same row every time."""


@dataclass(frozen=True)
class Method:
    """One row of the leaderboard.

    `lam` is the scale the paper publishes for its method: theta = theta_0 + lam * tau_m. `needs` says which data the
    method looks at beside the experts' weights; `task_id` and `router` say what it asks for at test time.
    `per_tensor`: each tensor is merged on its own, so that a merge can be streamed (`streaming.merge_to_file`).
    `images`: how many of each task it looks at; `transductive`: they are the test images themselves, without labels.
    `repair`: (suite, merged theta) -> what it keeps beside the model, task -> function of features (`evaluate.scores`).
    `beside`: (suite, merged theta) -> an `Ensemble` around it, which `ensembles.ensemble.measure` measures.
    """

    recipe: Callable[..., Callable[[Sequence[Params]], Params]]
    lam: float
    paper: str
    year: int
    needs: Literal["none", "unlabelled", "labelled"] = "none"
    task_id: bool = False
    router: bool = False
    per_tensor: bool = False
    images: int = 0
    transductive: bool = False
    repair: Callable[..., Mapping[str, Callable[[torch.Tensor], torch.Tensor]]] | None = None
    beside: Callable[..., Ensemble] | None = None

    @property
    def all_needs(self) -> str:
        """The data and what is asked for at test time, in words: "none", "labelled, router"."""
        return ", ".join([self.needs, *(["task id"] if self.task_id else []), *(["router"] if self.router else [])])

    def __call__(self, models: Any, thetas: Sequence[Params] | None = None) -> dict[str, torch.Tensor]:
        """Merge at the published scale: `method(suite)`, or `method(theta_0, thetas)` for checkpoints of one's own.

        `merging.merge` does more: files, other scales, knobs, and the methods that need an architecture.
        """
        suite = models if thetas is None else Checkpoints(models)
        experts = [suite.experts[task] for task in suite.id_tasks] if thetas is None else thetas
        return add(suite.theta_0, self.recipe(suite)(task_vectors(suite.theta_0, experts)), self.lam)


class Checkpoints:
    """What a recipe sees in place of a suite when somebody brings nothing but checkpoints.

    `theta_0` is the base, `flow` the model's path strength (`flow.module_flow`) if it was given. Whatever else a
    recipe asks for is refused with the reason.
    """

    def __init__(self, theta_0: Params, flow: Callable[[Params], Flow] | None = None):
        self.theta_0, self.adapters = theta_0, {}
        if flow is not None:
            self.flow = flow

    def __getattr__(self, name: str):
        if name in ("flow", "attention_heads"):
            raise ValueError(
                "this method follows the flow through the architecture: "
                "give the module and an input, se.merge(..., model=module, example=input)"
            )
        if name.startswith("__"):
            raise AttributeError(name)
        raise ValueError(f"this method needs a suite's '{name}', and here are checkpoints only: take load_suite(...)")


class Rows(dict[str, Method]):
    """A table of methods in which "ties" finds "TIES", and a name that is none says what it may have meant."""

    def __missing__(self, name: str) -> Method:
        try:
            return self[self.full_name(name)]
        except ValueError as e:
            raise KeyError(str(e)) from None

    def full_name(self, name: str) -> str:
        """The row's name as the table writes it; raises ValueError with what it may have meant."""
        return one_of("method", str(name), list(self))


def flow_of(suite: Suite | Checkpoints) -> Callable[[Params], Flow]:
    """The path strength of the suite's architecture: its own `flow` if it brings one, else that of a CLIP tower."""
    if isinstance(suite, Checkpoints):
        return suite.flow
    return getattr(suite, "flow", None) or partial(clip_flow, heads=suite.attention_heads)


def sa(
    suite: Suite | Checkpoints, modulation: str = "literal", **knobs
) -> Callable[[Sequence[Params]], Sequence[Params]]:
    """SA-Merging as a transform: SynFlow on theta_0 + tau_n, modulated by the sum of all task vectors, T rounds."""
    return partial(sa_merging, score=flow_score(suite.theta_0, flow_of(suite), modulation=modulation), **knobs)


def drops() -> torch.Generator:
    """The random numbers of DARE and DELLA."""
    return torch.Generator().manual_seed(SEED)


METHODS: dict[str, Method] = {
    # combine as they are
    "Average": Method(lambda suite: average, 1.0, "2203.05482", 2022, per_tensor=True),
    "Task Arithmetic": Method(lambda suite: task_arithmetic, 0.3, "2212.04089", 2023, per_tensor=True),
    # edit entries, then combine
    "TIES": Method(lambda suite: ties, 1.0, "2306.01708", 2023),
    "TIES (sum)": Method(lambda suite: partial(ties, reduce="sum"), 0.3, "2310.02575", 2024),
    "DARE": Method(
        lambda suite: pipe(partial(dare, generator=drops(), lazy=True), task_arithmetic),
        0.3,
        "2311.03099",
        2024,
        per_tensor=True,
    ),
    "DARE + TIES": Method(
        lambda suite: pipe(partial(dare, generator=drops()), partial(ties, reduce="sum")), 0.5, "2311.03099", 2024
    ),
    "DELLA": Method(
        lambda suite: pipe(partial(della, generator=drops()), partial(ties, density=1.0)), 1.1, "2406.11617", 2024
    ),
    "Breadcrumbs": Method(lambda suite: pipe(breadcrumbs, task_arithmetic), 0.2, "2312.06795", 2024, per_tensor=True),
    "MagMax": Method(lambda suite: magmax, 0.5, "2407.06322", 2024, per_tensor=True),
    "PCB-Merging": Method(lambda suite: pcb, 1.2, "2410.02396", 2024),
    "Consensus TA": Method(lambda suite: consensus, 0.3, "2405.07813", 2024, per_tensor=True),
    "LiNeS": Method(lambda suite: partial(lines, merge=task_arithmetic), 1.0, "2410.17146", 2025),
    "Localize-and-Stitch (dataless)": Method(lambda suite: localize_and_stitch, 1.0, "2408.13656", 2025),
    # edit spectra, or solve for the merge
    "FR (of FREE-Merging)": Method(
        lambda suite: pipe(free_fr, task_arithmetic), 0.7, "2411.16815", 2025, per_tensor=True
    ),
    "TSV-M": Method(lambda suite: tsv_m, 1.0, "2412.00081", 2025, per_tensor=True),
    "Iso-C": Method(lambda suite: iso_c, 1.3, "2502.04959", 2025, per_tensor=True),
    "Iso-CTS": Method(lambda suite: iso_cts, 1.5, "2502.04959", 2025, per_tensor=True),
    "WUDI": Method(lambda suite: wudi, 1.0, "2503.08099", 2025, per_tensor=True),
    "SVC + Task Arithmetic": Method(
        lambda suite: partial(svc, merge=task_arithmetic, lam=0.3), 1.0, "2602.05536", 2026, per_tensor=True
    ),
    "SVC + Iso-CTS": Method(
        lambda suite: partial(svc, merge=iso_cts, lam=1.5), 1.0, "2602.05536", 2026, per_tensor=True
    ),
    "WUDI (optimum)": Method(lambda suite: wudi_optimum, 1.0, "2503.08099", 2025, per_tensor=True),
    "WUDI (optimum, every matrix)": Method(
        lambda suite: partial(wudi_optimum, scope="matrices"), 1.0, "2503.08099", 2025, per_tensor=True
    ),
    "ACTMat": Method(lambda suite: actmat, 1.0, "2604.01329", 2026, per_tensor=True),
    # a variant of ACTMat from an openly logged research run, without a paper of its own: merges/tact.py
    "TACT": Method(lambda suite: tact, 1.0, "2604.01329", 2026, per_tensor=True),
    # give layers back to the base
    "LwPTV + TA": Method(lambda suite: pipe(lwptv, task_arithmetic), 0.3, "2506.09093", 2025),
    "LwPTV + TIES": Method(lambda suite: pipe(lwptv, ties), 1.0, "2506.09093", 2025),
    "LwPTV + WUDI": Method(lambda suite: pipe(lwptv, wudi), 1.0, "2506.09093", 2025),
    # keep what matters to the flow
    "SA-Merging": Method(lambda suite: pipe(sa(suite), task_arithmetic), 1.0, "2606.00511", 2026),
    "SA-Merging (agreement)": Method(
        lambda suite: pipe(sa(suite, modulation="agreement"), task_arithmetic), 1.0, "2606.00511", 2026
    ),
    "SA-Merging (abs)": Method(
        lambda suite: pipe(sa(suite, modulation="abs"), task_arithmetic), 1.0, "2606.00511", 2026
    ),
    "SA-Merging + TIES": Method(lambda suite: pipe(sa(suite), partial(ties, density=1.0)), 1.0, "2606.00511", 2026),
    "SA-Merging + DARE": Method(
        lambda suite: pipe(sa(suite), partial(dare, generator=drops()), task_arithmetic), 1.0, "2606.00511", 2026
    ),
    "SA-Merging + WUDI": Method(lambda suite: pipe(sa(suite), wudi), 1.0, "2606.00511", 2026),
    # in front of what solves for directions: perhaps the published reading (docs/records.md), an inference
    "SA-Merging + WUDI (optimum)": Method(lambda suite: pipe(sa(suite), wudi_optimum), 1.0, "2606.00511", 2026),
    "SA-Merging + WUDI (matrices)": Method(
        lambda suite: pipe(sa(suite), partial(wudi_optimum, scope="matrices")), 1.0, "2606.00511", 2026
    ),
    "SA-Merging + Iso-C": Method(lambda suite: pipe(sa(suite), iso_c), 1.3, "2606.00511", 2026),
    "SA-Merging + TSV-M": Method(lambda suite: pipe(sa(suite), tsv_m), 1.0, "2606.00511", 2026),
    "SA-Merging + ACTMat": Method(lambda suite: pipe(sa(suite), actmat), 1.0, "2606.00511", 2026),
    "SA-Merging (p = 0.02) + ACTMat": Method(lambda suite: pipe(sa(suite, p=0.02), actmat), 1.0, "2606.00511", 2026),
    "LwPTV + SA-Merging": Method(lambda suite: pipe(lwptv, sa(suite), task_arithmetic), 1.0, "2506.09093", 2025),
}


# ---------------------------------------------------------------------------- for LoRA experts


def adapters(suite: Suite) -> list[Adapter]:
    """The factors of the suite's experts; raises ValueError for a suite whose experts are full models."""
    if not suite.adapters:
        raise ValueError(f"suite '{suite.name}' has no LoRA experts: take pocket-lora, pocket-lora-4 or vit-b-32-lora")
    return [suite.adapters[task] for task in suite.id_tasks]


def from_factors(suite: Suite, merge: Callable[[list[Adapter]], Adapter]) -> Callable[[Sequence[Params]], Params]:
    """A merge of the suite's factors in place of its task vectors: adapters -> one adapter -> tau_m."""
    experts = adapters(suite)
    return lambda taus: dense(merge(experts), like=suite.theta_0)


def knots_ties(suite: Suite) -> Callable[[Sequence[Params]], Params]:
    """KnOTS + TIES on the adapted layers: the zeros elsewhere would count in TIES' density."""
    layers = list(adapters(suite)[0])

    def merge(taus: Sequence[Params]) -> Params:
        taus = list(taus)
        tau_m = knots([{key: tau[key] for key in layers} for tau in taus], merge=ties)
        return {key: tau_m[key] if key in tau_m else torch.zeros_like(taus[0][key]) for key in taus[0]}

    return merge


def sa_ranks(suite: Suite, **knobs) -> Callable[[Sequence[Params]], Params]:
    """SA-Merging rank by rank, then the plain sum of the pruned updates; `knobs` are those of `sa_lora`."""
    return from_factors(suite, pipe(partial(sa_lora, theta_0=suite.theta_0, flow=flow_of(suite), **knobs), cat))


LORA_METHODS: dict[str, Method] = {
    "KnOTS + TIES": Method(knots_ties, 0.6, "2410.19735", 2025),
    "SA-LoRA": Method(sa_ranks, 1.0, "2606.00511", 2026),
    # of the PEFT library, at weights of 1; the paper is LoRA's own
    "LoRA svd": Method(lambda suite: from_factors(suite, svd), 1.0, "2106.09685", 2022),
    "LoRA linear": Method(lambda suite: from_factors(suite, linear), 1.0, "2106.09685", 2022),
}
"""Rows that look at the factors A and B; the rows above see the updates of LoRA experts like any others."""


# ---------------------------------------------------------------------------- for those who look at data


def of_experts(suite: Suite, statistic: Callable, **knobs) -> list:
    """A statistic of each expert on its own task."""
    return [statistic(suite, suite.experts[task], task, **knobs) for task in suite.id_tasks]


def grams_above(suite: Suite, n: int) -> Callable[[int, Params, Sequence[str]], Params]:
    """RegMean++'s Grams: of task i's inputs in theta_0 + tau."""
    return lambda i, tau, names: statistics.input_grams(
        suite, add(suite.theta_0, tau), suite.id_tasks[i], n, names=names
    )


def learned(method: Callable, suite: Suite, **knobs) -> Callable[[Sequence[Params]], Params]:
    """AdaMerging or aTLAS as a merge: learn the coefficients of the task vectors that come, then weigh them."""
    return lambda taus: weigh(taus, method(suite, taus, **knobs))


def information(suite: Suite, n: int) -> list[dict[str, float]]:
    """What the base's answers tell of each expert's, matrix by matrix, on the expert's own task: for ACM."""
    found = []
    for task in suite.id_tasks:
        base, expert = (statistics.activations(suite, theta, task, n) for theta in (suite.theta_0, suite.experts[task]))
        found.append({key: mutual_information(base[key], expert[key]) for key in base})
    return found


def learned_masks(suite: Suite, **knobs) -> Callable[[Sequence[Params]], Params]:
    """Localize-and-Stitch with masks learned for the task vectors that come."""
    return lambda taus: stitch(taus, localize(suite, taus, **knobs))


TEST = {"split": "test", "transductive": True}

DATA_METHODS: dict[str, Method] = {
    # one pass over a few images of each task, no labels
    "Fisher": Method(
        lambda suite: partial(fisher, fishers=of_experts(suite, statistics.fisher, n=32)),
        1.0, "2111.09832", 2022, needs="unlabelled", images=32,
    ),
    "Fisher (square of batch sums)": Method(
        lambda suite: partial(fisher, fishers=of_experts(suite, statistics.fisher, n=64, kind="batch")),
        1.0, "2111.09832", 2022, needs="unlabelled", images=64,
    ),
    "RegMean": Method(
        lambda suite: partial(regmean, grams=of_experts(suite, statistics.input_grams, n=64)),
        1.0, "2212.09849", 2023, needs="unlabelled", images=64,
    ),
    "RegMean++": Method(
        lambda suite: partial(regmean_pp, grams=grams_above(suite, n=64)),
        1.0, "2508.03121", 2025, needs="unlabelled", images=64,
    ),
    # the papers' own scales are not readable in a public source: Task Arithmetic's
    "CAT Merging": Method(
        lambda suite: pipe(
            partial(cat_merging, grams=of_experts(suite, statistics.input_grams, n=3)), task_arithmetic
        ),
        0.3, "2505.06977", 2025, needs="unlabelled", images=3,
    ),
    "ACM": Method(
        lambda suite: partial(acm, information=information(suite, n=16)),
        0.3, "2505.14009", 2025, needs="unlabelled", images=16,
    ),
    # something small is trained, without labels
    "AdaMerging (task-wise)": Method(
        lambda suite: learned(adamerging, suite, level="task"), 1.0, "2310.02575", 2024, needs="unlabelled", images=64
    ),
    "AdaMerging": Method(
        lambda suite: learned(adamerging, suite), 1.0, "2310.02575", 2024, needs="unlabelled", images=64
    ),
    "AdaMerging++": Method(
        lambda suite: pipe(elect, learned(adamerging, suite)), 1.0, "2310.02575", 2024, needs="unlabelled", images=64
    ),
    "AdaMerging (test images)": Method(
        lambda suite: learned(adamerging, suite, **TEST),
        1.0, "2310.02575", 2024, needs="unlabelled", images=64, transductive=True,
    ),
    "TA + Surgery": Method(
        lambda suite: task_arithmetic,
        0.3, "2402.02705", 2024, needs="unlabelled", images=64, task_id=True, repair=surgery,
    ),
    "AdaMerging + Surgery": Method(
        lambda suite: learned(adamerging, suite),
        1.0, "2402.02705", 2024, needs="unlabelled", images=64, task_id=True, repair=surgery,
    ),
    "AdaMerging + Surgery (test images)": Method(
        lambda suite: learned(adamerging, suite, **TEST),
        1.0, "2402.02705", 2024, needs="unlabelled", images=64, task_id=True, transductive=True,
        repair=partial(surgery, **TEST),
    ),
    # something is kept beside the model: the experts' compressed parts and a router
    "Twin-Merging": Method(
        lambda suite: task_arithmetic,
        0.29, "2406.15479", 2024, needs="unlabelled", images=64, router=True, beside=twin_merging,
    ),
    "FREE-Merging": Method(
        lambda suite: pipe(partial(free_fr, align=False), task_arithmetic),
        0.5, "2411.16815", 2025, needs="unlabelled", images=64, router=True, beside=free_merging,
    ),
    # the two papers' methods in front
    "LwPTV + Fisher": Method(
        lambda suite: pipe(lwptv, partial(fisher, fishers=of_experts(suite, statistics.fisher, n=32))),
        1.0, "2506.09093", 2025, needs="unlabelled", images=32,
    ),
    "LwPTV + RegMean": Method(
        lambda suite: pipe(lwptv, partial(regmean, grams=of_experts(suite, statistics.input_grams, n=64))),
        1.0, "2506.09093", 2025, needs="unlabelled", images=64,
    ),
    "LwPTV + AdaMerging": Method(
        lambda suite: pipe(lwptv, learned(adamerging, suite)), 1.0, "2506.09093", 2025, needs="unlabelled", images=64
    ),
    "SA-Merging + AdaMerging": Method(
        lambda suite: pipe(sa(suite), learned(adamerging, suite)),
        1.0, "2606.00511", 2026, needs="unlabelled", images=64,
    ),
    # labels
    "STA": Method(
        lambda suite: pipe(
            partial(sta, gradients=[statistics.gradients(suite, suite.theta_0, task, 64) for task in suite.id_tasks]),
            task_arithmetic,
        ),
        0.3, "2411.16139", 2024, needs="labelled", images=64,
    ),
    "aTLAS": Method(lambda suite: learned(atlas, suite), 1.0, "2407.02880", 2024, needs="labelled", images=64),
    "DF-Merge": Method(
        lambda suite: lambda taus: df_merge(suite, taus)[0], 1.0, "2504.18992", 2025, needs="labelled", images=56
    ),
    "Localize-and-Stitch": Method(learned_masks, 1.0, "2408.13656", 2025, needs="labelled", images=64),
    # 1-bit masks beside the base and the sum of the task vectors: the merge by itself is not what is measured
    "TALL masks": Method(
        lambda suite: task_arithmetic,
        1.0, "2405.07813", 2024, needs="labelled", images=64, task_id=True,
        beside=lambda suite, theta: tall_experts(suite),
    ),
    "Evolution (densities and scales)": Method(
        lambda suite: lambda taus: evolve(suite, taus)[0], 1.0, "2403.13187", 2025, needs="labelled", images=40
    ),
}  # fmt: skip
"""Rows that look at images before or while they merge: `samerge-edu leaderboard --needs unlabelled`, or `labelled`."""

METHODS, LORA_METHODS, DATA_METHODS = Rows(METHODS), Rows(LORA_METHODS), Rows(DATA_METHODS)
