"""Attack the bank: does some law notice every small mistake, and does the learner get a hint that is right for it?

`samerge-edu course --attack`. Each solution is changed in one place (slips.py: operators, comparisons, constants,
dimensions, a missing `abs`, rounding, one variable read in place of another, the dtype or type of what is returned).
Every changed program is examined like a learner's. One that passes must be in EQUIVALENT with the reason why no check
can, or should, tell it from the solution.

The examination knows the slips too, and names them; so a hint is no surprise here. What is asked is whether it is
the right one: the bank's own hint if there is one, and none that is about another mistake. How often a hint would be
given without the slips is printed as well.
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from .bank import every_exercise
from .examine import BY_HAND, examine
from .exercise import Exercise
from .slips import OF_FORM, SAID_OF_A_SLIP, WHAT_IS_RETURNED, Slip, slips

OWN, SLIP, SHAPE, ERROR, NONE = "hint of the bank", "hint of a slip", "type or shape", "error explained", "no hint"

# (exercise, line of the solution, change): why it is as good as the solution
EQUIVALENT: dict[tuple[str, str, str], str] = {
    ("00.1", WHAT_IS_RETURNED, "absolute"): "classes are counted from 0",
    ("00.3", WHAT_IS_RETURNED, "absolute"): "accuracies are not negative",
    (
        "01.2",
        "return {k: theta_0[k] + lam * tau[k] for k in theta_0}",
        "theta_0 -> tau",
    ): "in `for k in ...`: both have the same names",
    (
        "01.3",
        "best = int(validation.mean(dim=1).argmax())",
        "int() dropped",
    ): "a tensor () is an index as well; what is returned is the same",
    ("01.3", "best = int(validation.mean(dim=1).argmax())", "mean -> sum"): "every lam has the same number of tasks",
    (
        "01.4",
        "allowed = [i for i in range(len(lams)) if control[i] >= floor]",
        "lams -> target",
    ): "as many as there are lams",
    (
        "01.4",
        "allowed = [i for i in range(len(lams)) if control[i] >= floor]",
        "lams -> control",
    ): "as many as there are lams",
    ("01.5", WHAT_IS_RETURNED, "absolute"): "a length is not negative",
    ("02.1", WHAT_IS_RETURNED, "absolute"): "a share is not negative",
    ("02.2", "kept = tau.abs().topk(k, dim=1).indices", "dim= dropped"): "topk looks along the last side anyway",
    ("02.3", "return tau_hat.sum(dim=0).sign()", "sum -> mean"): "both have the same sign",
    (
        "02b.1",
        "kept = torch.rand(tau.shape, generator=generator) < density",
        "< -> <=",
    ): "a draw that equals density: one in 16 million",
    (
        "02b.4",
        "u = (size - low) / (high - low).clamp(min=1e-12)",
        "1e-12 -> 2e-12",
    ): "any tiny number: it only keeps 0 / 0 away",
    ("02b.2", "rank = S.argsort(dim=1).argsort(dim=1)", "dim= dropped"): "argsort looks along the last side anyway",
    ("02b.2", WHAT_IS_RETURNED, "absolute"): "a chance is not negative",
    (
        "02b.3",
        "place = S.argsort(dim=1, descending=True).argsort(dim=1)",
        "dim= dropped",
    ): "argsort looks along the last side anyway",
    (
        "02b.5",
        "need = tau.abs() > mask_lam * (tau_sum - tau).abs()",
        "- exchanged",
    ): "the magnitude is the same",
    ("02b.6", WHAT_IS_RETURNED, "absolute"): "a scale is not negative",
    ("03.1", WHAT_IS_RETURNED, "absolute"): "R is not negative",
    (
        "03.2",
        "x, u = [Ws[0].new_ones(Ws[0].shape[1])], [Ws[-1].new_ones(Ws[-1].shape[0])]",
        "1 -> 0",
    ): "`new_ones` of the first layer in place of the last: it lends only its dtype",
    (
        "03.2",
        "return [u_l[:, None] * W.abs() * x_l for W, x_l, u_l in zip(Ws, x, u, strict=True)]",
        "True -> False",
    ): "three lists of one length",
    ("03.2", WHAT_IS_RETURNED, "absolute"): "scores are not negative",
    ("03.3", WHAT_IS_RETURNED, "absolute"): "a count is not negative",
    (
        "03.4",
        "return [m.view_as(S) for m, S in zip(mask.split([S.numel() for S in scores]), scores, strict=True)]",
        "True -> False",
    ): "two lists of one length",
    ("03.5", WHAT_IS_RETURNED, "absolute"): "a count is not negative",
    ("04.3", WHAT_IS_RETURNED, "absolute"): "what flows is not negative",
    ("04.4", "return (r @ s / (r.norm() * s.norm())).item()", "@ exchanged"): "an inner product is symmetric",
    (
        "05.2",
        "return [(theta_0 + tau).sign() * G * tau_star for tau, G in zip(taus, Gs, strict=True)]",
        "True -> False",
    ): "two lists of one length",
    (
        "05.3",
        "return [G * tau.sign() * tau_star for tau, G in zip(taus, Gs, strict=True)]",
        "True -> False",
    ): "two lists of one length",
    ("05.4", WHAT_IS_RETURNED, "absolute"): "a share is not negative",
    ("05.5", "opposing = taus * taus.sum(dim=0) < 0", "sum -> mean"): "both have the same sign",
    ("05.5", WHAT_IS_RETURNED, "absolute"): "a share is not negative",
    (
        "06.1",
        "keep = math.ceil((1 - p) ** t * tau.numel() * (1 - 1e-12))",
        "1e-12 -> 2e-12",
    ): "far below an entry, far above rounding",
    ("06.1", "keep = math.ceil((1 - p) ** t * tau.numel() * (1 - 1e-12))", "tau -> S"): "S has as many entries",
    ("06.1", "mask = torch.zeros(tau.numel(), dtype=torch.bool)", "tau -> S"): "S has as many entries",
    ("06.1", "return mask.view_as(tau) & (tau != 0)", "tau -> S"): "in `view_as`: S has the same shape",
    ("06.2", "for tau, S_n in zip(taus, S, strict=True)", "True -> False"): "two lists of one length",
    (
        "06.3",
        "return ((tau_hat @ tau_star) / (tau_star @ tau_star)).item()",
        "@ exchanged",
    ): "an inner product is symmetric",
    ("06.4", "for tau, G in zip(taus, Gs, strict=True):", "True -> False"): "two lists of one length",
    ("06.4", WHAT_IS_RETURNED, "absolute"): "these scores are absolute values",
    ("06.5", WHAT_IS_RETURNED, "absolute"): "a share is not negative",
    ("07.3", "m = torch.zeros_like(S).to(A.dtype)", "A -> B"): "both factors have one dtype",
    ("07.4", WHAT_IS_RETURNED, "negated"): "the same gauge: row k and column k may both change their sign",
    (
        "07.5",
        "U, S, Vt = torch.linalg.svd(torch.cat(taus, dim=1), full_matrices=False)",
        "full_matrices= dropped",
    ): "the first k columns and rows are the same",
    (
        "07.5",
        "U, S, Vt = torch.linalg.svd(torch.cat(taus, dim=1), full_matrices=False)",
        "False -> True",
    ): "the first k columns and rows are the same",
    ("07.5", "k = int((S > cutoff).sum())", "int() dropped"): "a tensor () cuts as well",
    ("07.5", WHAT_IS_RETURNED, "negated"): "a basis vector and its row of the blocks may both change their sign",
    ("08.1", "for key in taus[0]:", "0 -> 1"): "all tasks have the same layers",
    ("08.1", "distance = (tau - tau.mean(dim=0)).abs().flatten(1)  # (N, entries)", "- exchanged"): "`abs` follows",
    ("08.1", WHAT_IS_RETURNED, "absolute"): "a distance is not negative",
    (
        "08.2",
        "kept = S.topk(L - round(eta * L), dim=1).indices",
        "dim= dropped",
    ): "topk looks along the last side anyway",
    ("08.3", WHAT_IS_RETURNED, "absolute"): "scores are not negative",
    ("08.4", WHAT_IS_RETURNED, "absolute"): "a chance is not negative",
    (
        "12.1",
        "z = normalize(embed([template.format(name) for template in templates]), dim=-1)  # (templates, dim)",
        "dim= dropped",
    ): "normalize looks along dim 1 anyway, the last here",
    (
        "12.1",
        "z = normalize(embed([template.format(name) for template in templates]), dim=-1)  # (templates, dim)",
        "- dropped",
    ): "of two sides, 1 is the last",
    (
        "09.1",
        "U, S, Vt = torch.linalg.svd(M, full_matrices=False)",
        "full_matrices= dropped",
    ): "the first k columns and rows are the same",
    (
        "09.1",
        "U, S, Vt = torch.linalg.svd(M, full_matrices=False)",
        "False -> True",
    ): "the first k columns and rows are the same",
    (
        "09.2",
        "return float(((U.T @ U - identity) * S @ (V.T @ V - identity)).abs().sum())",
        "- exchanged",
    ): "the magnitude is the same",
    ("09.2", WHAT_IS_RETURNED, "absolute"): "a sum of magnitudes is not negative",
    (
        "09.5",
        "return (tau @ C).sum(dim=0) @ torch.linalg.pinv(C.sum(dim=0), hermitian=True)",
        "True -> False",
    ): "the general pinv of a symmetric matrix is the same one",
    (
        "09.6",
        "return tau.mT @ tau / length.where(length > 0, 1)",
        "1 -> 2",
    ): "any number: it only keeps 0 / 0 away",
    ("10.1", WHAT_IS_RETURNED, "absolute"): "a mean of squares is not negative",
    (
        "10.2",
        "Y = torch.cat([x @ W.T for W, x in zip(Ws, Xs, strict=True)])",
        "True -> False",
    ): "two lists of one length",
    ("10.3", WHAT_IS_RETURNED, "absolute"): "an entropy is not negative",
    ("10.4", WHAT_IS_RETURNED, "absolute"): "a position is not negative",
    (
        "11.1",
        "kept.scatter_(1, taus.abs().topk(k, dim=1).indices, True)",
        "dim= dropped",
    ): "topk looks along the last side anyway",
    ("11.2", WHAT_IS_RETURNED, "absolute"): "an accuracy is not negative",
    ("11.3", WHAT_IS_RETURNED, "absolute"): "a position is not negative",
    ("12.1", "rows.append(normalize(z.mean(dim=0), dim=-1))", "mean -> sum"): "it is brought to length 1 next",
    ("12.1", "rows.append(normalize(z.mean(dim=0), dim=-1))", "1 -> 0"): "a vector has one side",
    ("13.3", WHAT_IS_RETURNED, "absolute"): "a number of images is not negative",
    ("13.4", WHAT_IS_RETURNED, "absolute"): "ranks are counted from 1",
}


@dataclass
class Result:
    """What became of the changed programs of one exercise."""

    exercise: Exercise
    hints: Counter = field(default_factory=Counter)  # of those that were caught
    unhinted: list[Slip] = field(default_factory=list)
    equivalent: list[Slip] = field(default_factory=list)
    survivors: list[Slip] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def caught(self) -> int:
        return self.hints.total()


def attack(exercises: Iterable[Exercise] | None = None, verbose: bool = False) -> bool:
    """Print a line for each exercise, and what survived; True if every changed program was caught or explained."""
    results = [attack_one(e) for e in (every_exercise() if exercises is None else exercises)]
    print(f"{'id':<6} {'caught':>9}  {'equivalent':>10}  {'with a hint':>11}  {'seconds':>7}  title")
    for r in results:
        tried = r.caught + len(r.survivors)
        hinted = r.caught - r.hints[NONE]
        print(
            f"{r.exercise.id:<6} {r.caught:>4}/{tried:<4}  {len(r.equivalent):>10}  {hinted:>11}  {r.seconds:>7.2f}  "
            f"{r.exercise.title}"
        )
        for slip in r.survivors:
            print(f"       PASSED   {slip.line}   [{slip.change}]")
        for slip in r.unhinted if verbose else []:
            print(f"       NO HINT  {slip.line}   [{slip.change}]")
    hints = sum((r.hints for r in results), Counter())
    caught, survived = hints.total(), sum(len(r.survivors) for r in results)
    share = 100 * (caught - hints[NONE]) / max(1, caught)
    print(f"{caught} of {caught + survived} changed programs caught, {share:.1f} % with a hint of their own:")
    print("  " + ", ".join(f"{hints[kind]} {kind}" for kind in (OWN, SLIP, SHAPE, ERROR, NONE)))
    print(f"  without the slips: {100 * (caught - hints[NONE] - hints[SLIP]) / max(1, caught):.1f} %")
    return survived == 0


def attack_one(exercise: Exercise) -> Result:
    """Examine every changed program of one exercise."""
    start, result = time.perf_counter(), Result(exercise)
    for slip in slips(exercise.reference):
        verdict = examine(exercise, slip.function)
        if verdict["verdict"] == "PASS":
            explained = (exercise.id, slip.line, slip.change) in EQUIVALENT or form_is_the_same(slip)
            (result.equivalent if explained else result.survivors).append(slip)
        else:
            kind = kind_of_hint(verdict)
            result.hints[kind] += 1
            if kind == NONE:
                result.unhinted.append(slip)
    result.seconds = time.perf_counter() - start
    return result


def kind_of_hint(verdict: dict) -> str:
    """Where the hint of a verdict comes from, and so whether it is about this very program."""
    if verdict.get("mistake"):
        return OWN
    hint = verdict.get("hint", "")
    if verdict["verdict"] == "TODO":  # the program that was to be mended: it says so
        return OWN
    if hint.startswith(SAID_OF_A_SLIP):
        return SLIP
    if verdict["verdict"] == "ERROR":
        return ERROR if hint else NONE
    return NONE if hint == BY_HAND else SHAPE


def form_is_the_same(slip: Slip) -> bool:
    """Another type was asked of a result that has it already: a tuple of a tuple, rows and columns of a vector."""
    return slip.line == WHAT_IS_RETURNED and slip.change in OF_FORM
