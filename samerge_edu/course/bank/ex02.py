"""Exercises of notebook 02: sign conflict, the three steps of TIES.

Here N task vectors are one matrix, tau: (N, d), a row for each expert.
"""

import torch

from ..exercise import Exercise, OpenTask, Quiz

TAU = torch.tensor(
    [
        [4.0, 1.0, -3.0, 0.5, 0.0, -0.25],
        [2.0, -1.5, 5.0, 0.25, 0.0, -1.0],
        [-1.0, 0.5, 2.0, 6.0, 3.0, -0.5],
    ]
)

# ---------------------------------------------------------------------------- 02.1

conflict = Exercise(
    id="02.1",
    title="Sign conflict",
    kind="decide",
    goal="Of the entries that at least two experts change (not 0), on what share do a + and a - meet? If no entry is "
    "changed by two experts, there is no conflict: 0.",
    minutes=10,
    difficulty=2,
    importance=4,
    hints=[
        "An expert that leaves an entry at 0 neither agrees nor disagrees. How many experts must change it to count?",
        "Count the positive and the negative values of each column: `(tau > 0).sum(dim=0)`, `(tau < 0).sum(dim=0)`.",
        "Contested: at least one of each. Shared: two or more in all. Divide the two counts; 0 if nothing is shared.",
    ],
)


@conflict.solution
def sign_conflict(tau):
    """Share of the entries changed by two or more experts that get both signs.  tau: (N, d) -> float in [0, 1]"""
    plus, minus = (tau > 0).sum(dim=0), (tau < 0).sum(dim=0)
    contested = (plus > 0) & (minus > 0)
    shared = plus + minus >= 2
    return float(contested.sum() / shared.sum().clamp(min=1))


@conflict.law("two experts, one of two entries contested: 1/2")
def _(sign_conflict):
    return sign_conflict(torch.tensor([[1.0, 2.0], [3.0, -2.0]])), 0.5


@conflict.law("one entry is shared, and it is contested: all of the conflict there can be")
def _(sign_conflict):
    return sign_conflict(torch.tensor([[1.0, 2.0, 0.0], [-1.0, 0.0, 4.0]])), 1.0


@conflict.law("experts that change different entries cannot disagree")
def _(sign_conflict):
    return sign_conflict(torch.tensor([[1.0, 0.0, 0.0], [0.0, -2.0, 0.0]])), 0.0


@conflict.law("three experts: an entry is contested whoever disagrees, and counts only if two change it")
def _(sign_conflict):
    tau = torch.tensor([[1.0, 0.0, 2.0, 0.0, 1.0], [1.0, -3.0, -1.0, 0.0, 0.0], [-1.0, -1.0, -5.0, 4.0, 2.0]])
    return sign_conflict(tau), 2 / 4


@conflict.law("the lengths of the experts do not matter")
def _(sign_conflict):
    return sign_conflict(TAU * torch.tensor([[0.01], [1.0], [100.0]])), 3 / 5


@conflict.law("the order of the experts does not matter")
def _(sign_conflict):
    return sign_conflict(TAU.flip(0)), sign_conflict(TAU)


@conflict.mistake("You count 0 against + as a disagreement. An expert that changes nothing has no sign: leave it out.")
def zero_as_a_sign(tau):
    sign = tau.sign()
    contested = sign.amax(dim=0) != sign.amin(dim=0)
    return float(contested.sum() / ((tau != 0).sum(dim=0) >= 2).sum().clamp(min=1))


@conflict.mistake("You divide by all d entries. Only entries that two or more experts change can be contested.")
def share_of_all_entries(tau):
    return float((((tau > 0).any(dim=0)) & ((tau < 0).any(dim=0))).float().mean())


@conflict.mistake("That is the share without conflict. Count the entries where both signs meet.")
def agreement(tau):
    return 1 - sign_conflict(tau)


@conflict.mistake("You compare only the first two experts. Any two of the N may disagree.")
def first_two(tau):
    return sign_conflict(tau[:2])


@conflict.mistake("The sign of the product fails for N > 2: two minuses hide each other. Count plus and minus apart.")
def sign_of_product(tau):
    shared = (tau != 0).sum(dim=0) >= 2
    return float(((tau.prod(dim=0) < 0) & shared).sum() / shared.sum().clamp(min=1))


@conflict.mistake("You count entries whose sum is negative. Conflict is about the single signs, not about their sum.")
def sum_is_negative(tau):
    shared = (tau != 0).sum(dim=0) >= 2
    return float(((tau.sum(dim=0) < 0) & shared).sum() / shared.sum().clamp(min=1))


# ---------------------------------------------------------------------------- 02.2

trimming = Exercise(
    id="02.2",
    title="Trim",
    goal="Step 1 of TIES: keep each expert's largest entries by magnitude, exactly `round(density * d)` of them, also "
    "where magnitudes are equal (then it does not matter which) and where the rounded number is 0.",
    minutes=10,
    difficulty=2,
    importance=5,
    hints=[
        "Is -3 a larger change than 1? What do you have to rank?",
        "`tau.abs().topk(k, dim=1).indices` says where the k largest magnitudes of each row are.",
        "A mask of zeros, `.scatter(1, indices, 1.0)`, times tau.",
    ],
)


@trimming.solution
def trim(tau, density=0.2):
    """Each row's round(density * d) largest |entries|, 0 elsewhere.  tau: (N, d), density: share kept -> (N, d)"""
    k = round(density * tau.shape[1])
    kept = tau.abs().topk(k, dim=1).indices
    return tau * torch.zeros_like(tau).scatter(1, kept, 1.0)


@trimming.law("one expert, by hand: -3 is a larger change than 1")
def _(trim):
    return trim(torch.tensor([[4.0, 1.0, -3.0]]), density=2 / 3), torch.tensor([[4.0, 0.0, -3.0]])


@trimming.law("density = 1 keeps everything")
def _(trim):
    return trim(TAU, density=1.0), TAU


@trimming.law("0.2 is the default, and exactly round(0.2 * 7) = 1 entry of each expert survives")
def _(trim):
    tau = torch.tensor([[1.0, -7.0, 3.0, 5.0, -2.0, 4.0, 6.0], [0.5, 0.1, -0.4, 0.2, 0.3, 0.6, -0.7]])
    return (trim(tau) != 0).sum(dim=1), torch.tensor([1, 1])


@trimming.law("1.75 entries of five are rounded to 2")
def _(trim):
    return trim(torch.tensor([[1.0, -5.0, 2.0, 4.0, -3.0]]), density=0.35), torch.tensor([[0.0, -5.0, 0.0, 4.0, 0.0]])


@trimming.law("a density that rounds to 0 entries keeps none")
def _(trim):
    return trim(torch.tensor([[3.0, -1.0, 2.0]]), density=0.1), torch.zeros(1, 3)


@trimming.law("five equal magnitudes: still exactly two survive")
def _(trim):
    return (trim(torch.tensor([[2.0, -2.0, 2.0, 2.0, -2.0]]), density=0.4) != 0).sum(dim=1), torch.tensor([2])


@trimming.law("stretching one expert changes nothing for the others")
def _(trim):
    stretched = TAU * torch.tensor([[1.0], [100.0], [1.0]])
    return trim(stretched, density=0.5)[[0, 2]], trim(TAU, density=0.5)[[0, 2]]


@trimming.law("turning all signs round turns the result round")
def _(trim):
    return trim(-TAU, density=1 / 3), -trim(TAU, density=1 / 3)


@trimming.mistake("You rank the signed values, so -3 counts as small. Rank the magnitudes, `tau.abs()`.")
def ranked_with_sign(tau, density=0.2):
    kept = tau.topk(round(density * tau.shape[1]), dim=1).indices
    return tau * torch.zeros_like(tau).scatter(1, kept, 1.0)


@trimming.mistake("You keep the smallest entries. Small changes are the redundant ones: keep the largest.")
def smallest_kept(tau, density=0.2):
    kept = tau.abs().topk(round(density * tau.shape[1]), dim=1, largest=False).indices
    return tau * torch.zeros_like(tau).scatter(1, kept, 1.0)


@trimming.mistake("You drop the share `density` and keep the rest. Density is the share that is kept.")
def density_as_share_dropped(tau, density=0.2):
    kept = tau.abs().topk(round((1 - density) * tau.shape[1]), dim=1).indices
    return tau * torch.zeros_like(tau).scatter(1, kept, 1.0)


@trimming.mistake("You rank all experts together, so a quiet expert loses everything. Rank each row for itself.")
def one_ranking_for_all(tau, density=0.2):
    kept = tau.abs().flatten().topk(round(density * tau.numel())).indices
    return tau * torch.zeros(tau.numel()).scatter(0, kept, 1.0).view_as(tau)


@trimming.mistake("You cut off the decimals of density * d: round to the nearest whole number.")
def cut_off(tau, density=0.2):
    kept = tau.abs().topk(int(density * tau.shape[1]), dim=1).indices
    return tau * torch.zeros_like(tau).scatter(1, kept, 1.0)


@trimming.mistake(
    "You keep one entry where density * d rounds to 0. Exactly the rounded number is asked for: then none."
)
def at_least_one(tau, density=0.2):
    kept = tau.abs().topk(max(1, round(density * tau.shape[1])), dim=1).indices
    return tau * torch.zeros_like(tau).scatter(1, kept, 1.0)


@trimming.mistake("Your threshold keeps every entry that equals it, so ties give more than k. `topk` gives exactly k.")
def ties_kept_all(tau, density=0.2):
    k = round(density * tau.shape[1])
    size = tau.abs()
    return tau * (size >= size.sort(dim=1, descending=True).values[:, k - 1 : k]) if k else torch.zeros_like(tau)


@trimming.mistake("You return the magnitudes. The sign is needed in the next step: multiply the mask with tau.")
def sign_lost(tau, density=0.2):
    return trim(tau, density).abs()


@trimming.mistake("You return the mask. Multiply it with tau.")
def mask_only(tau, density=0.2):
    kept = tau.abs().topk(round(density * tau.shape[1]), dim=1).indices
    return torch.zeros_like(tau).scatter(1, kept, 1.0)


@trimming.mistake("You divide what is kept by density. That is DARE's correction; TIES leaves the values as they are.")
def rescaled(tau, density=0.2):
    return trim(tau, density) / density


# ---------------------------------------------------------------------------- 02.3

electing = Exercise(
    id="02.3",
    title="Elect",
    goal="Step 2 of TIES: one sign for each entry. Every expert votes with its trimmed value: +5 outweighs -1 and -1, "
    "but not -3 and -3. An exact tie elects no sign.",
    minutes=5,
    difficulty=1,
    importance=5,
    hints=[
        "Two experts say -1 each, one says +5. Who wins if the votes are the values themselves?",
        "Add up the column, then look at its sign.",
        "`tau_hat.sum(dim=0).sign()`",
    ],
)


@electing.solution
def elect(tau_hat):
    """gamma, the elected sign of each entry.  tau_hat: (N, d), trimmed -> (d,) of -1, 0 (no sign), +1"""
    return tau_hat.sum(dim=0).sign()


@electing.law("two experts, by hand: the larger change wins")
def _(elect):
    return elect(torch.tensor([[2.0, -1.0], [-0.5, 3.0]])), torch.tensor([1.0, 1.0])


@electing.law("one large vote outweighs two small ones")
def _(elect):
    return elect(torch.tensor([[-1.0], [-1.0], [5.0]])), torch.tensor([1.0])


@electing.law("two votes together outweigh a larger single one")
def _(elect):
    return elect(torch.tensor([[-2.0, 0.0], [-2.0, 0.0], [3.0, -1.0]])), torch.tensor([-1.0, -1.0])


@electing.law("no vote, or an exact tie: no sign, 0")
def _(elect):
    return elect(torch.tensor([[0.0, 2.0, 1.0], [0.0, -2.0, 0.0]])), torch.tensor([0.0, 0.0, 1.0])


@electing.law("turning all votes round turns the result round")
def _(elect):
    return elect(-TAU), -elect(TAU)


@electing.mistake("You count heads: each expert one vote. In TIES the values vote, so a large change weighs more.")
def heads_counted(tau_hat):
    return tau_hat.sign().sum(dim=0).sign()


@electing.mistake("You take the sign of the largest single value. All values vote: take the sign of their sum.")
def loudest_wins(tau_hat):
    return tau_hat.gather(0, tau_hat.abs().argmax(dim=0, keepdim=True))[0].sign()


@electing.mistake("An entry without votes, or with a tie, gets + from you. The formula says sgn(0) = 0.")
def zero_is_plus(tau_hat):
    return torch.where(tau_hat.sum(dim=0) >= 0, 1.0, -1.0)


@electing.mistake("You return the sum. Only its sign is elected here; the values are merged in step 3.")
def sum_returned(tau_hat):
    return tau_hat.sum(dim=0)


@electing.mistake("You multiply the signs. With three experts two minuses make a plus: add the values instead.")
def product_of_signs(tau_hat):
    return tau_hat.sign().prod(dim=0)


@electing.mistake("You sum along the wrong side. One sign for each entry: sum over the experts, `dim=0`.")
def over_entries(tau_hat):
    return tau_hat.sum(dim=1).sign()


# ---------------------------------------------------------------------------- 02.4

merging = Exercise(
    id="02.4",
    title="Disjoint mean",
    kind="decide",
    goal="Step 3 of TIES: for each entry, the mean over those experts alone whose value has the elected sign. Where "
    "nobody's has, the merged entry is 0.",
    minutes=10,
    difficulty=3,
    importance=5,
    hints=[
        "Three experts: +4, -1, and a 0 left by the trim. gamma is +. How many experts take part in the mean?",
        "`agree = tau_hat.sign() == gamma` says who takes part. Sum those values, divide by how many there are.",
        "Where nobody agrees the count is 0: `.clamp(min=1)` before you divide gives 0 / 1 = 0.",
    ],
)


@merging.solution
def disjoint_mean(tau_hat, gamma):
    """Mean over the experts whose sign is gamma; 0 if there is none.  tau_hat: (N, d), gamma: (d,) -> (d,)"""
    agree = tau_hat.sign() == gamma
    return (tau_hat * agree).sum(dim=0) / agree.sum(dim=0).clamp(min=1)


@merging.law("one expert alone comes back as it is")
def _(disjoint_mean):
    return disjoint_mean(torch.tensor([[4.0, 0.0, -3.0]]), torch.tensor([1.0, 0.0, -1.0])), torch.tensor(
        [4.0, 0.0, -3.0]
    )


@merging.law("+4, -1, 0 and gamma = +: only the first takes part")
def _(disjoint_mean):
    return disjoint_mean(torch.tensor([[4.0], [-1.0], [0.0]]), torch.tensor([1.0])), torch.tensor([4.0])


@merging.law("+4 and +2 agree, -3 does not: their mean is 3")
def _(disjoint_mean):
    return disjoint_mean(torch.tensor([[4.0], [2.0], [-3.0]]), torch.tensor([1.0])), torch.tensor([3.0])


@merging.law("an entry that everybody trimmed stays 0")
def _(disjoint_mean):
    tau_hat = torch.tensor([[0.0, -2.0, 1.0], [0.0, -4.0, -5.0]])
    return disjoint_mean(tau_hat, torch.tensor([0.0, -1.0, -1.0])), torch.tensor([0.0, -3.0, -5.0])


@merging.law("nobody has the elected sign: 0, not 0 / 0")
def _(disjoint_mean):
    return disjoint_mean(torch.tensor([[-1.0, 2.0], [-2.0, 0.0]]), torch.tensor([1.0, 1.0])), torch.tensor([0.0, 2.0])


@merging.law("the order of the experts does not matter")
def _(disjoint_mean):
    gamma = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, -1.0])
    return disjoint_mean(TAU.flip(0), gamma), disjoint_mean(TAU, gamma)


@merging.law("whose sign is elected is decided outside: gamma = - takes the minority here")
def _(disjoint_mean):
    return disjoint_mean(torch.tensor([[4.0, 1.0], [-1.0, -3.0], [2.0, -1.0]]), torch.tensor([-1.0, -1.0])), (
        torch.tensor([-1.0, -2.0])
    )


@merging.mistake("You divide by N, also where few experts take part. Divide by the number that agree.")
def divided_by_all(tau_hat, gamma):
    return (tau_hat * (tau_hat.sign() == gamma)).sum(dim=0) / len(tau_hat)


@merging.mistake("You divide by the experts that are not 0, those that disagree among them. Count who agrees.")
def divided_by_nonzero(tau_hat, gamma):
    agree = tau_hat.sign() == gamma
    return (tau_hat * agree).sum(dim=0) / (tau_hat != 0).sum(dim=0).clamp(min=1)


@merging.mistake(
    "A 0 takes part in your mean: `tau_hat * gamma >= 0` is true of it. An expert that trimmed the entry has no "
    "opinion."
)
def zeros_take_part(tau_hat, gamma):
    agree = tau_hat * gamma >= 0
    return (tau_hat * agree).sum(dim=0) / agree.sum(dim=0).clamp(min=1)


@merging.mistake("That is the sum of those that agree (the variant of the CLIP tables, at lam = 0.3). Take the mean.")
def sum_not_mean(tau_hat, gamma):
    return (tau_hat * (tau_hat.sign() == gamma)).sum(dim=0)


@merging.mistake("Experts that disagree still take part. Use only values whose sign equals gamma.")
def everybody_takes_part(tau_hat, gamma):
    return tau_hat.sum(dim=0) / (tau_hat != 0).sum(dim=0).clamp(min=1)


@merging.mistake("Where nobody agrees you divide 0 by 0. `.clamp(min=1)` on the count makes it 0 / 1 = 0.")
def zero_by_zero(tau_hat, gamma):
    agree = tau_hat.sign() == gamma
    return (tau_hat * agree).sum(dim=0) / agree.sum(dim=0)


@merging.mistake("You turn the values that disagree round to the elected sign. They do not take part at all.")
def disagreeing_turned_round(tau_hat, gamma):
    return gamma * tau_hat.abs().sum(dim=0) / (tau_hat != 0).sum(dim=0).clamp(min=1)


@merging.mistake("You never use gamma: you elect again inside. Take the sign that you were given.")
def elected_again(tau_hat, gamma):
    return disjoint_mean(tau_hat, tau_hat.sum(dim=0).sign())


EXERCISES = [conflict, trimming, electing, merging]

QUIZZES = [
    Quiz(
        "02.q1",
        "Eight experts. On 98 % of the entries both signs occur. What do you compare this with, before you call it "
        "conflict?",
        right="b",
        a=(
            "With 0 %: experts that do not disturb each other have the same sign everywhere.",
            "That would be eight copies of one expert. Independent experts differ in half of their signs.",
        ),
        b=(
            "With what eight random vectors of the same size would show on the same entries.",
            "Yes: 1 - 2 * (1/2)^8, which is 99 %. How much *cancels* in the sum, against chance, says more.",
        ),
        c=(
            "With 50 %: one sign of two is the wrong one, on every entry of the task vectors.",
            "Half is the chance for *two* vectors. With eight, hardly any entry has one sign only.",
        ),
    ),
    Quiz(
        "02.q2",
        "Two tables say 'TIES, density 0.2', and differ by three points. Which difference between them explains it "
        "*least*?",
        right="d",
        a=(
            "One trims the whole vector at once, the other tensor by tensor.",
            "That can move several points: small tensors lose everything in one case and not in the other.",
        ),
        b=(
            "One takes the mean of those who agree, the other their sum.",
            "That is a factor of up to N in length, unless lam was chosen anew.",
        ),
        c=(
            "One reads 0.2 as the share kept, the other as the share dropped.",
            "Libraries differ in just this; 20 % and 80 % are two different methods.",
        ),
        d=(
            "One merges the experts in another order than the other does.",
            "Yes: step by step the method is symmetric in the experts. All the others move the number.",
        ),
    ),
]

OPEN = [
    OpenTask(
        "02.open",
        "a conflict that matters",
        "Sign conflict counts entries. But does an entry in conflict *hurt*? Invent a measure of interference that you "
        "believe in more, of the task vectors alone, and say in advance which pair of experts it calls the worst. Then "
        "merge that pair and the pair it calls the best, and report whether accuracy agrees.",
        [
            "The measure is defined in one formula, with its value for orthogonal, equal and opposite vectors.",
            "The prediction was written down before the merge was measured.",
            "Accuracy is compared with each expert's own, at a lam chosen for each pair on validation.",
            "It says what random vectors of the same lengths would give, and does not explain away a failure.",
        ],
    )
]
