"""Exercises of notebook 05: the three scores by hand and in code, overlap of masks, opposition."""

import torch

from ..exercise import Exercise, OpenTask, Quiz

# ---------------------------------------------------------------------------- 05.1

by_hand = Exercise(
    id="05.1",
    title="Four entries by hand",
    kind="predict",
    goal=(
        "Take a pencil. Work out the three scores for the four entries of expert n in this table, and type them in.\n\n"
        "| entry | $\\theta_n$ | $\\tau_n$ | $\\tau^*$ | $\\lvert G_n\\rvert$ |\n"
        "|---|---|---|---|---|\n"
        "| 0 | 2 | 1 | 3 | 1 |\n"
        "| 1 | -1 | 1 | 2 | 2 |\n"
        "| 2 | -3 | 1 | -2 | 1 |\n"
        "| 3 | 1 | 2 | -1 | 5 |\n\n"
        "literal: $\\mathrm{sign}(\\theta_n)\\,|G_n|\\,\\tau^*$; "
        "agreement: $|G_n|\\,\\mathrm{sign}(\\tau_n)\\,\\tau^*$; abs: $|G_n\\,\\tau^*|$."
    ),
    minutes=10,
    difficulty=2,
    importance=5,
    hints=[
        "The size is the same in all three, |G| times |tau*|: 3, 4, 2, 5. Only the signs differ.",
        "Entry 1 has a negative weight, tau* is positive: the aggregate shrinks it, so its literal score is negative.",
        "Agreement compares the signs of the columns tau_n and tau*: +, +, -, -.",
    ],
)


@by_hand.solution
def four_scores():
    """The scores of entries 0 to 3.  -> {"literal": four numbers, "agreement": four numbers, "abs": four numbers}"""
    return {"literal": [3.0, -4.0, 2.0, -5.0], "agreement": [3.0, 4.0, -2.0, -5.0], "abs": [3.0, 4.0, 2.0, 5.0]}


@by_hand.law("abs: the sizes, |G| times |tau*|")
def _(four_scores):
    return four_scores()["abs"], [3.0, 4.0, 2.0, 5.0]


@by_hand.law("agreement: negative where this expert and the aggregate go different ways")
def _(four_scores):
    return four_scores()["agreement"], [3.0, 4.0, -2.0, -5.0]


@by_hand.law("literal: negative where the aggregate makes the weight smaller")
def _(four_scores):
    return four_scores()["literal"], [3.0, -4.0, 2.0, -5.0]


@by_hand.mistake(
    "Your literal scores are agreement scores: they compare tau* with sign(tau_n). Use the sign of theta_n."
)
def literal_as_agreement():
    return {"literal": [3, 4, -2, -5], "agreement": [3, 4, -2, -5], "abs": [3, 4, 2, 5]}


@by_hand.mistake("Literal and agreement are exchanged: literal has the sign of theta_n, agreement that of tau_n.")
def exchanged():
    return {"literal": [3, 4, -2, -5], "agreement": [3, -4, 2, -5], "abs": [3, 4, 2, 5]}


@by_hand.mistake("Your agreement scores are the literal ones. Agreement asks for sign(tau_n), not for sign(theta_n).")
def agreement_as_literal():
    return {"literal": [3, -4, 2, -5], "agreement": [3, -4, 2, -5], "abs": [3, 4, 2, 5]}


@by_hand.mistake("`abs` has signs in your answer: it is the size |G| times |tau*|, never negative.")
def abs_with_signs():
    return {"literal": [3, -4, 2, -5], "agreement": [3, 4, -2, -5], "abs": [3, 4, -2, -5]}


@by_hand.mistake("In `agreement` you multiply by tau_n itself: entry 3 counts double. Only its sign enters.")
def own_size_too():
    return {"literal": [3, -4, 2, -5], "agreement": [3, 4, -2, -10], "abs": [3, 4, 2, 5]}


@by_hand.mistake("G is missing everywhere: entry 1 counts twice, entry 3 five times.")
def sensitivity_forgotten():
    return {"literal": [3, -2, 2, -1], "agreement": [3, 2, -2, -1], "abs": [3, 2, 2, 1]}


@by_hand.mistake("You scored with the expert's own update tau_n. Modulation means: the sum of all updates, tau*.")
def own_update():
    return {"literal": [1, -2, -1, 10], "agreement": [1, 2, 1, 10], "abs": [1, 2, 1, 10]}


@by_hand.mistake(
    "Your literal score is |G| tau*, without the sign of the weight. R sees sizes: multiply by sign(theta_n)."
)
def sign_of_the_weight_forgotten():
    return {"literal": [3, 4, -2, -5], "agreement": [3, 4, -2, -5], "abs": [3, 4, -2, -5]}


# ---------------------------------------------------------------------------- 05.2

literally = Exercise(
    id="05.2",
    title="The literal score",
    goal=(
        "Score every expert's entries with the formula as it is printed, `S_n = dR_n/dtau_n * tau*`. Here `Gs` holds "
        "the sizes |dR_n/dtau_n|, so the sign of the derivative is yours to supply."
    ),
    minutes=10,
    difficulty=3,
    importance=5,
    hints=[
        "Which weight does R_n depend on, and what is the derivative of its absolute value?",
        "`tau*` is the sum over *all* experts, n itself included. It is the same for every n.",
        "`tau_star = sum(taus)`; for each n: `(theta_0 + tau).sign() * G * tau_star`.",
    ],
)


@literally.solution
def literal_scores(theta_0, taus, Gs):
    """dR_n / dtau_n * tau*, for each expert n.

    theta_0: tensor, taus: list of N tensors, Gs: list of N tensors >= 0, all of one shape -> list of N tensors
    """
    tau_star = sum(taus)
    return [(theta_0 + tau).sign() * G * tau_star for tau, G in zip(taus, Gs, strict=True)]


def _t(*rows) -> torch.Tensor:
    return torch.tensor(rows)


BASE = _t([1.0, -2.0, 0.5], [-0.5, 3.0, -1.0])
TAUS = [
    _t([0.5, 0.5, -1.0], [1.0, 0.25, 0.0]),  # turns the sign of [0, 2] and [1, 0]
    _t([-0.25, 1.0, 0.5], [0.5, -1.0, 2.0]),
    _t([1.0, -0.5, 0.75], [-0.25, 0.5, -0.5]),
]
GS = [_t([1.0, 2.0, 0.5], [3.0, 1.0, 2.0]), _t([2.0, 1.0, 1.0], [0.0, 4.0, 1.5]), _t([0.5, 1.0, 3.0], [1.0, 2.0, 1.0])]


@literally.law("one entry, one expert: a positive weight that grows scores G times the update")
def _(literal_scores):
    return literal_scores(_t(1.0), [_t(0.5)], [_t(2.0)]), [_t(1.0)]


@literally.law("one expert: an update that makes a negative weight smaller in size scores below zero")
def _(literal_scores):
    return literal_scores(_t(-1.0), [_t(0.5)], [_t(2.0)]), [_t(-1.0)]


@literally.law("two experts, one entry: both are scored with the sum, 3 - 1 = 2, even the one that goes the other way")
def _(literal_scores):
    return literal_scores(_t(2.0), [_t(3.0), _t(-1.0)], [_t(1.0), _t(5.0)]), [_t(2.0), _t(10.0)]


@literally.law("an update that turns the weight's sign: the sign of theta_n = theta_0 + tau_n counts")
def _(literal_scores):
    return literal_scores(_t(0.5), [_t(-2.0)], [_t(1.0)]), [_t(2.0)]


@literally.law("three experts, two rows and three columns: S_n / (|G_n| tau*) is the sign of theta_n")
def _(literal_scores):
    expected = []
    for tau, G in zip(TAUS, GS, strict=True):
        theta = (BASE + tau).requires_grad_()
        (gradient,) = torch.autograd.grad((G * theta.abs()).sum(), theta)  # R is linear in |theta|, slope G
        expected.append(gradient * sum(TAUS))
    return literal_scores(BASE, TAUS, GS), expected


@literally.mistake("You use sign(tau_n): that is the agreement score. R depends on |theta_n|, so it is sign(theta_n).")
def sign_of_the_update(theta_0, taus, Gs):
    return [tau.sign() * G * sum(taus) for tau, G in zip(taus, Gs, strict=True)]


@literally.mistake("You use the sign of the base. The derivative is taken at the expert, theta_0 + tau_n.")
def sign_of_the_base(theta_0, taus, Gs):
    return [theta_0.sign() * G * sum(taus) for G in Gs]


@literally.mistake("The sign is missing: d|theta|/dtheta is sign(theta), and it is negative for half of the weights.")
def no_sign(theta_0, taus, Gs):
    return [G * sum(taus) for G in Gs]


@literally.mistake("You leave expert n out of the sum. The paper's tau* is the sum over all experts, n included.")
def others_only(theta_0, taus, Gs):
    return [(theta_0 + tau).sign() * G * (sum(taus) - tau) for tau, G in zip(taus, Gs, strict=True)]


@literally.mistake(
    "You score with the expert's own update. That is the ablation without modulation: use the sum of all."
)
def own_update_only(theta_0, taus, Gs):
    return [(theta_0 + tau).sign() * G * tau for tau, G in zip(taus, Gs, strict=True)]


@literally.mistake("You take the mean of the updates. The ranking is the same, the formula says sum.")
def mean_not_sum(theta_0, taus, Gs):
    return [(theta_0 + tau).sign() * G * sum(taus) / len(taus) for tau, G in zip(taus, Gs, strict=True)]


@literally.mistake("You take absolute values at the end. That is the score `abs`; the literal one keeps its sign.")
def absolute(theta_0, taus, Gs):
    return [(G * sum(taus)).abs() for G in Gs]


# ---------------------------------------------------------------------------- 05.3

agreeing = Exercise(
    id="05.3",
    title="The agreement score",
    kind="design",
    goal=(
        "Now the score that the paper's *words* describe: an update that opposes the aggregate is negative, one that "
        "goes along is positive, and the size is |G_n| |tau*| as before."
    ),
    minutes=5,
    difficulty=2,
    importance=5,
    hints=[
        "When do expert n and the aggregate agree in an entry?",
        "`tau.sign() * tau_star` is positive where they agree, and its size is that of the aggregate.",
        "`[G * tau.sign() * sum(taus) for tau, G in zip(taus, Gs, strict=True)]`",
    ],
)


@agreeing.solution
def agreement_scores(taus, Gs):
    """One score for each expert and entry, below 0 where the expert goes against the sum of all experts.

    taus: list of N tensors, Gs: list of N tensors >= 0, all of one shape -> list of N tensors
    """
    tau_star = sum(taus)
    return [G * tau.sign() * tau_star for tau, G in zip(taus, Gs, strict=True)]


@agreeing.law("one expert always agrees with itself: G |tau|")
def _(agreement_scores):
    return agreement_scores([_t(-0.5)], [_t(2.0)]), [_t(1.0)]


@agreeing.law("two experts, 3 and -1: the second opposes the sum")
def _(agreement_scores):
    return agreement_scores([_t(3.0), _t(-1.0)], [_t(1.0), _t(5.0)]), [_t(2.0), _t(-10.0)]


@agreeing.law("an expert that does not touch an entry scores 0 there")
def _(agreement_scores):
    return agreement_scores([_t(0.0, 1.0), _t(2.0, 1.0)], [_t(1.0, 1.0), _t(1.0, 1.0)])[0], _t(0.0, 2.0)


@agreeing.law("three experts that all turn round: the scores stay")
def _(agreement_scores):
    return agreement_scores([-tau for tau in TAUS], GS), agreement_scores(TAUS, GS)


@agreeing.law("three experts, by the definition")
def _(agreement_scores):
    total = TAUS[0] + TAUS[1] + TAUS[2]
    same = [(tau * total > 0).float() - (tau * total < 0).float() for tau in TAUS]
    return agreement_scores(TAUS, GS), [s * G * total.abs() for s, G in zip(same, GS, strict=True)]


@agreeing.mistake("You multiply by tau_n itself, so a large update of its own counts twice. Only its sign enters here.")
def own_size_counts(taus, Gs):
    return [G * tau * sum(taus) for tau, G in zip(taus, Gs, strict=True)]


@agreeing.mistake(
    "You take absolute values: then an update that opposes the aggregate scores as high as one that agrees."
)
def never_negative(taus, Gs):
    return [(G * tau.sign() * sum(taus)).abs() for tau, G in zip(taus, Gs, strict=True)]


@agreeing.mistake("You leave expert n out of the sum. tau* is the sum over all experts, n included.")
def without_itself(taus, Gs):
    return [G * tau.sign() * (sum(taus) - tau) for tau, G in zip(taus, Gs, strict=True)]


@agreeing.mistake(
    "Only the sign of the aggregate enters your score. Its size counts: a strong consensus is worth more."
)
def sign_of_the_sum_only(taus, Gs):
    return [G * tau.sign() * sum(taus).sign() for tau, G in zip(taus, Gs, strict=True)]


@agreeing.mistake("You forget to compare: |G| tau* is the same for all experts but for G. Multiply by sign(tau_n).")
def not_compared(taus, Gs):
    return [G * sum(taus) for G in Gs]


@agreeing.mistake("You weigh the expert's own size and only the sign of the sum. It is the other way round.")
def sizes_swapped(taus, Gs):
    return [G * tau * sum(taus).sign() for tau, G in zip(taus, Gs, strict=True)]


# ---------------------------------------------------------------------------- 05.4

overlapping = Exercise(
    id="05.4",
    errors={"ZeroDivisionError": "Two masks may keep nothing at all. The text says what their overlap is then."},
    title="Do two experts keep the same entries?",
    kind="decide",
    goal="One number that says how much two masks choose the same entries: 1 if they are the same, 0 if they share "
    "none; "
    "entries that neither keeps say nothing; each expert counts alike. Two masks that keep nothing at all share "
    "nothing.",
    minutes=5,
    difficulty=1,
    importance=3,
    hints=[
        "Two masks of three entries share one. Of how many entries that anybody keeps?",
        "`&` is *both*, `|` is *at least one*; `.sum()` counts.",
        "`(a & b).sum().item() / max(1, (a | b).sum().item())`",
    ],
)


@overlapping.solution
def overlap(a, b):
    """How much two masks keep the same.  a, b: bool tensors of one shape -> float in [0, 1]"""
    return (a & b).sum().item() / max(1, (a | b).sum().item())


def _b(*rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.bool)


@overlapping.law("a mask overlaps itself by 1")
def _(overlap):
    return overlap(_b(1, 0, 1), _b(1, 0, 1)), 1.0


@overlapping.law("no common entry: 0")
def _(overlap):
    return overlap(_b(1, 0, 0), _b(0, 1, 0)), 0.0


@overlapping.law("one of three: both keep entry 0, entries 1 and 2 are kept by one of them, nobody keeps entry 3")
def _(overlap):
    return overlap(_b(1, 1, 0, 0), _b(1, 0, 1, 0)), 1 / 3


@overlapping.law("a mask inside a larger one")
def _(overlap):
    return overlap(_b([1, 0, 0], [0, 0, 1]), _b([1, 1, 1], [0, 1, 1])), 2 / 5


@overlapping.law("two masks that keep nothing: 0, not 0 / 0")
def _(overlap):
    return overlap(_b(0, 0), _b(0, 0)), 0.0


@overlapping.law("the third entry is in the first mask alone: which mask comes first does not matter")
def _(overlap):
    return [overlap(_b(1, 1, 1, 0), _b(1, 1, 0, 0)), overlap(_b(1, 1, 0, 0), _b(1, 1, 1, 0))], [2 / 3, 2 / 3]


@overlapping.law("only one of the two keeps anything, and but one entry: 0")
def _(overlap):
    return [overlap(_b(1, 0), _b(0, 0)), overlap(_b(1), _b(1))], [0.0, 1.0]


@overlapping.mistake("You divide 0 by 0 where both masks are empty. They share nothing: 0.")
def empty_masks_forgotten(a, b):
    return ((a & b).sum() / (a | b).sum()).item()


@overlapping.mistake(
    "That is Dice's measure, 2 |both| / (|a| + |b|). Divide by the entries that anybody keeps, each once."
)
def dice(a, b):
    return 2 * (a & b).sum().item() / max(1, (a.sum() + b.sum()).item())


@overlapping.mistake(
    "You divide by the smaller mask. A small mask inside a large one would be `the same`: use `a | b`."
)
def share_of_the_smaller(a, b):
    return (a & b).sum().item() / max(1, min(a.sum().item(), b.sum().item()))


@overlapping.mistake("You divide by the number of all entries. Those that nobody keeps say nothing about overlap.")
def share_of_all(a, b):
    return (a & b).double().mean().item()


@overlapping.mistake("You divide by what the first mask keeps. Divide by what at least one of the two keeps: `a | b`.")
def share_of_the_first(a, b):
    return (a & b).sum().item() / max(1, a.sum().item())


@overlapping.mistake(
    "You count entries on which the masks are equal, the pruned ones too. Count those that both *keep*."
)
def equal_entries(a, b):
    return (a == b).double().mean().item()


@overlapping.mistake("That is the part in which they differ: 1 minus the overlap.")
def difference_not_overlap(a, b):
    return (a ^ b).sum().item() / max(1, (a | b).sum().item())


@overlapping.mistake(
    "You divide by the two sizes added up, so entries kept by both count twice below the line. Use `a | b`."
)
def union_counted_twice(a, b):
    return (a & b).sum().item() / max(1, (a.sum() + b.sum()).item())


# ---------------------------------------------------------------------------- 05.5

resolving = Exercise(
    id="05.5",
    title="Resolved by whom?",
    kind="decide",
    goal=(
        "Sign conflict goes down if opponents are pruned, and also if *anything* is pruned. Tell the two apart. An "
        "update opposes if its sign is the opposite of the aggregate's, the sum of all experts **before** pruning; its "
        "mass is its size; where the aggregate is 0 nobody opposes it. Of all the opposing mass, which share did "
        "pruning "
        "remove? If nothing opposes, it is 0."
    ),
    errors={"ZeroDivisionError": "It may be that nobody opposes: then the share is 0, as the text says."},
    minutes=10,
    difficulty=3,
    importance=4,
    hints=[
        "Three experts, one entry: +3, -1, +1. Who opposes, and with which mass? What if the +3 is pruned?",
        "`opposing = taus * taus.sum(dim=0) < 0` says who, once and for all. What is pruned is 0 in `pruned`.",
        "`gone = taus.abs()[opposing & (pruned == 0)].sum()`, divided by `taus.abs()[opposing].sum()`, if that is "
        "not 0.",
    ],
)


@resolving.solution
def opposition_removed(taus, pruned):
    """Share of the opposing mass that is gone.

    taus: (N, d), a row for each expert; pruned: the same with zeros where something was pruned -> float in [0, 1]
    """
    opposing = taus * taus.sum(dim=0) < 0
    mass = taus.abs()[opposing].sum().item()
    gone = taus.abs()[opposing & (pruned == 0)].sum().item()
    return gone / mass if mass > 0 else 0.0


ALL = _t([3.0, -1.0, 2.0, 0.0], [-1.0, -4.0, 1.0, 2.0], [1.0, 2.0, -0.5, -3.0])  # the sum is 3, -3, 2.5, -1


def _without(*entries: tuple[int, int]) -> torch.Tensor:
    pruned = ALL.clone()
    for n, p in entries:
        pruned[n, p] = 0.0
    return pruned


@resolving.law("nobody opposes: 0")
def _(opposition_removed):
    return opposition_removed(_t([1.0, 2.0], [3.0, 0.0]), _t([1.0, 0.0], [0.0, 0.0])), 0.0


@resolving.law("an exact tie: the aggregate is 0, and nobody opposes it")
def _(opposition_removed):
    return opposition_removed(_t([1.0], [-1.0]), _t([1.0], [0.0])), 0.0


@resolving.law("one opponent of mass 1, pruned: all of the opposition is gone")
def _(opposition_removed):
    return opposition_removed(_t([3.0], [-1.0]), _t([3.0], [0.0])), 1.0


@resolving.law("the strong side is pruned: the opponent is still one, and still there")
def _(opposition_removed):
    return opposition_removed(_t([3.0], [-1.0], [1.0]), _t([0.0], [-1.0], [1.0])), 0.0


@resolving.law("opponents of mass 1, 2, 0.5 and 2; the one of 0.5 and a 2 are gone")
def _(opposition_removed):
    return opposition_removed(ALL, _without((2, 2), (1, 3), (0, 0))), 2.5 / 5.5


@resolving.law("mass, not number: one of four opponents is gone, and 2 of 5.5")
def _(opposition_removed):
    return opposition_removed(ALL, _without((2, 1))), 2.0 / 5.5


@resolving.law("a small opposition counts as a large one does: it is a share")
def _(opposition_removed):
    return opposition_removed(0.01 * ALL, 0.01 * _without((2, 1))), 2.0 / 5.5


@resolving.mistake("You count opponents. Their mass, |tau|, is asked for: a large opponent weighs more.")
def counted(taus, pruned):
    opposing = taus * taus.sum(dim=0) < 0
    return (opposing & (pruned == 0)).sum().item() / max(1, opposing.sum().item())


@resolving.mistake("You return how much of the opposition is left. 1 minus that is gone.")
def left_not_gone(taus, pruned):
    opposing = taus * taus.sum(dim=0) < 0
    mass = taus.abs()[opposing].sum().item()
    return taus.abs()[opposing & (pruned != 0)].sum().item() / mass if mass > 0 else 0.0


@resolving.mistake(
    "You ask again after pruning who opposes. The aggregate is the sum *before*: an opponent does not become an ally "
    "because its adversary is gone."
)
def aggregate_after(taus, pruned):
    before, after = taus * taus.sum(dim=0) < 0, pruned * pruned.sum(dim=0) < 0
    mass = taus.abs()[before].sum().item()
    return 1 - pruned.abs()[after].sum().item() / mass if mass > 0 else 0.0


@resolving.mistake(
    "That is the share of *all* mass that is gone. Only what opposes the aggregate counts, above and below."
)
def all_mass(taus, pruned):
    return (1 - pruned.abs().sum() / taus.abs().sum()).item()


@resolving.mistake("You divide by the mass of all updates. Divide by that of the opponents: all of them gone is 1.")
def share_of_everything(taus, pruned):
    opposing = taus * taus.sum(dim=0) < 0
    return (taus.abs()[opposing & (pruned == 0)].sum() / taus.abs().sum()).item()


@resolving.mistake("You return a mass. Divide it by the whole opposing mass: a share is asked for.")
def mass_not_share(taus, pruned):
    opposing = taus * taus.sum(dim=0) < 0
    return taus.abs()[opposing & (pruned == 0)].sum().item()


@resolving.mistake(
    "You look at those who agree with the aggregate. Opponents have the *other* sign: the product is below 0."
)
def agreement_removed(taus, pruned):
    agreeing = taus * taus.sum(dim=0) > 0
    return taus.abs()[agreeing & (pruned == 0)].sum().item() / max(1e-12, taus.abs()[agreeing].sum().item())


EXERCISES = [by_hand, literally, agreeing, overlapping, resolving]

QUIZZES = [
    Quiz(
        "05.q1",
        "A weight theta_n = -2; expert n's update is +0.3, the sum of all updates is +1. Which score is negative?",
        right="a",
        a=(
            "The literal one, and no other.",
            "Yes: the aggregate moves -2 towards zero, the weight shrinks. That expert n goes along does not count.",
        ),
        b=("The agreement score alone.", "Both updates are positive: they agree, so it is positive."),
        c=("None: the two updates agree.", "They do, and only the agreement score asks that question."),
        d=("All of them, but for `abs`.", "The agreement score is positive: sign(tau_n) and tau* are both positive."),
    ),
    Quiz(
        "05.q2",
        "Fine-tuning changes weights by a few per cent. Under which scores do all experts get nearly the same mask?",
        right="c",
        a=("Under all of the three.", "Not under agreement: its sign is that of each expert's own update."),
        b=(
            "Under agreement only.",
            "There the expert's own sign enters, and experts differ in it about half of the time.",
        ),
        c=(
            "Under literal and abs.",
            "Yes: |G_n| and sign(theta_n) are nearly those of the base, and tau* is one and the same for all experts.",
        ),
        d=("Under none of them.", "Which ingredient of the literal score differs between experts, and by how much?"),
    ),
    Quiz(
        "05.q3",
        "With all experts' masks (nearly) the same, what happens to a coordinate in which experts disagree?",
        right="b",
        a=(
            "The losing side is pruned there, and the winning side is kept.",
            "Its mask is that of the winning side: both stay, or both go.",
        ),
        b=(
            "Both sides are kept there, or both of them are pruned.",
            "Yes: a common mask chooses coordinates. It cannot settle a conflict inside one.",
        ),
        c=(
            "It is pruned, since what disagrees adds up to little.",
            "Only if |tau*| is small there. A majority of one against many keeps it large.",
        ),
    ),
]

OPEN = [
    OpenTask(
        "05.open",
        "a fourth reading",
        "The paper's formula, its words and its code may be three methods. Write a fourth score that you would "
        "defend in a "
        "review: what should it reward, and what should it punish? Give its sign in the eight rows of the table of "
        "signs, then "
        "measure overlap, opposition removed and accuracy beside the three readings, with lam from validation.",
        [
            "The wish comes first, in words; the formula follows from it, and the eight signs are right for the "
            "formula.",
            "All numbers come from the same cells as those of the three readings.",
            "Differences in accuracy are compared with their error before anything is called better.",
            "It says which experiment would show the score to be wrong.",
        ],
    )
]
