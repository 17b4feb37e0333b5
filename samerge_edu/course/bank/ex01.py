"""Exercises of notebook 01: task vectors, their arithmetic, the scale, forgetting, angles."""

import torch

from ..exercise import Exercise, Quiz

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
    goal="Write down what fine-tuning changed: one task vector for each expert, `tau_n = theta_n - theta_0`.",
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
    """tau_n = theta_n - theta_0.  theta_0: dict of tensors, thetas: list of N such dicts -> list of N dicts."""
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
    goal="Put a task vector back on the base, scaled by lam: `theta = theta_0 + lam * tau`.",
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
    """theta = theta_0 + lam * tau.  theta_0, tau: dicts of tensors with the same names -> dict."""
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
    goal="Pick lam by the mean validation accuracy over the tasks, and report the mean test accuracy at that lam.",
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
    goal="Among the lams that keep at least `keep` of the base's control accuracy, find the one that forgets most.",
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
    """The lam that lowers `target` most while control[lam] >= keep * control[lam = 0].

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


@negate.mistake("You return the target accuracy. The lam that reaches it is asked for.")
def accuracy_not_lam(lams, target, control, keep=0.95):
    floor = keep * control[lams.index(0.0)]
    return float(target[control >= floor].min())


# ---------------------------------------------------------------------------- 01.5

angles = Exercise(
    id="01.5",
    title="Angles between task vectors",
    goal="Fill the (N, N) matrix of cosines between task vectors, each taken as one long vector over all tensors.",
    minutes=10,
    difficulty=2,
    importance=3,
    hints=[
        "What must stand on the diagonal, whatever the lengths?",
        "Flatten and concatenate all tensors of an expert first: one vector of d numbers each, an (N, d) matrix.",
        "Divide each row by its norm, then multiply the matrix with its transpose.",
    ],
)


@angles.solution
def cosines(taus):
    """C[n, m] = tau_n . tau_m / (|tau_n| |tau_m|).  taus: list of N dicts of tensors -> (N, N)"""
    V = torch.stack([torch.cat([tau[k].flatten() for k in tau]) for tau in taus])  # (N, d)
    V = V / V.norm(dim=1, keepdim=True)
    return V @ V.T


def _tau(*w: float) -> dict[str, torch.Tensor]:
    return {"w": torch.tensor(w)}


@angles.law("vectors at right angles have cosine 0")
def _(cosines):
    return cosines([_tau(3.0, 0.0), _tau(0.0, -2.0)]), torch.eye(2)


@angles.law("opposite vectors have cosine -1, whatever their lengths")
def _(cosines):
    return cosines([_tau(1.0, 2.0), _tau(-3.0, -6.0)]), torch.tensor([[1.0, -1.0], [-1.0, 1.0]])


@angles.law("stretching one task vector changes no angle")
def _(cosines):
    stretched = {k: 7.0 * v for k, v in EXPERTS[1].items()}
    return cosines([EXPERTS[0], stretched, EXPERTS[2]]), cosines(EXPERTS)


@angles.law("all tensors count as one vector: (3, 4) and (3, -4), split over two tensors")
def _(cosines):
    a = {"w": torch.tensor([[3.0, 0.0]]), "b": torch.tensor([4.0])}
    b = {"w": torch.tensor([[3.0, 0.0]]), "b": torch.tensor([-4.0])}
    return cosines([a, b])[0, 1], torch.tensor(-7 / 25)


@angles.law("three experts, two of them at 60 degrees")
def _(cosines):
    taus = [_tau(1.0, 0.0), _tau(1.0, 3**0.5), _tau(-2.0, 0.0)]
    return cosines(taus), torch.tensor([[1.0, 0.5, -1.0], [0.5, 1.0, -0.5], [-1.0, -0.5, 1.0]])


@angles.mistake("These are inner products: divide by both lengths, so that the diagonal is 1.")
def not_normalised(taus):
    V = torch.stack([torch.cat([tau[k].flatten() for k in tau]) for tau in taus])
    return V @ V.T


@angles.mistake(
    "You average the cosines of the single tensors. Concatenate first: one vector and one length an expert."
)
def mean_over_tensors(taus):
    per_tensor = []
    for k in taus[0]:
        V = torch.stack([tau[k].flatten() for tau in taus])
        V = V / V.norm(dim=1, keepdim=True)
        per_tensor.append(V @ V.T)
    return sum(per_tensor) / len(per_tensor)


@angles.mistake("The sign of the cosine is lost: opposite task vectors should show -1, and they do interfere.")
def absolute_cosine(taus):
    return cosines(taus).abs()


@angles.mistake("You subtract the mean first: that is a correlation, not a cosine.")
def correlation(taus):
    V = torch.stack([torch.cat([tau[k].flatten() for k in tau]) for tau in taus])
    V = V - V.mean(dim=1, keepdim=True)
    return torch.nan_to_num((V / V.norm(dim=1, keepdim=True)) @ (V / V.norm(dim=1, keepdim=True)).T)


@angles.mistake("You divide by one length only. Divide by the lengths of both vectors.")
def one_norm_only(taus):
    V = torch.stack([torch.cat([tau[k].flatten() for k in tau]) for tau in taus])
    return (V / V.norm(dim=1, keepdim=True)) @ V.T


@angles.mistake("You normalise the columns (dim=0): each expert is a row, so normalise along dim=1.")
def columns_normalised(taus):
    V = torch.stack([torch.cat([tau[k].flatten() for k in tau]) for tau in taus])
    V = V / V.norm(dim=0, keepdim=True).clamp(min=1e-12)
    return V @ V.T


EXERCISES = [subtract, apply, sweep, negate, angles]

QUIZZES = [
    Quiz(
        "01.q1",
        "Two experts are fine-tuned from the same base. Which sentence is true of their task vectors?",
        right="c",
        a=(
            "They are small networks that solve one task each.",
            "They are differences: alone, without the base, they solve nothing.",
        ),
        b=("They exist only for the layers that were changed.", "Every tensor has a difference; it may be zero."),
        c=(
            "They have the names and shapes of the base, so they can be added to it.",
            "Same names, same shapes: that is why arithmetic on them works.",
        ),
        d=(
            "Adding both to the base always gives a model as good as both experts.",
            "They may push the same weight in opposite directions: that is interference, notebook 02.",
        ),
    ),
    Quiz(
        "01.q2",
        "The test accuracy is highest at lam = 0.4, the validation accuracy at lam = 0.3. What do you report?",
        right="b",
        a=("The test accuracy at 0.4.", "That lam was chosen by looking at the test set, so the number is too good."),
        b=("The test accuracy at 0.3.", "Chosen on validation, reported on test: the honest forecast."),
        c=("The validation accuracy at 0.3.", "It was maximised over lam, so it is too good as well."),
    ),
]
