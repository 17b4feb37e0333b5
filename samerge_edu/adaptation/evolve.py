"""Evolutionary recipes (Akiba et al., Evolutionary optimization of model merging recipes, 2024, arXiv:2403.13187)."""

from collections.abc import Callable, Sequence

from torch import Tensor

from ..evaluate import id_average
from ..params import Params, add, block_index, check_same_structure, total
from ..suites.suite import Suite
from ..transforms.trim import trim
from .search import maximise

Edit = Callable[[Sequence[Params], float], Sequence[Params]]


def per_tensor(taus: Sequence[Params], density: float) -> list[dict[str, Tensor]]:
    """Keep the largest `density` of every tensor."""
    return trim(taus, density, scope="tensor")


def evolve(
    suite: Suite,
    taus: Sequence[Params],
    *,
    groups: int = 2,
    edit: Edit = per_tensor,
    trials: int = 100,
    n_val: int = 40,
    densities: tuple[float, float] = (0.05, 1.0),
    scales: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Let an evolution strategy write the recipe: how much to keep, and how far to go, in each group of layers.

        tau_m of group g = scale_g * sum_n edit(tau_n of g, density_g)         g = 0 .. groups - 1, from input to output
        (density, scale) = argmax of the validation accuracy of theta_0 + tau_m,  by CMA-ES

    The search in parameter space of the paper (section 3.1); layers of different models are not stacked here.
    Methods of this package can be inside: edited before (`evolve(suite, lwptv(taus))`), or as `edit`, whose second
    argument is then what evolves, for instance SA-Merging's p.

    Args:
        suite: whose base, heads and validation images are used.
        taus: N >= 1 task vectors of a transformer.
        groups: how many groups of consecutive blocks, from 1 to their number; tensors before the blocks go with the
            first group, those after them with the last.
        edit: (task vectors of one group, density) -> edited ones. mergekit evolves DARE's and TIES' densities.
        trials: evaluations of the accuracy.
        n_val: labelled validation images a task.
        densities, scales: their ranges. The search starts at density 1, scale 0.3: Task Arithmetic.
        seed: of the search.
    Returns (tau_m, {"density_0": ..., "scale_0": ..., ...}); theta_0 + tau_m (lam = 1).
    Raises ValueError for a number of groups outside 1..blocks, without Optuna, and as `edit` and `maximise`.
    Limits: on the images of the search it is never below its start.
    Differs from the paper, which gives each *model* its own density and weight in each group: N times as many numbers.
    """
    taus = check_same_structure(taus)
    blocks = sorted({b for key in taus[0] if (b := block_index(key)) is not None})
    if not 1 <= groups <= len(blocks):
        raise ValueError(f"groups: got {groups}, expected 1..{len(blocks)}, the number of blocks")
    group = {key: _place(key, blocks) * groups // len(blocks) for key in taus[0]}

    def merged(genome: dict[str, float]) -> dict[str, Tensor]:
        tau_m = {}
        for g in range(groups):
            own = [{key: tau[key] for key in tau if group[key] == g} for tau in taus]
            edited = edit(own, genome[f"density_{g}"])
            tau_m |= {key: (genome[f"scale_{g}"] * total(edited, key)).to(own[0][key].dtype) for key in own[0]}
        return {key: tau_m[key] for key in taus[0]}

    names = [f"{what}_{g}" for g in range(groups) for what in ("density", "scale")]
    genome, _ = maximise(
        lambda genome: id_average(suite, add(suite.theta_0, merged(genome)), "val", n_val),
        {name: densities if name.startswith("density") else scales for name in names},
        trials=trials,
        sampler="cmaes",
        start={name: densities[1] if name.startswith("density") else 0.3 for name in names},
        seed=seed,
    )
    return merged(genome), genome


def _place(key: str, blocks: Sequence[int]) -> int:
    """Which block a tensor goes with, counted from 0: its own; the first if it is in front, the last if behind."""
    block = block_index(key)
    if block is not None:
        return blocks.index(block)
    behind = ("ln_post", "proj", "post_layernorm", "visual_projection")
    return len(blocks) - 1 if any(part in behind for part in key.split(".")) else 0
