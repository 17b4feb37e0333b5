"""Exercises of notebook 01: task vectors, their arithmetic, the scale, forgetting, the length of a sum."""

import torch

from ..exercise import SHAPES, Exercise, OpenTask, Quiz

# Models with one or two small tensors, none square, no two experts alike.
BASE = {"w": torch.tensor([1.0, 2.0, -1.0])}
TAU = {"w": torch.tensor([0.5, -1.0, 4.0])}
WIDE = {"w": torch.tensor([[1.0, 0.0, 2.0], [3.0, -1.0, 5.0]]), "b": torch.tensor([0.5, -2.0])}
EXPERTS = [
    {"w": torch.tensor([[1.5, 1.0, 2.0], [2.0, -1.0, 4.0]]), "b": torch.tensor([0.0, -1.0])},
    {"w": torch.tensor([[1.0, -2.0, 3.0], [3.0, 0.0, 5.5]]), "b": torch.tensor([0.5, 1.0])},
    {"w": torch.tensor([[0.0, 0.0, 2.5], [7.0, -1.0, 5.0]]), "b": torch.tensor([2.5, -2.0])},
]

# ---------------------------------------------------------------------------- 01.1

subtract = Exercise(
    id="01.1",
    title="The task vector",
    goal="Write down what fine-tuning changed: one task vector for each expert, so that the base and it together are "
    "the "
    "expert again.",
    minutes=5,
    difficulty=1,
    importance=5,
    hints=[
        "A model is a dictionary of tensors, and so is a task vector: subtract name by name.",
        "You return a list with one dictionary for each expert, in the order of `thetas`.",
        "For one expert: `{k: theta[k] - theta_0[k] for k in theta_0}`.",
    ],
)


@subtract.solution
def task_vectors(theta_0, thetas):
    """What each expert has learned.  theta_0: dict of tensors, thetas: list of N such dicts -> list of N dicts."""
    return [{k: theta[k] - theta_0[k] for k in theta_0} for theta in thetas]


@subtract.law("an expert equal to the base has a task vector of zeros")
def _(task_vectors):
    return task_vectors(BASE, [BASE]), [{"w": torch.zeros(3)}]


@subtract.law("one expert, by hand")
def _(task_vectors):
    return task_vectors({"w": torch.tensor([1.0, 4.0])}, [{"w": torch.tensor([3.0, 3.0])}]), [
        {"w": torch.tensor([2.0, -1.0])}
    ]


@subtract.law("base plus task vector gives the expert back, for each of three experts and both tensors")
def _(task_vectors):
    taus = task_vectors(WIDE, EXPERTS)
    return [{k: WIDE[k] + tau[k] for k in WIDE} for tau in taus], EXPERTS


@subtract.mistake("The sign is turned round: a task vector points from the base to the expert, theta_n - theta_0.")
def from_expert_to_base(theta_0, thetas):
    return [{k: theta_0[k] - theta[k] for k in theta_0} for theta in thetas]


@subtract.mistake("You return the experts themselves: the base is not subtracted.")
def base_not_subtracted(theta_0, thetas):
    return [{k: theta[k] for k in theta_0} for theta in thetas]


@subtract.mistake("You divide by the base. A task vector is a plain difference, so that base + tau is the expert.")
def relative_change(theta_0, thetas):
    return [{k: (theta[k] - theta_0[k]) / theta_0[k] for k in theta_0} for theta in thetas]


@subtract.mistake(
    "You return one sum over all experts. Keep them apart, one dictionary for each: they are merged later."
)
def summed_over_experts(theta_0, thetas):
    return [{k: sum(theta[k] - theta_0[k] for theta in thetas) for k in theta_0}]


@subtract.mistake("You return the size of the change. The sign matters: keep it, take no absolute value.")
def sign_dropped(theta_0, thetas):
    return [{k: (theta[k] - theta_0[k]).abs() for k in theta_0} for theta in thetas]


@subtract.mistake("You subtract in place (`-=` or `sub_`), which changes the caller's experts. Make new tensors.")
def in_place(theta_0, thetas):
    for theta in thetas:
        for k in theta_0:
            theta[k] -= theta_0[k]
    return thetas


# ---------------------------------------------------------------------------- 01.2

apply = Exercise(
    id="01.2",
    title="Back to a model",
    goal="Go from the base along a task vector, `lam` times as far as the expert went: lam = 0 gives the base, lam = 1 "
    "the expert, lam = -1 goes as far the other way.",
    minutes=5,
    difficulty=1,
    importance=5,
    hints=[
        "What must come out for lam = 0? And for lam = 1, if tau is one expert's task vector?",
        "Only the update is scaled, never the base.",
        "`{k: theta_0[k] + lam * tau[k] for k in theta_0}`",
    ],
)


@apply.solution
def add(theta_0, tau, lam=1.0):
    """The model lam times as far along tau.  theta_0, tau: dicts of tensors with the same names -> dict."""
    return {k: theta_0[k] + lam * tau[k] for k in theta_0}


@apply.law("lam = 0 gives the base")
def _(add):
    return add(BASE, TAU, lam=0.0), BASE


@apply.law("lam = 1 is the default")
def _(add):
    return add(BASE, TAU), {"w": torch.tensor([1.5, 1.0, 3.0])}


@apply.law("lam = -0.5, by hand")
def _(add):
    return add(BASE, TAU, lam=-0.5), {"w": torch.tensor([0.75, 2.5, -3.0])}


@apply.law("adding half of tau twice is adding tau once")
def _(add):
    return add(add(WIDE, EXPERTS[0], lam=0.5), EXPERTS[0], lam=0.5), add(WIDE, EXPERTS[0], lam=1.0)


@apply.mistake("The base is missing: theta is theta_0 plus the scaled update.")
def base_forgotten(theta_0, tau, lam=1.0):
    return {k: lam * tau[k] for k in theta_0}


@apply.mistake("lam is never used: multiply the update by it.")
def lam_ignored(theta_0, tau, lam=1.0):
    return {k: theta_0[k] + tau[k] for k in theta_0}


@apply.mistake("You scale the base as well. Only tau is multiplied by lam, so lam = 0 gives the base and not zero.")
def base_scaled_too(theta_0, tau, lam=1.0):
    return {k: lam * (theta_0[k] + tau[k]) for k in theta_0}


@apply.mistake("You mix base and update as if tau were a model: (1 - lam) * theta_0 + lam * tau. tau is a difference.")
def interpolated(theta_0, tau, lam=1.0):
    return {k: (1 - lam) * theta_0[k] + lam * tau[k] for k in theta_0}


@apply.mistake("You subtract the update. Forgetting is lam < 0; the formula itself has a plus.")
def subtracted(theta_0, tau, lam=1.0):
    return {k: theta_0[k] - lam * tau[k] for k in theta_0}


@apply.mistake("You add in place (`+=` or `add_`), which changes the caller's base. Make new tensors.")
def changed_the_base(theta_0, tau, lam=1.0):
    for k in theta_0:
        theta_0[k] += lam * tau[k]
    return theta_0


# ---------------------------------------------------------------------------- 01.3

LAMS = [0.0, 0.5, 1.0]
VALIDATION = torch.tensor([[75.0, 15.0], [70.0, 64.0], [74.0, 46.0]])  # (L, tasks), means 45, 67, 60
TEST = torch.tensor([[42.0, 48.0], [60.0, 62.0], [88.0, 44.0]])  # means 45, 61, 66: test prefers another lam

sweep = Exercise(
    id="01.3",
    title="Choose lam honestly",
    kind="decide",
    goal="Eight tasks, two tables of accuracies, one lam to choose and one number to report: the mean over the tasks "
    "is "
    "what counts. Which table is for what? Of lams that are equally good, take the first in the list.",
    minutes=10,
    difficulty=2,
    importance=5,
    hints=[
        "Which of the two tables may you look at while you choose, and which only afterwards?",
        "Average over the tasks first (`dim=1`): that leaves one number for each lam.",
        "`best = validation.mean(dim=1).argmax()`; then `lams[best]` and `test[best].mean()`.",
    ],
)


@sweep.solution
def choose_lam(lams, validation, test):
    """(lam, accuracy): chosen on validation, reported on test.

    lams: list of L numbers; validation, test: (L, tasks) accuracies in % -> (float, float)
    """
    best = int(validation.mean(dim=1).argmax())
    return lams[best], float(test[best].mean())


@sweep.law("one lam: nothing to choose, its test mean is reported")
def _(choose_lam):
    return choose_lam([0.3], torch.tensor([[50.0, 70.0]]), torch.tensor([[40.0, 80.0]])), (0.3, 60.0)


@sweep.law("lam is chosen on validation even where test would choose another")
def _(choose_lam):
    return choose_lam(LAMS, VALIDATION, TEST)[0], 0.5


@sweep.law("the accuracy is the test mean at the chosen lam")
def _(choose_lam):
    return choose_lam(LAMS, VALIDATION, TEST), (0.5, 61.0)


@sweep.law("the order in which lam was tried does not matter")
def _(choose_lam):
    turned = choose_lam(LAMS[::-1], VALIDATION.flip(0), TEST.flip(0))
    return turned, choose_lam(LAMS, VALIDATION, TEST)


@sweep.law("the mean over the tasks decides: 90 and 40 are better than 60 and 60")
def _(choose_lam):
    validation = torch.tensor([[60.0, 60.0], [90.0, 40.0], [50.0, 50.0]])
    return choose_lam([0.1, 0.2, 0.3], validation, torch.tensor([[61.0, 59.0], [88.0, 42.0], [50.0, 50.0]])), (
        0.2,
        65.0,
    )


@sweep.law("two lams that are equally good: the first in the list; a lam may be negative")
def _(choose_lam):
    validation = torch.tensor([[40.0, 40.0], [70.0, 50.0], [60.0, 60.0]])
    return choose_lam([0.0, -0.5, 1.0], validation, torch.tensor([[0.0, 0.0], [30.0, 40.0], [50.0, 60.0]])), (
        -0.5,
        35.0,
    )


@sweep.mistake(
    "You chose lam on the test set. Then the test accuracy is no longer an honest forecast: choose on validation."
)
def chosen_on_test(lams, validation, test):
    best = int(test.mean(dim=1).argmax())
    return lams[best], float(test[best].mean())


@sweep.mistake("lam is right, but you report the validation accuracy, which is too good: it was the one you maximised.")
def reported_validation(lams, validation, test):
    best = int(validation.mean(dim=1).argmax())
    return lams[best], float(validation[best].mean())


@sweep.mistake("You look for the best single task. Average over the tasks before you compare the lams.")
def best_single_task(lams, validation, test):
    best = int(validation.max(dim=1).values.argmax())
    return lams[best], float(test[best].mean())


@sweep.mistake(
    "You maximise the worst task. A careful rule, but another one: the mean over the tasks is to be as high as "
    "possible."
)
def worst_task(lams, validation, test):
    best = int(validation.min(dim=1).values.argmax())
    return lams[best], float(test[best].mean())


@sweep.mistake("Of equally good lams you take the last. Take the first in the list, so that everybody gets the same.")
def last_of_equals(lams, validation, test):
    mean = validation.mean(dim=1)
    best = int((mean == mean.max()).nonzero().max())
    return lams[best], float(test[best].mean())


@sweep.mistake("You return the position of the best lam, not its value: look it up in lams.")
def position_not_value(lams, validation, test):
    best = int(validation.mean(dim=1).argmax())
    return best, float(test[best].mean())


@sweep.mistake("You report the best test accuracy of all lams, beside a lam that did not reach it.")
def best_of_both(lams, validation, test):
    best = int(validation.mean(dim=1).argmax())
    return lams[best], float(test.mean(dim=1).max())


# ---------------------------------------------------------------------------- 01.4

FORGET_LAMS = [0.0, -0.25, -0.5, -1.0]
TARGET = torch.tensor([80.0, 50.0, 30.0, 5.0])
CONTROL = torch.tensor([60.0, 59.0, 57.5, 20.0])

negate = Exercise(
    id="01.4",
    title="Forget one task, keep the rest",
    kind="decide",
    goal="Make the model forget one task without harming another: which lam? It must keep at least the share `keep` of "
    "the control accuracy *that the base has*; exactly that share is enough. Of equally good lams, take the first in "
    "the "
    "list. The lams come in any order.",
    minutes=10,
    difficulty=3,
    importance=4,
    hints=[
        "The base is the entry with lam = 0. What is the lowest control accuracy you may accept?",
        "First throw out the lams that hurt the control task, then take the lowest target accuracy of the rest.",
        "`floor = keep * control[lams.index(0.0)]`; `allowed = [i for i in range(len(lams)) if control[i] >= floor]`.",
    ],
)


@negate.solution
def forgetting_lam(lams, target, control, keep=0.95):
    """The lam that forgets the target task most among those that spare the control task.

    lams: list of L numbers, 0.0 among them; target, control: (L,) accuracies in % -> float
    """
    floor = keep * control[lams.index(0.0)]
    allowed = [i for i in range(len(lams)) if control[i] >= floor]
    return lams[min(allowed, key=lambda i: target[i])]


@negate.law("if every other lam ruins the control task, stay at lam = 0")
def _(forgetting_lam):
    return forgetting_lam([0.0, -1.0], torch.tensor([80.0, 5.0]), torch.tensor([60.0, 20.0])), 0.0


@negate.law("the default keeps 95 % of the base's control accuracy: here 57 points")
def _(forgetting_lam):
    return forgetting_lam(FORGET_LAMS, TARGET, CONTROL), -0.5


@negate.law("keep = 0.97 is stricter")
def _(forgetting_lam):
    return forgetting_lam(FORGET_LAMS, TARGET, CONTROL, keep=0.97), -0.25


@negate.law("keep = 0 ignores the control task")
def _(forgetting_lam):
    return forgetting_lam(FORGET_LAMS, TARGET, CONTROL, keep=0.0), -1.0


@negate.law("a larger step may forget less: the lowest target counts, not the largest step")
def _(forgetting_lam):
    target = torch.tensor([80.0, 20.0, 35.0, 40.0])
    return forgetting_lam(FORGET_LAMS, target, torch.tensor([60.0, 59.0, 59.0, 58.0])), -0.25


@negate.law("exactly the share is enough: 30 of 60 at keep = 0.5")
def _(forgetting_lam):
    return forgetting_lam([0.0, -1.0], torch.tensor([80.0, 5.0]), torch.tensor([60.0, 30.0]), keep=0.5), -1.0


@negate.law("the base is where lam is 0, first in the list or not")
def _(forgetting_lam):
    target, control = torch.tensor([5.0, 30.0, 80.0]), torch.tensor([20.0, 58.0, 60.0])
    return forgetting_lam([-1.0, -0.5, 0.0], target, control), -0.5


@negate.law("the base sets the bar, even where a step happens to do better on the control task")
def _(forgetting_lam):
    target, control = torch.tensor([80.0, 50.0, 30.0]), torch.tensor([60.0, 64.0, 57.5])
    return forgetting_lam([0.0, -0.25, -0.5], target, control), -0.5


@negate.law("three lams that forget equally much: the first in the list")
def _(forgetting_lam):
    target, control = torch.tensor([80.0, 30.0, 30.0, 30.0]), torch.tensor([60.0, 59.0, 60.0, 58.0])
    return forgetting_lam([0.0, -0.5, -0.25, -0.75], target, control), -0.5


@negate.mistake("You never look at the control task: a model that forgot everything also forgot the target.")
def control_ignored(lams, target, control, keep=0.95):
    return lams[int(target.argmin())]


@negate.mistake(
    "You compare the control accuracy with `keep` itself. The floor is keep times the accuracy of the base."
)
def absolute_floor(lams, target, control, keep=0.95):
    allowed = [i for i in range(len(lams)) if control[i] >= 100 * keep] or [lams.index(0.0)]
    return lams[min(allowed, key=lambda i: target[i])]


@negate.mistake("You take the largest step that is allowed. Take the one with the lowest target accuracy.")
def largest_step(lams, target, control, keep=0.95):
    floor = keep * control[lams.index(0.0)]
    return min(lam for lam, c in zip(lams, control, strict=True) if c >= floor)


@negate.mistake(
    "You keep the target and give up the rest: forgetting wants the lowest target accuracy, not the highest."
)
def highest_target(lams, target, control, keep=0.95):
    floor = keep * control[lams.index(0.0)]
    allowed = [i for i in range(len(lams)) if control[i] >= floor]
    return lams[max(allowed, key=lambda i: target[i])]


@negate.mistake("You take the first entry for the base. The base is where lam is 0: `lams.index(0.0)`.")
def first_is_the_base(lams, target, control, keep=0.95):
    allowed = [i for i in range(len(lams)) if control[i] >= keep * control[0]]
    return lams[min(allowed, key=lambda i: target[i])]


@negate.mistake("You ask for more than the share. Exactly `keep` of the base's accuracy is enough: `>=`.")
def strictly_more(lams, target, control, keep=0.95):
    base = lams.index(0.0)
    allowed = [i for i in range(len(lams)) if control[i] > keep * control[base]] or [base]
    return lams[min(allowed, key=lambda i: target[i])]


@negate.mistake("You measure against the best control accuracy of all lams. The bar is the base's, at lam = 0.")
def share_of_the_best(lams, target, control, keep=0.95):
    allowed = [i for i in range(len(lams)) if control[i] >= keep * control.max()]
    return lams[min(allowed, key=lambda i: target[i])]


@negate.mistake("Of lams that forget equally much you take the last. Take the first in the list.")
def last_of_equal_lams(lams, target, control, keep=0.95):
    allowed = [i for i in range(len(lams)) if control[i] >= keep * control[lams.index(0.0)]]
    return lams[min(allowed[::-1], key=lambda i: target[i])]


@negate.mistake("Of lams that forget equally much you take the smallest step. The text says: the first in the list.")
def smallest_step_of_equals(lams, target, control, keep=0.95):
    allowed = [i for i in range(len(lams)) if control[i] >= keep * control[lams.index(0.0)]]
    return lams[min(allowed, key=lambda i: (target[i], abs(lams[i])))]


@negate.mistake("You return the target accuracy. The lam that reaches it is asked for.")
def accuracy_not_lam(lams, target, control, keep=0.95):
    floor = keep * control[lams.index(0.0)]
    return float(target[control >= floor].min())


# ---------------------------------------------------------------------------- 01.5

adding = Exercise(
    id="01.5",
    title="Predict how long the sum is",
    kind="predict",
    goal="Before you add N task vectors: how long will their sum be? You know the length of each and the cosine "
    "between "
    "any two, not the vectors. Predict it; the cell after this one measures.",
    minutes=10,
    difficulty=3,
    importance=3,
    errors={SHAPES: "`C` has a row and a column for each expert, `lengths` one entry for each."},
    hints=[
        "3 and 4 at a right angle: 5. In the same direction: 7. In opposite directions: 1. Which rule gives all three?",
        "The squared length of a sum is the sum of all inner products, of each vector with itself and with each other.",
        "An inner product is length times length times cosine: `(lengths[:, None] * C * lengths).sum()`, and its root.",
    ],
)


@adding.solution
def length_of_sum(lengths, C):
    """The length of tau_1 + ... + tau_N.  lengths: (N,), C: (N, N) cosines, 1 on the diagonal -> float"""
    squared = (lengths[:, None] * C * lengths).sum()
    return float(squared.clamp(min=0).sqrt())  # rounding may leave a hair below 0


@adding.law("one expert: its own length")
def _(length_of_sum):
    return length_of_sum(torch.tensor([2.0]), torch.tensor([[1.0]])), 2.0


@adding.law("3 and 4 at a right angle: 5")
def _(length_of_sum):
    return length_of_sum(torch.tensor([3.0, 4.0]), torch.eye(2)), 5.0


@adding.law("all in one direction: the lengths add up")
def _(length_of_sum):
    return length_of_sum(torch.tensor([1.0, 2.0, 3.0]), torch.ones(3, 3)), 6.0


@adding.law("3 against 1: what is left is 2 long")
def _(length_of_sum):
    return length_of_sum(torch.tensor([3.0, 1.0]), torch.tensor([[1.0, -1.0], [-1.0, 1.0]])), 2.0


@adding.law("0.2 and 0.9 against 1.1: nothing is left, in spite of rounding")
def _(length_of_sum):
    s = torch.tensor([1.0, 1.0, -1.0])
    return length_of_sum(torch.tensor([0.2, 0.9, 1.1]), s[:, None] * s) < 1e-3, True


@adding.law("three vectors of four numbers: as their sum is measured")
def _(length_of_sum):
    V = torch.tensor([[1.0, 2.0, 0.0, 1.0], [0.0, -1.0, 3.0, 1.0], [2.0, 2.0, 2.0, -4.0]])
    lengths = V.norm(dim=1)
    return length_of_sum(lengths, V @ V.T / (lengths[:, None] * lengths)), V.sum(dim=0).norm().item()


@adding.mistake("You add the lengths. That is right only if all vectors point in one direction: use the cosines.")
def lengths_added(lengths, C):
    return float(lengths.sum())


@adding.mistake("Pythagoras holds for right angles. Here the cosines need not be 0: every pair has a term.")
def pythagoras(lengths, C):
    return float((lengths**2).sum().sqrt())


@adding.mistake("That is the squared length: take the root.")
def squared_length(lengths, C):
    return float((lengths[:, None] * C * lengths).sum())


@adding.mistake("You count each pair once. In the square of a sum every pair comes twice: n with m, and m with n.")
def each_pair_once(lengths, C):
    return float((lengths[:, None] * C * lengths).triu().sum().clamp(min=0).sqrt())


@adding.mistake("You add up the cosines as if all vectors were of length 1. Weight each by both lengths.")
def lengths_ignored(lengths, C):
    return float(C.sum().clamp(min=0).sqrt())


@adding.mistake(
    "You take the sizes of the cosines, so that vectors that oppose each other lengthen the sum. Keep the sign."
)
def sign_of_the_cosine_lost(lengths, C):
    return float((lengths[:, None] * C.abs() * lengths).sum().sqrt())


@adding.mistake("That is the length of the mean. The sum is N times as long.")
def length_of_the_mean(lengths, C):
    return float((lengths[:, None] * C * lengths).sum().clamp(min=0).sqrt() / len(lengths))


@adding.mistake("Each cosine is weighted by one length only. An inner product has both.")
def one_length_only(lengths, C):
    return float((C * lengths).sum().clamp(min=0).sqrt())


EXERCISES = [subtract, apply, sweep, negate, adding]

QUIZZES = [
    Quiz(
        "01.q1",
        "The test accuracy is highest at lam = 0.4, the validation accuracy at lam = 0.3. What do you report?",
        right="b",
        a=("The test accuracy at 0.4.", "That lam was chosen by looking at the test set, so the number is too good."),
        b=("The test accuracy at 0.3.", "Chosen on validation, reported on test: the honest forecast."),
        c=("The validation accuracy at 0.3.", "It was maximised over lam, so it is too good as well."),
    ),
    Quiz(
        "01.q2",
        "Two experts are fine-tuned from the same base. Which sentence is true of their task vectors?",
        right="c",
        a=(
            "Each is a small network, which solves its own task without the base.",
            "They are differences: alone, without the base, they solve nothing.",
        ),
        b=(
            "They have entries only for the layers that fine-tuning has changed.",
            "Every tensor has a difference; it may be zero.",
        ),
        c=(
            "They have the names and the shapes of the base, so they can be added.",
            "Same names, same shapes: that is why arithmetic on them works.",
        ),
        d=(
            "Adding both to the base gives a model that is as good as each expert.",
            "They may push the same weight in opposite directions: that is interference, notebook 02.",
        ),
    ),
]

OPEN = [
    OpenTask(
        "01.open",
        "forget on purpose",
        "A customer asks you to make a model forget one task by subtracting its task vector, and to *prove* that it is "
        "forgotten. Use `add`, `task_vectors` and the suite: which experiment would you show, on which splits, and "
        "what "
        "would it still leave open? Try one task other than the one above.",
        [
            "lam was chosen on validation, the proof is on test, and the control tasks are named before the result "
            "is seen.",
            "It compares with something: a random vector of the same length, or another task's vector.",
            "It tells `answers wrongly` from `does not know`: what does a short fine-tuning bring back?",
            "It says which tasks suffered that nobody asked about.",
        ],
    )
]
