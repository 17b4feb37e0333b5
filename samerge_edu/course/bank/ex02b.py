"""Exercises of notebook 02b, one a method: DARE, DELLA, Breadcrumbs, PCB, consensus masks, LiNeS.

As in notebook 02, N task vectors are one matrix, tau: (N, d), a row for each expert.
"""

import math

import torch

from ..exercise import Exercise, OpenTask, Quiz

TAU = torch.tensor(
    [
        [4.0, 1.0, -3.0, 0.5, 0.0, -0.25],
        [2.0, -1.5, 5.0, 0.25, 0.0, -1.0],
        [-1.0, 0.5, 2.0, 6.0, 3.0, -0.5],
    ]
)

# --------------------------------------------------------------------------- 02b.1

dropping = Exercise(
    id="02b.1",
    title="Drop and rescale",
    kind="design",
    goal="DARE: keep each entry with probability `density`, by a coin of its own, drawn from `generator` alone; make "
    "up for "
    "the loss so that the expected value of every entry is what it was.",
    minutes=10,
    difficulty=2,
    importance=4,
    hints=[
        "If one entry in four survives, how large must the survivor be, so that on average nothing is lost?",
        "`torch.rand(tau.shape, generator=generator) < density` keeps each entry with probability density.",
        "`tau * kept / density`",
    ],
)


@dropping.solution
def drop_and_rescale(tau, density, generator):
    """Keep each entry with probability density, and make up for those that fall.

    tau: any shape, density: in (0, 1], generator: torch.Generator that draws the coins -> the shape of tau
    """
    kept = torch.rand(tau.shape, generator=generator) < density
    return tau * kept / density


def _seed(n: int) -> torch.Generator:
    return torch.Generator().manual_seed(n)


@dropping.law("density = 1 keeps everything as it is")
def _(drop_and_rescale):
    tau = torch.tensor([[1.0, -2.0, 0.5]])
    return drop_and_rescale(tau, 1.0, _seed(0)), tau


@dropping.law("at density 0.25 an entry becomes 0 or four times as large, nothing else")
def _(drop_and_rescale):
    out = drop_and_rescale(torch.ones(50, 4), 0.25, _seed(1))
    return sorted(set(out.flatten().tolist())), [0.0, 4.0]


@dropping.law("at density 0.2 a fifth of the entries survives")
def _(drop_and_rescale):
    out = drop_and_rescale(torch.full((25, 400), 3.0), 0.2, _seed(2))
    return round((out != 0).float().mean().item(), 1), 0.2


@dropping.law("each entry has a coin of its own: neither rows nor columns fall as a whole")
def _(drop_and_rescale):
    out = drop_and_rescale(torch.ones(30, 20), 0.5, _seed(7)) != 0
    return [bool((out != out[:1]).any()), bool((out != out[:, :1]).any())], [True, True]


@dropping.law("a coin, not a quota: of 100 entries not always the same number survives")
def _(drop_and_rescale):
    left = {int((drop_and_rescale(torch.ones(10, 10), 0.5, _seed(n)) != 0).sum()) for n in range(20)}
    return len(left) > 1, True


@dropping.law("the expected value is unchanged")
def _(drop_and_rescale):
    return round(drop_and_rescale(torch.ones(25, 400), 0.4, _seed(3)).mean().item(), 1), 1.0


@dropping.law("large entries are dropped as often as small ones")
def _(drop_and_rescale):
    out = drop_and_rescale(torch.arange(1.0, 10001.0), 0.5, _seed(4))
    return round((out[5000:] != 0).float().mean().item(), 1), 0.5


@dropping.law("the generator decides: the same seed gives the same entries, whatever torch.manual_seed says")
def _(drop_and_rescale):
    torch.manual_seed(1)
    first = drop_and_rescale(torch.ones(20, 3), 0.5, _seed(5))
    torch.manual_seed(2)
    return bool((first == drop_and_rescale(torch.ones(20, 3), 0.5, _seed(5))).all()), True


@dropping.law("a second draw from one generator is another draw")
def _(drop_and_rescale):
    generator = _seed(6)
    first = drop_and_rescale(torch.ones(20, 3), 0.5, generator)
    return bool((first == drop_and_rescale(torch.ones(20, 3), 0.5, generator)).all()), False


@dropping.mistake("Nothing makes up for the loss: the sum shrinks. Divide what is kept by density.")
def not_rescaled(tau, density, generator):
    return tau * (torch.rand(tau.shape, generator=generator) < density)


@dropping.mistake("You divide by 1 - density, the share dropped. The paper's p is that share; divide by what is kept.")
def divided_by_share_dropped(tau, density, generator):
    kept = torch.rand(tau.shape, generator=generator) < density
    return tau * kept / max(1 - density, 1e-3)


@dropping.mistake("You keep with probability 1 - density. Density is the share that stays.")
def share_dropped_is_kept(tau, density, generator):
    kept = torch.rand(tau.shape, generator=generator) >= density
    return tau * kept / density if density < 1 else tau


@dropping.mistake(
    "`rand > density` keeps with probability 1 - density, and at density = 1 it keeps nothing at all. Turn it round: "
    "`<`."
)
def above_density_is_kept(tau, density, generator):
    return tau * (torch.rand(tau.shape, generator=generator) > density) / density


@dropping.mistake("One coin decides for a whole column, that is for all experts at once. Draw one for each entry.")
def one_coin_a_column(tau, density, generator):
    return tau * (torch.rand(tau.shape[-1], generator=generator) < density) / density


@dropping.mistake(
    "You keep exactly round(density * n) entries, drawn by lot. A coin for each entry leaves their number open."
)
def quota_by_lot(tau, density, generator):
    lots = torch.rand(tau.numel(), generator=generator).topk(round(density * tau.numel())).indices
    return tau * torch.zeros(tau.numel()).scatter(0, lots, 1.0).view_as(tau) / density


@dropping.mistake("You keep the largest entries. DARE does not look at the values: a coin decides.")
def largest_kept(tau, density, generator):
    k = round(density * tau.numel())
    kept = torch.zeros(tau.numel()).scatter(0, tau.abs().flatten().topk(k).indices, 1.0)
    return tau * kept.view_as(tau) / density


@dropping.mistake("You toss the global coin: pass `generator=generator`, or nobody can repeat your result.")
def global_coin(tau, density, generator):
    return tau * (torch.rand(tau.shape) < density) / density


@dropping.mistake("You start the generator anew in each call, so every expert loses the same entries. Do not seed it.")
def seeded_inside(tau, density, generator):
    return tau * (torch.rand(tau.shape, generator=torch.Generator().manual_seed(0)) < density) / density


@dropping.mistake("You rescale to the old sum of magnitudes (mergekit does). DARE divides by density, whatever fell.")
def old_norm_restored(tau, density, generator):
    kept = tau * (torch.rand(tau.shape, generator=generator) < density)
    return kept * tau.abs().sum() / kept.abs().sum().clamp(min=1e-12)


# --------------------------------------------------------------------------- 02b.2

chancing = Exercise(
    id="02b.2",
    title="DELLA's chances",
    kind="design",
    goal="Design the chances with which DELLA keeps the entries of a matrix. In each row they depend on the *rank* of "
    "an entry alone: the smallest gets `density - epsilon`, the largest `density + epsilon`, the ranks between in "
    "equal steps. No two magnitudes of a row are equal, and a row has at least two.",
    minutes=10,
    difficulty=3,
    importance=3,
    hints=[
        "What is the chance of the entry in the middle of a row of three? And what if the largest becomes a hundred "
        "times as large?",
        "`argsort` says which entry comes first, not which place an entry has. What does a second `argsort` say?",
        "`rank = S.argsort(dim=1).argsort(dim=1)` is 0 for the smallest of a row and w - 1 for the largest.",
    ],
)


@chancing.solution
def chances(S, density, epsilon):
    """The chance of each entry to stay.  S: (rows, w) magnitudes, density, epsilon: floats -> (rows, w)"""
    rank = S.argsort(dim=1).argsort(dim=1)
    return density - epsilon + 2 * epsilon * rank / (S.shape[1] - 1)


SIZES = torch.tensor([[2.0, 9.0, 1.0, 5.0, 4.0], [0.5, 0.25, 8.0, 7.0, 0.125]])


@chancing.law("three entries by hand: smallest, largest, between")
def _(chances):
    return chances(torch.tensor([[1.0, 30.0, 2.0]]), 0.5, 0.25), torch.tensor([[0.25, 0.75, 0.5]])


@chancing.law("epsilon = 0 is DARE: every entry has the same chance")
def _(chances):
    return chances(SIZES, 0.3, 0.0), torch.full((2, 5), 0.3)


@chancing.law("each row is ranked for itself")
def _(chances):
    steps = [0.4, 0.5, 0.6, 0.7, 0.8]
    ranks = [[1, 4, 0, 3, 2], [2, 1, 4, 3, 0]]
    return chances(SIZES, 0.6, 0.2), torch.tensor([[steps[r] for r in row] for row in ranks])


@chancing.law("on average a row keeps the density")
def _(chances):
    return chances(SIZES, 0.6, 0.2).mean(dim=1), torch.tensor([0.6, 0.6])


@chancing.mistake("The smallest has your highest chance. DELLA protects the large entries: turn the ranks round.")
def small_ones_protected(S, density, epsilon):
    rank = S.argsort(dim=1, descending=True).argsort(dim=1)
    return density - epsilon + 2 * epsilon * rank / (S.shape[1] - 1)


@chancing.mistake("`argsort` alone says which entry comes first, second ... Sort its result again: each entry's place.")
def order_for_rank(S, density, epsilon):
    return density - epsilon + 2 * epsilon * S.argsort(dim=1) / (S.shape[1] - 1)


@chancing.mistake("You rank the whole matrix. Each row has a smallest and a largest of its own.")
def whole_matrix(S, density, epsilon):
    rank = S.flatten().argsort().argsort().view_as(S)
    return density - epsilon + 2 * epsilon * rank / (S.numel() - 1)


@chancing.mistake("Your chances follow the magnitudes. They should depend on the rank alone: one outlier moves nobody.")
def by_magnitude(S, density, epsilon):
    low, high = S.amin(dim=1, keepdim=True), S.amax(dim=1, keepdim=True)
    return density - epsilon + 2 * epsilon * (S - low) / (high - low)


@chancing.mistake("Your largest entry stays below density + epsilon: w entries have w - 1 steps between them.")
def one_step_too_many(S, density, epsilon):
    return density - epsilon + 2 * epsilon * S.argsort(dim=1).argsort(dim=1) / S.shape[1]


@chancing.mistake("Your steps reach from density to density + epsilon. The smallest entry starts below the density.")
def only_upwards(S, density, epsilon):
    return density + epsilon * S.argsort(dim=1).argsort(dim=1) / (S.shape[1] - 1)


# --------------------------------------------------------------------------- 02b.3

middling = Exercise(
    id="02b.3",
    title="Who leaves breadcrumbs",
    kind="decide",
    goal="Decide which entries Model Breadcrumbs keep. In each row of width w, `round(outliers * w)` of the largest "
    "go, because they are outliers; of what is left the largest `round(density * w)` stay. No two magnitudes of a row "
    "are equal.",
    minutes=10,
    difficulty=2,
    importance=3,
    hints=[
        "Write the places of a row from the largest, 0, to the smallest, w - 1. Which places stay?",
        "`S.argsort(dim=1, descending=True).argsort(dim=1)` gives each entry its place.",
        "`(place >= above) & (place < above + kept)`",
    ],
)


@middling.solution
def breadcrumb_mask(S, density, outliers):
    """True where an entry stays.  S: (rows, w) magnitudes, density, outliers: shares of a row -> (rows, w) bool"""
    w = S.shape[1]
    above, kept = round(outliers * w), round(density * w)
    place = S.argsort(dim=1, descending=True).argsort(dim=1)
    return (place >= above) & (place < above + kept)


@middling.law("five entries by hand: the largest goes, the next two stay")
def _(breadcrumb_mask):
    S = torch.tensor([[4.0, 1.0, 3.0, 0.5, 2.0]])
    return breadcrumb_mask(S, 0.4, 0.2), torch.tensor([[False, False, True, False, True]])


@middling.law("no outliers: the largest of each row stay")
def _(breadcrumb_mask):
    expected = [[False, True, False, True, False], [False, False, True, True, False]]
    return breadcrumb_mask(SIZES, 0.4, 0.0), torch.tensor(expected)


@middling.law("each row loses its own outliers")
def _(breadcrumb_mask):
    expected = [[False, False, False, True, True], [True, False, False, True, False]]
    return breadcrumb_mask(SIZES, 0.4, 0.2), torch.tensor(expected)


@middling.law("counts are rounded: 1.75 outliers of seven are two, 1.4 that stay are one")
def _(breadcrumb_mask):
    S = torch.arange(7.0)[None]
    return breadcrumb_mask(S, 0.2, 0.25), torch.tensor([[False, False, False, False, True, False, False]])


@middling.law("1.26 outliers of seven are one, 1.75 that stay are two")
def _(breadcrumb_mask):
    S = torch.arange(7.0)[None]
    return breadcrumb_mask(S, 0.25, 0.18), torch.tensor([[False, False, False, False, True, True, False]])


@middling.mistake("Your outliers stay. The largest of a row go first; only then are the next ones kept.")
def outliers_stay(S, density, outliers):
    place = S.argsort(dim=1, descending=True).argsort(dim=1)
    return place < round(density * S.shape[1])


@middling.mistake("You count the outliers among those that stay, so too few do: `density` of the row stays after that.")
def outliers_counted_in(S, density, outliers):
    place = S.argsort(dim=1, descending=True).argsort(dim=1)
    return (place >= round(outliers * S.shape[1])) & (place < round(density * S.shape[1]))


@middling.mistake("You start from the smallest. Outliers are the largest, and what stays are the largest of the rest.")
def from_the_small_end(S, density, outliers):
    w = S.shape[1]
    place = S.argsort(dim=1).argsort(dim=1)
    return (place >= round(outliers * w)) & (place < round(outliers * w) + round(density * w))


@middling.mistake("You rank the whole matrix, so that one loud row pays for all. Rank each row for itself.")
def ranked_together(S, density, outliers):
    place = S.flatten().argsort(descending=True).argsort().view_as(S)
    above = round(outliers * S.numel())
    return (place >= above) & (place < above + round(density * S.numel()))


@middling.mistake("You cut off the decimals of the counts. Round them to the nearest whole number.")
def cut_off(S, density, outliers):
    above = int(outliers * S.shape[1])
    place = S.argsort(dim=1, descending=True).argsort(dim=1)
    return (place >= above) & (place < above + int(density * S.shape[1]))


# --------------------------------------------------------------------------- 02b.4

balancing = Exercise(
    id="02b.4",
    title="Mend PCB's balance",
    kind="repair",
    goal="This program should compute the scores c of the formulas above. It runs, and its numbers look like scores; "
    "three "
    "of its choices are wrong. Find and mend them. Where all of an expert's magnitudes are equal nothing stands out: "
    "there u = 0.",
    minutes=15,
    difficulty=4,
    importance=3,
    hints=[
        "Stretch one expert by 100. Should the others' scores change? Which line makes them?",
        "Add a hundred columns of zeros. Should a change? And can `u.sum(dim=0)` ever be negative?",
        "`amin` and `amax` over `dim=1, keepdim=True`; `len(tau)` for N; `(tau.sign() * u).sum(dim=0)` for the wish.",
    ],
)


@balancing.solution
def balance(tau):
    """c, how much each entry of each expert matters to it and is wanted by all.  tau: (N, d) -> (N, d)"""
    size = tau.abs()
    low, high = size.amin(dim=1, keepdim=True), size.amax(dim=1, keepdim=True)
    u = (size - low) / (high - low).clamp(min=1e-12)
    a = (len(tau) * u**2).exp()
    b = (tau * (tau.sign() * u).sum(dim=0)).tanh()
    return a * b


@balancing.broken
def broken_balance(tau):
    """c, how much each entry of each expert matters to it and is wanted by all.  tau: (N, d) -> (N, d)"""
    size = tau.abs()
    u = (size - size.min()) / (size.max() - size.min()).clamp(min=1e-12)
    a = (tau.shape[1] * u**2).exp()
    b = (tau * u.sum(dim=0)).tanh()
    return a * b


BALANCED = torch.tensor([[0.25, 1.0, -0.5, 0.125], [1.5, -0.5, -0.25, 1.0], [-0.5, 2.0, -1.0, 0.25]])


@balancing.law("one expert has nobody against it: no score is negative")
def _(balance):
    u = [0.0, 0.5, 1.0]
    expected = [math.exp(v * v) * math.tanh(t * v) for t, v in zip([1.0, 2.0, 3.0], u, strict=True)]
    return balance(torch.tensor([[1.0, -2.0, 3.0]])), torch.tensor([expected])


@balancing.law("two experts that pull apart: the weaker one's score is negative")
def _(balance):
    return balance(torch.tensor([[2.0, 1.0, 0.5], [-1.0, 3.0, -2.0]])).sign(), torch.tensor(
        [[1.0, 1.0, -1.0], [-1.0, 1.0, 1.0]]
    )


@balancing.law("three experts, entry by entry in a loop")
def _(balance):
    N, d = BALANCED.shape
    size = BALANCED.abs().tolist()
    u = [[(v - min(row)) / (max(row) - min(row)) for v in row] for row in size]
    tau = BALANCED.tolist()
    c = torch.zeros(N, d)
    for n in range(N):
        for p in range(d):
            wish = sum(math.copysign(u[j][p], tau[j][p]) for j in range(N))
            c[n, p] = math.exp(N * u[n][p] ** 2) * math.tanh(tau[n][p] * wish)
    return balance(BALANCED), c


@balancing.law("an expert whose magnitudes are all equal: nothing stands out, u = 0, and nothing is 0 / 0")
def _(balance):
    return balance(torch.tensor([[0.5, -0.5, 0.5]])), torch.zeros(1, 3)


@balancing.law("turning all experts round changes no score")
def _(balance):
    return balance(-BALANCED), balance(BALANCED)


@balancing.law("the order of the experts does not matter")
def _(balance):
    return balance(BALANCED.flip(0)).flip(0), balance(BALANCED)


def _half_mended(tau, own_range=False, experts=False, signs=False):
    """The broken program with some of its three faults mended."""
    size = tau.abs()
    u = _u(tau) if own_range else (size - size.min()) / (size.max() - size.min()).clamp(min=1e-12)
    a = ((len(tau) if experts else tau.shape[1]) * u**2).exp()
    return a * (tau * ((tau.sign() if signs else 1) * u).sum(dim=0)).tanh()


@balancing.mistake(
    "One fault of three is mended: each expert has its own range. Now look at N, and at the common wish."
)
def range_mended(tau):
    return _half_mended(tau, own_range=True)


@balancing.mistake(
    "One fault of three is mended: N counts experts. Now look at the range of u, and at the common wish."
)
def number_mended(tau):
    return _half_mended(tau, experts=True)


@balancing.mistake("One fault of three is mended: the wish has signs. Now look at the range of u, and at N.")
def wish_mended(tau):
    return _half_mended(tau, signs=True)


@balancing.mistake(
    "Two faults are mended. The third: N is the number of experts, not of entries, or `exp` explodes in a real model."
)
def number_left(tau):
    return _half_mended(tau, own_range=True, signs=True)


@balancing.mistake(
    "Two faults are mended. The third: each expert competes within itself; take the range of its own row."
)
def range_left(tau):
    return _half_mended(tau, experts=True, signs=True)


@balancing.mistake("Two faults are mended. The third: the others' wish has lost its signs, so nobody is ever against.")
def wish_without_signs(tau):
    return _half_mended(tau, own_range=True, experts=True)


@balancing.mistake(
    "N is missing in the exponent: a = exp(N u^2), so that with many experts the large entries stand out."
)
def without_n(tau):
    u = _u(tau)
    return (u**2).exp() * (tau * (tau.sign() * u).sum(dim=0)).tanh()


@balancing.mistake("u is not squared: a = exp(N u^2).")
def not_squared(tau):
    u = _u(tau)
    return (len(tau) * u).exp() * (tau * (tau.sign() * u).sum(dim=0)).tanh()


@balancing.mistake("You bring the signed values to 0..1, so the most negative entry counts least. Use |tau|.")
def signed_values_normalised(tau):
    low, high = tau.amin(dim=1, keepdim=True), tau.amax(dim=1, keepdim=True)
    u = (tau - low) / (high - low).clamp(min=1e-12)
    return (len(tau) * u**2).exp() * (tau * (tau.sign() * u).sum(dim=0)).tanh()


@balancing.mistake("You normalise across the experts. Each expert competes within itself first: `dim=1`.")
def normalised_across_experts(tau):
    size = tau.abs()
    u = size / size.amax(dim=0, keepdim=True).clamp(min=1e-12)
    return (len(tau) * u**2).exp() * (tau * (tau.sign() * u).sum(dim=0)).tanh()


@balancing.mistake("The tanh is missing: it keeps b between -1 and 1.")
def without_tanh(tau):
    u = _u(tau)
    return (len(tau) * u**2).exp() * (tau * (tau.sign() * u).sum(dim=0))


@balancing.mistake(
    "You take N = 8 whatever you are given: that is a variable of the notebook, not of your function. N is `len(tau)`."
)
def number_of_the_notebook(tau):
    u = _u(tau)
    return (8 * u**2).exp() * (tau * (tau.sign() * u).sum(dim=0)).tanh()


@balancing.mistake("You add a and b. They are multiplied, so that disagreement makes the whole score negative.")
def added(tau):
    u = _u(tau)
    return (len(tau) * u**2).exp() + (tau * (tau.sign() * u).sum(dim=0)).tanh()


@balancing.mistake("You leave the expert itself out of the wish. The sum runs over all experts j, n among them.")
def itself_left_out(tau):
    u = _u(tau)
    signed = tau.sign() * u
    return (len(tau) * u**2).exp() * (tau * (signed.sum(dim=0) - signed)).tanh()


@balancing.mistake(
    "You use a soft-max, as the paper writes. The authors' code has only the exp, and so has this exercise: within one "
    "expert both rank alike."
)
def softmax_for_exp(tau):
    u = _u(tau)
    return (len(tau) * u**2).softmax(dim=1) * (tau * (tau.sign() * u).sum(dim=0)).tanh()


def _u(tau: torch.Tensor) -> torch.Tensor:
    size = tau.abs()
    low, high = size.amin(dim=1, keepdim=True), size.amax(dim=1, keepdim=True)
    return (size - low) / (high - low).clamp(min=1e-12)


# --------------------------------------------------------------------------- 02b.5

consenting = Exercise(
    id="02b.5",
    title="Mend the consensus",
    kind="repair",
    goal="This program should keep of the sum what at least `min_tasks` experts need: those whose own change is larger "
    "than `mask_lam` times what *the others* add, both as magnitudes. Three of its choices are wrong: find and mend "
    "them.",
    minutes=10,
    difficulty=3,
    importance=3,
    hints=[
        "An expert that wants -3 where the others want +1: does it need the entry? What does the program say?",
        "With one expert there are no others. What is compared then? And how many experts are *at least* two?",
        "`tau.abs() > mask_lam * (tau_sum - tau).abs()`, then `need.sum(dim=0) >= min_tasks`.",
    ],
)


@consenting.solution
def consensus_sum(tau, mask_lam, min_tasks=2):
    """The sum, 0 where too few need it.  tau: (N, d), mask_lam: float, min_tasks: int -> (d,)"""
    tau_sum = tau.sum(dim=0)
    need = tau.abs() > mask_lam * (tau_sum - tau).abs()
    return tau_sum * (need.sum(dim=0) >= min_tasks)


@consenting.broken
def broken_consensus(tau, mask_lam, min_tasks=2):
    """The sum, 0 where too few need it.  tau: (N, d), mask_lam: float, min_tasks: int -> (d,)"""
    tau_sum = tau.sum(dim=0)
    need = tau > mask_lam * tau_sum
    return tau_sum * (need.sum(dim=0) > min_tasks)


WISHES = torch.tensor([[3.0, -4.0, 1.0, -2.0, 0.5], [2.0, -3.0, -0.5, 5.0, 0.5], [0.5, -0.25, 4.0, 1.0, 0.5]])


@consenting.law("two experts by hand: both need the first and the last entry, one alone the second")
def _(consensus_sum):
    tau = torch.tensor([[4.0, 1.0, -3.0], [2.0, 0.0, -2.5]])
    return consensus_sum(tau, 0.4), torch.tensor([6.0, 0.0, -5.5])


@consenting.law("one expert, one needed: it has no others, so its update comes back")
def _(consensus_sum):
    return consensus_sum(torch.tensor([[2.0, -1.0, 0.0]]), 0.5, min_tasks=1), torch.tensor([2.0, -1.0, 0.0])


@consenting.law("three experts, entry by entry: own change against what the others add")
def _(consensus_sum):
    return consensus_sum(WISHES, 0.4), torch.tensor([5.5, -7.25, 0.0, 0.0, 1.5])


@consenting.law("nobody asked for: the plain sum")
def _(consensus_sum):
    return consensus_sum(WISHES, 0.6, min_tasks=0), WISHES.sum(dim=0)


@consenting.law("all three must need it")
def _(consensus_sum):
    return consensus_sum(WISHES, 0.08, min_tasks=3), torch.tensor([5.5, 0.0, 4.5, 4.0, 1.5])


@consenting.law("turning all signs round turns the result round")
def _(consensus_sum):
    return consensus_sum(-WISHES, 0.4), -consensus_sum(WISHES, 0.4)


@consenting.law("exactly as large as mask_lam times the others is not larger")
def _(consensus_sum):
    return consensus_sum(torch.tensor([[2.0, 3.0, 0.5], [2.0, 1.0, 0.0]]), 1.0, min_tasks=1), torch.tensor(
        [0.0, 4.0, 0.5]
    )


@consenting.mistake(
    "Two faults are mended. Signs are still compared, though a large change downwards needs its entry as much."
)
def signs_compared(tau, mask_lam, min_tasks=2):
    tau_sum = tau.sum(dim=0)
    need = tau > mask_lam * (tau_sum - tau)
    return tau_sum * (need.sum(dim=0) >= min_tasks)


@consenting.mistake("Two faults are mended. The sum still contains the own change: what do the *others* add?")
def own_change_among_the_others(tau, mask_lam, min_tasks=2):
    tau_sum = tau.sum(dim=0)
    need = tau.abs() > mask_lam * tau_sum.abs()
    return tau_sum * (need.sum(dim=0) >= min_tasks)


@consenting.mistake(
    "Two faults are mended. The third: `> min_tasks` asks for one expert more than *at least* min_tasks."
)
def one_too_many(tau, mask_lam, min_tasks=2):
    tau_sum = tau.sum(dim=0)
    need = tau.abs() > mask_lam * (tau_sum - tau).abs()
    return tau_sum * (need.sum(dim=0) > min_tasks)


@consenting.mistake("You return what was dropped. Keep where enough experts need an entry.")
def the_other_half(tau, mask_lam, min_tasks=2):
    tau_sum = tau.sum(dim=0)
    need = tau.abs() > mask_lam * (tau_sum - tau).abs()
    return tau_sum * (need.sum(dim=0) < min_tasks)


# --------------------------------------------------------------------------- 02b.6

deepening = Exercise(
    id="02b.6",
    title="How deep is a tensor?",
    kind="decide",
    goal="LiNeS scales by depth; the authors' program treats everything outside the blocks as shallow, even the last "
    'layers. Decide better: a tensor "in front" is as shallow as the first block, one "behind" as deep as the last. '
    "Block 0 gets `alpha`, the last block `alpha + beta`, those between in equal steps. A single block, and all around "
    "it, gets `alpha`.",
    minutes=10,
    difficulty=2,
    importance=3,
    hints=[
        "Which number between 0 and 1 says how deep a tensor lies? What is it for each of the two words?",
        "Blocks are counted from 0: with L blocks the last one is L - 1.",
        '`place = {"in front": 0, "behind": last}`, then `place.get(layer, layer) / max(last, 1)`.',
    ],
)


@deepening.solution
def depth_scales(layers, alpha, beta):
    """One factor for each tensor.  layers: list of the numbers of the blocks, and "in front" and "behind"; alpha, beta:
    floats -> list of floats"""
    last = max(layer for layer in layers if not isinstance(layer, str))
    place = {"in front": 0, "behind": last}
    return [alpha + beta * place.get(layer, layer) / max(last, 1) for layer in layers]


@deepening.law("three blocks by hand")
def _(depth_scales):
    return depth_scales(["in front", 0, 1, 2, "behind"], 0.25, 0.5), [0.25, 0.25, 0.5, 0.75, 0.75]


@deepening.law("any order, several tensors a block")
def _(depth_scales):
    return depth_scales([4, "behind", 1, 1, 2, "in front"], 0.1, 0.8), [0.9, 0.9, 0.3, 0.3, 0.5, 0.1]


@deepening.law("a single block: alpha everywhere")
def _(depth_scales):
    return depth_scales(["in front", 0, "behind"], 0.125, 0.5), [0.125, 0.125, 0.125]


@deepening.law("beta = 0: one scale for all")
def _(depth_scales):
    return depth_scales([0, 1, 2, 3, "behind"], 0.3, 0.0), [0.3] * 5


@deepening.law("two blocks: one step, all of beta")
def _(depth_scales):
    return depth_scales([0, 1], 0.25, 0.5), [0.25, 0.75]


@deepening.mistake('What lies "behind" still gets alpha, as in the published program. It is as deep as the last block.')
def all_outside_is_shallow(layers, alpha, beta):
    last = max(layer for layer in layers if not isinstance(layer, str))
    return [alpha + beta * (0 if isinstance(layer, str) else layer) / max(last, 1) for layer in layers]


@deepening.mistake("Your last block stays below alpha + beta: from block 0 to the last there are L - 1 steps, not L.")
def one_step_more(layers, alpha, beta):
    last = max(layer for layer in layers if not isinstance(layer, str))
    place = {"in front": 0, "behind": last}
    return [alpha + beta * place.get(layer, layer) / (last + 1) for layer in layers]


@deepening.mistake("You scale the front up and the end down. LiNeS spares what is shallow: turn the depth round.")
def upside_down(layers, alpha, beta):
    last = max(layer for layer in layers if not isinstance(layer, str))
    place = {"in front": 0, "behind": last}
    return [alpha + beta * (last - place.get(layer, layer)) / max(last, 1) for layer in layers]


@deepening.mistake("Your last block gets alpha * (1 + beta). The formula adds: alpha + beta.")
def multiplied(layers, alpha, beta):
    last = max(layer for layer in layers if not isinstance(layer, str))
    place = {"in front": 0, "behind": last}
    return [alpha * (1 + beta * place.get(layer, layer) / max(last, 1)) for layer in layers]


@deepening.mistake("Your steps do not shrink with the number of blocks: divide the block's number by that of the last.")
def not_divided(layers, alpha, beta):
    last = max(layer for layer in layers if not isinstance(layer, str))
    place = {"in front": 0, "behind": last}
    return [alpha + beta * place.get(layer, layer) for layer in layers]


EXERCISES = [dropping, chancing, middling, balancing, consenting, deepening]

QUIZZES = [
    Quiz(
        "02b.q1",
        "DARE drops 90 % of the entries at random and divides the rest by 0.1. What is left as it was?",
        right="c",
        a=("The largest entries of the vector.", "A coin decides: a large entry is dropped as often as a small one."),
        b=(
            "The length of the task vector.",
            "It grows: the squares of the survivors are 100 times larger, but 10 % survive: sqrt(10) in length.",
        ),
        c=(
            "The expected value of an entry.",
            "Yes: 0.1 * (tau / 0.1) + 0.9 * 0 = tau. What grows is the noise around it.",
        ),
        d=("The share of sign conflicts.", "It falls: fewer experts touch the same entry."),
    ),
]

OPEN = [
    OpenTask(
        "02b.open",
        "one more row",
        "Invent an edit of your own (a list of task vectors in, a list out) and pipe it into a combination of this "
        "notebook. Say first what it should win and where; then enter it beside the others, and a control that has the "
        "same density or length but no idea behind it.",
        [
            "The edit is a function of the task vectors alone, and says what it would do to random vectors.",
            "The prediction was written down before the row was measured.",
            "Edit and control each have a scale of their own, from validation.",
            "It says how large a difference 100 images a task can show, and does not explain a smaller one.",
        ],
    )
]
