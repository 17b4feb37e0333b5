"""Exercises of notebook 06: the survivors' quota, the loop, the effective scale, an ablation, a fair comparison."""

import torch

from ..exercise import Exercise, OpenTask, Quiz


def _t(*rows) -> torch.Tensor:
    return torch.tensor(rows)


# ---------------------------------------------------------------------------- 06.1

surviving = Exercise(
    id="06.1",
    title="The survivors' quota",
    goal=(
        "The mask of round t for one tensor: the $\\lceil (1-p)^t \\cdot \\mathrm{numel} \\rceil$ largest scores, "
        "chosen **among the survivors**, the entries where `tau` is not zero. numel counts all of the tensor's "
        "entries, "
        "pruned or not, so the quota of round t does not depend on how many are left. At a tie exactly the quota "
        "stays. "
        "What was pruned never comes back, whatever its score. (In floating point, 0.8**2 * 25 is "
        "16.000000000000004: take a hair off first.)"
    ),
    minutes=15,
    difficulty=3,
    importance=5,
    hints=[
        "How can you make sure that a pruned entry loses every comparison? Which number is smaller than all scores?",
        "`torch.where(tau != 0, S, -torch.inf).flatten().topk(keep).indices` are the places to keep, counted from 0.",
        "`keep = math.ceil((1 - p) ** t * tau.numel() * (1 - 1e-12))`; then "
        "`mask = torch.zeros(tau.numel(), dtype=bool)`, `mask[places] = True`, "
        "`return mask.view_as(tau) & (tau != 0)`.",
    ],
)


@surviving.solution
def survivors(S, tau, t, p):
    """The mask of round t = 1, 2, ...  S, tau: tensors of one shape, p: share pruned in [0, 1) -> bool tensor"""
    import math

    keep = math.ceil((1 - p) ** t * tau.numel() * (1 - 1e-12))
    places = torch.where(tau != 0, S, -torch.inf).flatten().topk(keep).indices
    mask = torch.zeros(tau.numel(), dtype=torch.bool)
    mask[places] = True
    return mask.view_as(tau) & (tau != 0)


@surviving.law("round 1, half of four entries: the two largest scores")
def _(survivors):
    return survivors(_t(1.0, 4.0, 3.0, 2.0), torch.ones(4), 1, 0.5), _t(False, True, True, False)


@surviving.law("round 2, half of four, then half of that: one entry is left of the two that live")
def _(survivors):
    return survivors(_t(1.0, 2.0, 3.0, 4.0), _t(0.0, 5.0, 7.0, 0.0), 2, 0.5), _t(False, False, True, False)


@surviving.law("negative scores: a quota, not a threshold at zero")
def _(survivors):
    return survivors(_t([-1.0, -2.0, -3.0]), _t([1.0, -1.0, 1.0]), 1, 0.4), _t([True, True, False])


@surviving.law("a pruned entry does not come back, even if it has the largest score and all others are negative")
def _(survivors):
    return survivors(_t([-1.0, 9.0], [-2.0, -3.0]), _t([1.0, 0.0], [1.0, 1.0]), 1, 0.25), _t(
        [True, False], [True, True]
    )


@surviving.law("p = 0 keeps every survivor")
def _(survivors):
    return survivors(_t(3.0, -1.0, 2.0), _t(1.0, 0.0, -2.0), 5, 0.0), _t(True, False, True)


@surviving.law("five entries, p = 0.3: ceil(3.5) = 4 stay after round 1")
def _(survivors):
    return survivors(_t(5.0, 4.0, 3.0, 2.0, 1.0), torch.ones(5), 1, 0.3), _t(True, True, True, True, False)


@surviving.law("five entries, p = 0.3, round 2: ceil(2.45) = 3 of the four that live")
def _(survivors):
    return survivors(_t(5.0, 4.0, 3.0, 2.0, 1.0), _t(1.0, 1.0, 1.0, 1.0, 0.0), 2, 0.3), _t(
        True, True, True, False, False
    )


@surviving.law("five entries, p = 0.3, round 3: ceil(1.7) = 2, whatever is left")
def _(survivors):
    return survivors(_t(5.0, 4.0, 3.0, 2.0, 1.0), _t(1.0, 1.0, 1.0, 0.0, 0.0), 3, 0.3), _t(
        True, True, False, False, False
    )


@surviving.law("six equal scores: exactly three stay")
def _(survivors):
    return int(survivors(torch.ones(2, 3), torch.ones(2, 3), 1, 0.5).sum()), 3


@surviving.law("25 entries, p = 0.2, round 2: 16 stay")
def _(survivors):
    S = torch.arange(25.0).view(5, 5)
    tau = (S >= 5).float()  # 20 of them survived round 1
    return int(survivors(S, tau, 2, 0.2).sum()), 16


@surviving.mistake(
    "You rank the whole tensor, so pruned entries take places in the quota. Give them the score `-inf` first."
)
def pruned_take_places(S, tau, t, p):
    import math

    keep = math.ceil((1 - p) ** t * tau.numel() * (1 - 1e-12))
    mask = torch.zeros(tau.numel(), dtype=torch.bool)
    mask[S.flatten().topk(keep).indices] = True
    return mask.view_as(tau) & (tau != 0)


@surviving.mistake(
    "You take the share (1-p)^t of the *survivors*. They are already fewer: take it of all entries, `tau.numel()`."
)
def discounted_twice(S, tau, t, p):
    import math

    keep = math.ceil((1 - p) ** t * int((tau != 0).sum()) * (1 - 1e-12))
    mask = torch.zeros(tau.numel(), dtype=torch.bool)
    mask[torch.where(tau != 0, S, -torch.inf).flatten().topk(keep).indices] = True
    return mask.view_as(tau) & (tau != 0)


@surviving.mistake(
    "You take the share 1-p of the survivors, without t. Rounding up each time keeps too many: (1-p)^t of all entries."
)
def share_of_survivors(S, tau, t, p):
    import math

    keep = math.ceil((1 - p) * int((tau != 0).sum()) * (1 - 1e-12))
    mask = torch.zeros(tau.numel(), dtype=torch.bool)
    mask[torch.where(tau != 0, S, -torch.inf).flatten().topk(keep).indices] = True
    return mask.view_as(tau) & (tau != 0)


@surviving.mistake(
    "`S * (tau != 0)` gives pruned entries the score 0, and 0 beats every negative score. Give them `-inf`."
)
def zeros_beat_negatives(S, tau, t, p):
    import math

    keep = math.ceil((1 - p) ** t * tau.numel() * (1 - 1e-12))
    mask = torch.zeros(tau.numel(), dtype=torch.bool)
    mask[(S * (tau != 0)).flatten().topk(keep).indices] = True
    return mask.view_as(tau) & (tau != 0)


@surviving.mistake("The score 0 for pruned entries, and their places count: they beat negative scores, and come back.")
def zeros_come_back(S, tau, t, p):
    import math

    keep = math.ceil((1 - p) ** t * tau.numel() * (1 - 1e-12))
    mask = torch.zeros(tau.numel(), dtype=torch.bool)
    mask[(S * (tau != 0)).flatten().topk(keep).indices] = True
    return mask.view_as(tau)


@surviving.mistake("A threshold keeps every score that equals it: at a tie more than the quota stays. Use `topk`.")
def ties_kept_all(S, tau, t, p):
    import math

    keep = math.ceil((1 - p) ** t * tau.numel() * (1 - 1e-12))
    alive = torch.where(tau != 0, S, -torch.inf)
    return (alive >= alive.flatten().sort(descending=True).values[keep - 1]) & (tau != 0)


@surviving.mistake("You round to the nearest whole number. The quota is rounded *up*.")
def rounded_to_nearest(S, tau, t, p):
    keep = round((1 - p) ** t * tau.numel())
    mask = torch.zeros(tau.numel(), dtype=torch.bool)
    mask[torch.where(tau != 0, S, -torch.inf).flatten().topk(keep).indices] = True
    return mask.view_as(tau) & (tau != 0)


@surviving.mistake("You round down. The quota is rounded *up*, so that a small tensor is never emptied.")
def rounded_down(S, tau, t, p):
    import math

    keep = math.floor((1 - p) ** t * tau.numel() * (1 + 1e-12))
    mask = torch.zeros(tau.numel(), dtype=torch.bool)
    mask[torch.where(tau != 0, S, -torch.inf).flatten().topk(keep).indices] = True
    return mask.view_as(tau) & (tau != 0)


@surviving.mistake(
    "One too many in some rounds: 0.8**2 * 25 is 16.000000000000004 in floating point, and rounding up makes it 17. "
    "Multiply by `(1 - 1e-12)` before `ceil`."
)
def floating_point_dust(S, tau, t, p):
    import math

    keep = math.ceil((1 - p) ** t * tau.numel())
    mask = torch.zeros(tau.numel(), dtype=torch.bool)
    mask[torch.where(tau != 0, S, -torch.inf).flatten().topk(keep).indices] = True
    return mask.view_as(tau) & (tau != 0)


@surviving.mistake("You keep the smallest scores. A large score means that the entry matters: keep the largest.")
def smallest_kept(S, tau, t, p):
    import math

    keep = math.ceil((1 - p) ** t * tau.numel() * (1 - 1e-12))
    mask = torch.zeros(tau.numel(), dtype=torch.bool)
    mask[torch.where(tau != 0, -S, -torch.inf).flatten().topk(keep).indices] = True
    return mask.view_as(tau) & (tau != 0)


@surviving.mistake("You rank by the size of S. The score is signed: -3 is the last in the ranking, not the first.")
def size_of_the_score(S, tau, t, p):
    import math

    keep = math.ceil((1 - p) ** t * tau.numel() * (1 - 1e-12))
    mask = torch.zeros(tau.numel(), dtype=torch.bool)
    mask[torch.where(tau != 0, S.abs(), -torch.inf).flatten().topk(keep).indices] = True
    return mask.view_as(tau) & (tau != 0)


@surviving.mistake("You drop every negative score as well. The rule is a quota: if it reaches that far, they stay.")
def threshold_at_zero(S, tau, t, p):
    return survivors(S, tau, t, p) & (S > 0)


@surviving.mistake("Your quota is the same in every round. After round t the share (1-p)^t is left: use t.")
def same_quota_in_every_round(S, tau, t, p):
    return survivors(S, tau, 1, p)


# ---------------------------------------------------------------------------- 06.2

looping = Exercise(
    id="06.2",
    title="The loop",
    kind="design",
    goal=(
        "All of SA-Merging but the sum: T rounds, in each of them score **what is left** of all task vectors, then "
        "prune all of them. `score(taus)` returns one dictionary of scores for each expert, `survivors(S, tau, t, p)` "
        "is yours from 06.1 (or ours) and works on one tensor."
    ),
    minutes=15,
    difficulty=3,
    importance=5,
    hints=[
        "Three loops: rounds, experts, tensors. Which of them must `score` be called in, and how often?",
        "Score once a round, before any expert is pruned. Then build the new task vectors from the old ones.",
        "`taus = [{k: tau[k] * survivors(S_n[k], tau[k], t, p) for k in tau} for tau, S_n in zip(taus, score(taus))]`",
    ],
)


@looping.solution
def prune(taus, score, survivors, T, p):
    """The pruned task vectors.  taus: list of {name: tensor}, T: rounds, p: share pruned in a round -> the same form"""
    for t in range(1, T + 1):
        S = score(taus)
        taus = [
            {key: tau[key] * survivors(S_n[key], tau[key], t, p) for key in tau}
            for tau, S_n in zip(taus, S, strict=True)
        ]
    return taus


def _size(taus):
    """|tau_n|: the experts do not see each other."""
    return [{key: tau[key].abs() for key in tau} for tau in taus]


def _consensus(taus):
    """tau_n * tau_star: what is large and agrees."""
    return [{key: tau[key] * sum(other[key] for other in taus) for key in tau} for tau in taus]


def _experts():
    g = torch.Generator().manual_seed(6)
    shapes = {"w": (4, 6), "b": (5,)}
    return [{key: torch.randn(shape, generator=g) for key, shape in shapes.items()} for _ in range(3)]


@looping.law("one expert, one round, by size: half of four entries")
def _(prune):
    return prune([{"w": _t(4.0, 0.5, 1.0, -3.0)}], _size, survivors, 1, 0.5), [{"w": _t(4.0, 0.0, 0.0, -3.0)}]


@looping.law("p = 0 prunes nothing")
def _(prune):
    return prune(_experts(), _consensus, survivors, 3, 0.0), _experts()


@looping.law("two rounds of one half leave a quarter of eight entries")
def _(prune):
    tau = {"w": _t([8.0, -7.0, 6.0, -5.0], [4.0, -3.0, 2.0, -1.0])}
    return prune([tau], _size, survivors, 2, 0.5), [{"w": _t([8.0, -7.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0])}]


@looping.law("each tensor has its own ranking: a small one is not emptied by a large one")
def _(prune):
    tau = {"w": _t(100.0, 200.0), "b": _t(0.1, 0.2)}
    return prune([tau], _size, survivors, 1, 0.5), [{"w": _t(0.0, 200.0), "b": _t(0.0, 0.2)}]


@looping.law("the score is asked once a round, about what is left: 8, then 4, then 2 entries")
def _(prune):
    seen = []

    def score(taus):
        seen.append(int(sum((tau["w"] != 0).sum() for tau in taus)))
        return _size(taus)

    prune([{"w": _t(8.0, -7.0, 6.0, -5.0, 4.0, -3.0, 2.0, -1.0)}], score, survivors, 3, 0.5)
    return seen, [8, 4, 2]


@looping.law("two experts in one round: the second is scored before the first is pruned")
def _(prune):
    taus = [{"w": _t(1.0, -4.0)}, {"w": _t(1.0, 3.0)}]  # the sum is 2, -1: expert 2 agrees with it in entry 0 only
    return prune(taus, _consensus, survivors, 1, 0.5), [{"w": _t(0.0, -4.0)}, {"w": _t(1.0, 0.0)}]


@looping.law("three experts, two tensors, two rounds: the sum changes when the others are pruned")
def _(prune):
    first = [
        {key: tau[key] * survivors(S[key], tau[key], 1, 0.4) for key in tau}
        for tau, S in zip(_experts(), _consensus(_experts()), strict=True)
    ]
    second = [
        {key: tau[key] * survivors(S[key], tau[key], 2, 0.4) for key in tau}
        for tau, S in zip(first, _consensus(first), strict=True)
    ]
    return prune(_experts(), _consensus, survivors, 2, 0.4), second


@looping.mistake("You score once, before the loop: that is one-shot pruning in slices. Call `score` in each round.")
def scored_once(taus, score, survivors, T, p):
    S = score(taus)
    for t in range(1, T + 1):
        taus = [{k: tau[k] * survivors(S_n[k], tau[k], t, p) for k in tau} for tau, S_n in zip(taus, S, strict=True)]
    return taus


@looping.mistake(
    "You score again after each expert: then the order of the experts matters. Score all of them, then prune all."
)
def one_expert_after_the_other(taus, score, survivors, T, p):
    taus = list(taus)
    for t in range(1, T + 1):
        for n in range(len(taus)):
            S_n = score(taus)[n]
            taus[n] = {k: taus[n][k] * survivors(S_n[k], taus[n][k], t, p) for k in taus[n]}
    return taus


@looping.mistake("Your rounds are 0 to T-1, and round 0 has the quota (1-p)^0 = all. Count them from 1 to T.")
def rounds_from_zero(taus, score, survivors, T, p):
    for t in range(T):
        S = score(taus)
        taus = [{k: tau[k] * survivors(S_n[k], tau[k], t, p) for k in tau} for tau, S_n in zip(taus, S, strict=True)]
    return taus


@looping.mistake("You pass t = 1 in every round, so the quota never gets smaller. Pass the number of the round.")
def always_round_one(taus, score, survivors, T, p):
    for _ in range(T):
        S = score(taus)
        taus = [{k: tau[k] * survivors(S_n[k], tau[k], 1, p) for k in tau} for tau, S_n in zip(taus, S, strict=True)]
    return taus


@looping.mistake("You return the sum. Asked are the N pruned task vectors: summing them is the merge's step.")
def sum_returned(taus, score, survivors, T, p):
    taus = prune(taus, score, survivors, T, p)
    return {key: sum(tau[key] for tau in taus) for key in taus[0]}


@looping.mistake("You stop one round early: `range(1, T)` ends at T - 1. Use `range(1, T + 1)`.")
def one_round_short(taus, score, survivors, T, p):
    return prune(taus, score, survivors, T - 1, p)


@looping.mistake("You keep what the mask marks as pruned. The mask is True where an entry *survives*: multiply by it.")
def mask_inverted(taus, score, survivors, T, p):
    for t in range(1, T + 1):
        S = score(taus)
        taus = [{k: tau[k] * ~survivors(S_n[k], tau[k], t, p) for k in tau} for tau, S_n in zip(taus, S, strict=True)]
    return taus


# ---------------------------------------------------------------------------- 06.3

scaling = Exercise(
    id="06.3",
    title="The effective scale",
    kind="design",
    goal=(
        "How much of the plain sum $\\tau^*$ is in a merged vector $\\hat\\tau$? The number e for which "
        "$\\hat\\tau = e\\,\\tau^* + (\\text{something orthogonal to } \\tau^*)$. The sum is not zero."
    ),
    minutes=5,
    difficulty=2,
    importance=5,
    hints=[
        "What must come out for tau* itself? For half of it? For something orthogonal to it?",
        "Take the inner product of both sides with tau*: what happens to the orthogonal part? `a @ b` is that product.",
        "`((tau_hat @ tau_star) / (tau_star @ tau_star)).item()`",
    ],
)


@scaling.solution
def effective_scale(tau_hat, tau_star):
    """How far tau_hat goes along tau_star, in lengths of tau_star.  two vectors of length d -> float"""
    return ((tau_hat @ tau_star) / (tau_star @ tau_star)).item()


@scaling.law("the sum itself has the effective scale 1")
def _(effective_scale):
    return effective_scale(_t(3.0, -4.0), _t(3.0, -4.0)), 1.0


@scaling.law("0.3 times the sum: 0.3")
def _(effective_scale):
    return effective_scale(_t(0.9, -1.2), _t(3.0, -4.0)), 0.3


@scaling.law("what is orthogonal to the sum does not count")
def _(effective_scale):
    return effective_scale(_t(3.0 + 4.0, -4.0 + 3.0), _t(3.0, -4.0)), 1.0


@scaling.law("a mask that keeps one of four entries of equal size: 1/4")
def _(effective_scale):
    return effective_scale(_t(0.0, -2.0, 0.0, 0.0), _t(2.0, -2.0, 2.0, 2.0)), 0.25


@scaling.law("a mask that keeps the larger of two entries, 4 of 3 and 4: 16/25, more than its density")
def _(effective_scale):
    return effective_scale(_t(0.0, 4.0), _t(3.0, 4.0)), 0.64


@scaling.law("the opposite direction is negative")
def _(effective_scale):
    return effective_scale(_t(-1.0, 0.0, -1.0), _t(2.0, 0.0, 2.0)), -0.5


@scaling.mistake(
    "That is the cosine: it does not change when tau_hat gets longer. Divide by `tau_star @ tau_star` only."
)
def cosine(tau_hat, tau_star):
    return ((tau_hat @ tau_star) / (tau_hat.norm() * tau_star.norm())).item()


@scaling.mistake("That is the ratio of lengths. It counts what is orthogonal to the sum, too: project.")
def ratio_of_lengths(tau_hat, tau_star):
    return (tau_hat.norm() / tau_star.norm()).item()


@scaling.mistake("That is the density, the share of entries kept. Large entries weigh more: project.")
def density_instead(tau_hat, tau_star):
    return (tau_hat != 0).double().mean().item()


@scaling.mistake("You divide by the length of tau_star once. Divide by its square, `tau_star @ tau_star`.")
def divided_once(tau_hat, tau_star):
    return ((tau_hat @ tau_star) / tau_star.norm()).item()


@scaling.mistake("You project the sum onto tau_hat. Turn it round: the denominator belongs to tau_star.")
def turned_round(tau_hat, tau_star):
    return ((tau_hat @ tau_star) / (tau_hat @ tau_hat)).item()


@scaling.mistake("You return the inner product. Divide it by that of tau_star with itself.")
def not_divided(tau_hat, tau_star):
    return (tau_hat @ tau_star).item()


# ---------------------------------------------------------------------------- 06.4

ablating = Exercise(
    id="06.4",
    title="An ablation of your choice",
    goal=(
        "Start from the abs score $|G_n \\tau^*|$, whose parts can be taken out one by one. "
        '`without="nothing"` is the whole; `"modulation"` takes the expert\'s own update in place of the sum; '
        '`"sensitivity"` takes $G = 1$; `"both"` does both. Write all four, and predict before the '
        "next cells measure them which one costs most."
    ),
    minutes=10,
    difficulty=2,
    importance=4,
    hints=[
        "Two independent questions: whose update, and which G?",
        "`update = tau if without in ('modulation', 'both') else sum(taus)`, and the same for G and 1.",
        "`scores.append((G * update).abs())` with `G = torch.ones_like(tau)` where sensitivity is out.",
    ],
)


@ablating.solution
def ablated(without, taus, Gs):
    """The abs score with a part taken out, for each expert.

    without: "nothing", "modulation", "sensitivity" or "both"; taus, Gs: N tensors of one shape -> list of N tensors
    """
    scores = []
    for tau, G in zip(taus, Gs, strict=True):
        update = tau if without in ("modulation", "both") else sum(taus)
        slope = torch.ones_like(tau) if without in ("sensitivity", "both") else G
        scores.append((slope * update).abs())
    return scores


TAUS = [
    _t([0.5, 0.5, -1.0], [1.0, 0.25, 0.0]),
    _t([-0.25, 1.0, 0.5], [0.5, -1.0, 2.0]),
    _t([1.0, -4.0, 0.75], [0.0, 0.5, -0.5]),
]
GS = [_t([1.0, 2.0, 0.5], [3.0, 1.0, 2.0]), _t([2.0, 1.0, 1.0], [0.0, 4.0, 1.5]), _t([0.5, 1.0, 3.0], [1.0, 2.0, 1.0])]


@ablating.law("nothing taken out, two experts, one entry: the sum is 3 - 1 = 2, for both")
def _(ablated):
    return ablated("nothing", [_t(3.0), _t(-1.0)], [_t(1.0), _t(5.0)]), [_t(2.0), _t(10.0)]


@ablating.law("no modulation: each expert's own update counts, 3 and 1")
def _(ablated):
    return ablated("modulation", [_t(3.0), _t(-1.0)], [_t(1.0), _t(5.0)]), [_t(3.0), _t(5.0)]


@ablating.law("no sensitivity: the size of the sum, the same for both")
def _(ablated):
    return ablated("sensitivity", [_t(3.0), _t(-1.0)], [_t(1.0), _t(5.0)]), [_t(2.0), _t(2.0)]


@ablating.law("neither: trimming by size, as in TIES")
def _(ablated):
    return ablated("both", TAUS, GS), [tau.abs() for tau in TAUS]


@ablating.law("a single expert is its own sum: modulation changes nothing")
def _(ablated):
    return ablated("modulation", TAUS[1:2], GS[1:2]), ablated("nothing", TAUS[1:2], GS[1:2])


@ablating.law("three experts, two rows and three columns: nothing taken out")
def _(ablated):
    total = TAUS[0] + TAUS[1] + TAUS[2]
    return ablated("nothing", TAUS, GS), [(G * total).abs() for G in GS]


@ablating.law("three experts: no sensitivity")
def _(ablated):
    total = TAUS[0] + TAUS[1] + TAUS[2]
    return ablated("sensitivity", TAUS, GS), [total.abs()] * 3


@ablating.mistake("Modulation and sensitivity are swapped: modulation is the sum of updates, sensitivity is G.")
def swapped(without, taus, Gs):
    return ablated({"modulation": "sensitivity", "sensitivity": "modulation"}.get(without, without), taus, Gs)


@ablating.mistake("Your scores have signs. Here we start from the abs score: take `.abs()` of the product.")
def signed(without, taus, Gs):
    whole = without in ("nothing", "sensitivity")
    updates = [sum(taus) if whole else tau for tau in taus]
    return [u if without in ("sensitivity", "both") else G * u for u, G in zip(updates, Gs, strict=True)]


@ablating.mistake("The aggregate leaves expert n out. The paper's tau* is the sum over all experts, n included.")
def others_only(without, taus, Gs):
    if without in ("modulation", "both"):
        return ablated(without, taus, Gs)
    slopes = [torch.ones_like(G) for G in Gs] if without == "sensitivity" else Gs
    return [(G * (sum(taus) - tau)).abs() for tau, G in zip(taus, slopes, strict=True)]


@ablating.mistake("You take G = 0 where it should play no part. A factor that does not matter is 1.")
def zero_slope(without, taus, Gs):
    if without in ("sensitivity", "both"):
        return [torch.zeros_like(tau) for tau in taus]
    return ablated(without, taus, Gs)


@ablating.mistake('You ignore `"both"`: it takes the sum and G out at the same time and leaves |tau_n|.')
def both_ignored(without, taus, Gs):
    return ablated("nothing" if without == "both" else without, taus, Gs)


@ablating.mistake("You take the sum of the sizes. Opposite updates cancel in tau*: sum first, then `.abs()`.")
def sum_of_sizes(without, taus, Gs):
    if without in ("modulation", "both"):
        return ablated(without, taus, Gs)
    return ablated(without, [tau.abs() for tau in taus], Gs)


# ---------------------------------------------------------------------------- 06.5

comparing = Exercise(
    id="06.5",
    errors={
        "ZeroDivisionError": "There may be no random mask at all. The method itself is one of the results: count it."
    },
    title="How surprising is the method among random masks?",
    kind="decide",
    goal=(
        "If the method's mask were just another random one, how often would it do as well as it does? Under that "
        "assumption its result is one of all the results, no other than the random ones; and one that is equal is at "
        "least as good. Without any random mask nothing can be claimed: 1. "
        "(A permutation test; small values speak for the method.)"
    ),
    minutes=5,
    difficulty=2,
    importance=5,
    hints=[
        "The best possible result with ten random masks is not 0. What is it?",
        "Count with `>=`: a tie is as good.",
        "`(1 + sum(r >= method for r in random)) / (1 + len(random))`",
    ],
)


@comparing.solution
def surprise(method, random):
    """How often chance does as well.  method: float, random: list of floats, may be empty -> float in (0, 1]"""
    return (1 + sum(r >= method for r in random)) / (1 + len(random))


@comparing.law("better than all of four random masks: 1/5, and no less")
def _(surprise):
    return surprise(72.0, [70.0, 71.0, 69.5, 70.5]), 1 / 5


@comparing.law("no random mask: nothing can be claimed")
def _(surprise):
    return surprise(72.0, []), 1.0


@comparing.law("worse than all of them: 1")
def _(surprise):
    return surprise(60.0, [70.0, 71.0, 69.5]), 1.0


@comparing.law("in the middle")
def _(surprise):
    return surprise(71.0, [70.0, 72.0, 69.0, 73.0, 70.5]), 3 / 6


@comparing.law("a tie counts as at least as good")
def _(surprise):
    return surprise(71.0, [71.0, 70.0]), 2 / 3


@comparing.mistake("You leave the method itself out, so that ten masks could show 0. Add 1 above and below the line.")
def without_itself(method, random):
    return sum(r >= method for r in random) / max(1, len(random))


@comparing.mistake("You add 1 below the line only. The method is at least as good as itself: it counts above as well.")
def only_below(method, random):
    return sum(r >= method for r in random) / (1 + len(random))


@comparing.mistake("You count ties as worse. Use `>=`: a random mask that is equal is at least as good.")
def ties_lose(method, random):
    return (1 + sum(r > method for r in random)) / (1 + len(random))


@comparing.mistake("You count the random masks that are worse. Count those that are at least as good.")
def counted_the_worse(method, random):
    return (1 + sum(r < method for r in random)) / (1 + len(random))


@comparing.mistake("You return a number of masks. Divide by how many results there are, the method's included.")
def number_not_share(method, random):
    return 1 + sum(r >= method for r in random)


@comparing.mistake("You compare with the mean of the random masks. Compare with each of them: their spread matters.")
def against_the_mean(method, random):
    return 1.0 if sum(random) / max(1, len(random)) >= method else 1 / (1 + len(random))


EXERCISES = [surviving, looping, scaling, ablating, comparing]

QUIZZES = [
    Quiz(
        "06.q1",
        "Eight experts, each keeps 10.7 % of its entries. If the eight masks were independent, what share of the "
        "entries would at least one of them keep?",
        right="c",
        a=("About 11 %.", "That would be so if all eight masks were the same one."),
        b=("About 86 %.", "8 times 10.7 %: but an entry that two of them keep is counted twice."),
        c=("About 60 %.", "Yes: nobody keeps an entry with probability (1 - 0.107)^8, which is 0.40."),
    ),
    Quiz(
        "06.q2",
        "At lam = 1 random masks beat SA-Merging by far; at the scale that suits SA-Merging, they lose. Which "
        "experiment "
        "tells whether its *choice of entries* is good?",
        right="b",
        a=(
            "Both at lam = 1, with ten random masks in place of one.",
            "More exact, and just as unfair: SA-Merging's sum is far too long there. Length is not choice.",
        ),
        b=(
            "Both at scales that take them equally far along tau*.",
            "Yes. Two things differ, which entries and how far the model moves. First make one of them equal.",
        ),
        c=(
            "Both at the lam that is best for SA-Merging on validation.",
            "That scale is far too small for a random mask of the same density: it would lose by its length.",
        ),
    ),
    Quiz(
        "06.q3",
        "A paper prunes with a fixed p, sums at lam = 1, and finds that accuracy rises with the number of rounds T. "
        "What would you measure first?",
        right="a",
        a=(
            "One round at the same final density.",
            "Yes: with p fixed, T also sets how much is left, and so how far the model moves. Hold that fixed.",
        ),
        b=("The same curve with more seeds.", "It would be drawn more exactly, and leave two explanations."),
        c=(
            "The same curve up to a larger T.",
            "It goes on until too little is left; that says nothing about why it rose.",
        ),
        d=(
            "The same curve at another p.",
            "The public notes say that the trend does not depend on p. That fits both explanations.",
        ),
    ),
]

OPEN = [
    OpenTask(
        "06.open",
        "save the method, or bury it",
        "On this suite the choice of entries does not make the merge. Find *one* setting in which it should (another "
        "density, "
        "fewer experts, similar tasks, LoRA experts), say why before you run it, and run it at equal effective scale "
        "with "
        "ten random masks. A clear no is as good an answer as a yes.",
        [
            "The reason is stated before the result, and it follows from what the score looks at.",
            "Equal effective scale, the same number of images, ten random masks, the surprise as a number.",
            "The setting was chosen once; if several were tried, all are reported.",
            "The conclusion is no wider than the setting.",
        ],
    )
]
