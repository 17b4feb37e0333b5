# %% [markdown]
# # 01 Task vectors: what fine-tuning changed, as something to calculate with
#
# **You will be able to**
#
# * compute a task vector, add it, scale it, and subtract it to forget;
# * choose the scale lam on validation images and report on test images;
# * walk the straight line between two models and say what the accuracy along it means;
# * recognise two things that the arithmetic presupposes and no file checks: one base, one activation.
#
# **Needs** notebook 00. **Minutes** {reading} to read, {exercises} for the exercises; runs in under a minute on two cores (pocket
# suite). On Colab: File, Save a copy in Drive, before you start.

# %%
from samerge_edu.course.drawings import d01
from samerge_edu.evaluate import LAMS, plateau, scores
from samerge_edu.merges.task_arithmetic import task_arithmetic

suite = se.load_suite(lab.suite)
thetas = [dict(theta) for theta in suite.experts.values()]
N = 100  # images a task


def accuracy(theta, tasks, split="test"):
    """Mean accuracy in percent over some tasks."""
    per_task = scores(suite, theta, split, tasks, n=N)
    return sum(per_task.values()) / len(per_task)


# %% [markdown]
# ## The definition
#
# $$\tau_n = \theta_n - \theta_0$$
#
# A **task vector** is what fine-tuning on task n did to the base (Ilharco et al., 2023). It has the shape of a model: a
# dictionary of tensors with the same names. By hand, with a model of two numbers: the base is (1, 4), the expert (3, 3),
# so the task vector is (2, -1).

# %%
# EXERCISE 01.1

# %%
taus = task_vectors(suite.theta_0, thetas)
sizes = [se.flatten(tau).norm() / se.flatten(suite.theta_0).norm() for tau in taus]
for task, size in zip(suite.id_tasks, sizes, strict=True):
    se.show(f"01.size.{task}", 100 * size, f"|tau| / |theta_0| of {task}", digits=1, slack=0.3)
se.claim("01.small", by=10 - 100 * float(max(sizes)), at_least=1.0, unit="% of the base below 10")

# %% [markdown]
# An expert is a short walk away from the base. That is why we may hope that walks can be added.

# %% [markdown]
# ## Back to a model
#
# $$\theta = \theta_0 + \lambda\, \tau$$

# %%
# EXERCISE 01.2

# %%
task = suite.id_tasks[0]
restored = add(suite.theta_0, taus[0], lam=1.0)
largest = max((restored[k] - thetas[0][k]).abs().max().item() for k in restored)
print("base plus task vector is the expert, up to rounding:", largest < 1e-5)
reached = {lam: accuracy(add(suite.theta_0, taus[0], lam), [task]) for lam in (0.0, 0.5, 1.0, 1.5)}
for lam, percent in reached.items():
    se.show(f"01.one_expert.{lam}", percent, f"{task} with lam = {lam}", slack=2.0)
se.claim("01.half", by=reached[0.5] - (reached[0.0] + reached[1.0]) / 2, at_least=3.0)

# %% [markdown]
# Half of the task vector gives more than half of the gain: that is what the last line claims, and measures, in points
# above half way. (A line like it stands beside every sentence of the course about an outcome; a test reads them.) Keep
# it in mind: because of it a sum of *scaled-down* task vectors can work.

# %% [markdown]
# ## Addition
#
# Task Arithmetic adds all task vectors, with one scale for all:
#
# $$\theta = \theta_0 + \lambda \sum_{n=1}^{N} \tau_n$$
#
# Which lam? One tries some on **validation** images, takes the best, and reports its accuracy on **test** images. If you
# choose by the test accuracy, you report the luckiest of your tries.

# %%
# EXERCISE 01.3

# %%
lams = [0.0, *LAMS[:5]]  # the scales that the library tries, too
tau_sum = task_arithmetic(taus)
tables = {}
for split in ("val", "test"):
    per_lam = [scores(suite, add(suite.theta_0, tau_sum, lam), split, suite.id_tasks, n=N) for lam in lams]
    tables[split] = torch.tensor([list(per_task.values()) for per_task in per_lam])  # (lams, tasks)
lam, reported = choose_lam(lams, tables["val"], tables["test"])
print("lam chosen on validation:", lam)
se.show("01.task_arithmetic", reported, "its ID average on test", slack=1.5)

# %%
curves = {split: table.mean(dim=1) for split, table in tables.items()}
se.figure(*d01.curve_over_lam(lams, curves, len(taus)))
se.claim("01.sum_helps", by=reported - curves["test"][0], at_least=4.0)
se.claim("01.too_far", by=curves["val"][0] - curves["val"][-1], at_least=10.0)

# %% [markdown]
# Three things to read off. At lam = 1/N the sum *is* the average of notebook 00. With the right lam the sum is better
# than the base. And too far out it is worse than the base, although each task vector alone was added at full size and
# gave an expert. What spoils the sum is **interference**: notebook 02.
#
# The library chooses a little more softly than you did: `evaluate.choose_lam` takes the middle of all scales that are
# as good as the best one, as far as some hundreds of images can tell, so that one image does not decide.

# %%
middle = plateau(dict(zip(lams[1:], curves["val"][1:].tolist(), strict=True)))
se.show("01.plateau", middle, "the library's lam for the same curve", unit="", digits=3, slack=0.04)

# %% [markdown]
# ## What does the sum cost abroad?

# %%
here = lams[: lams.index(0.3) + 1]
abroad = [accuracy(add(suite.theta_0, tau_sum, step), suite.ood_tasks) for step in here]
se.figure(*d01.abroad(here, abroad))
at_lam = accuracy(add(suite.theta_0, tau_sum, lam), suite.ood_tasks)
se.show("01.ood_base", abroad[0], "OOD average of the base", slack=1.5)
se.show("01.ood_best", at_lam, "OOD average at the chosen lam", slack=2.0)
se.claim("01.price", by=abroad[0] - at_lam, at_least=1.0)

# %%
# QUIZ 01.q1

# %% [markdown]
# ## Negation: forgetting
#
# Go *against* a task vector, and the model unlearns the task: $\theta = \theta_0 - \lambda \tau$. A model that answers
# nonsense has forgotten the task too, so one watches a **control task** that should stay as it is: among the steps that
# keep 95 % of the base's control accuracy, take the one that forgets most.

# %%
# EXERCISE 01.4

# %%
target, control = "signs" if "signs" in suite.id_tasks else suite.id_tasks[0], suite.ood_tasks
tau = taus[suite.id_tasks.index(target)]
steps = [0.0, -0.25, -0.5, -0.75, -1.0, -1.5]
forgotten = torch.tensor([accuracy(add(suite.theta_0, tau, lam), [target], "val") for lam in steps])
kept = torch.tensor([accuracy(add(suite.theta_0, tau, lam), control, "val") for lam in steps])
lam_forget = forgetting_lam(steps, forgotten, kept)
se.figure(*d01.forgetting(target, steps, forgotten, kept, lam_forget))

# %% [markdown]
# Chosen on validation; now the test images, for the base and for the model that forgot.

# %%
after = add(suite.theta_0, tau, lam_forget)
target_now, control_now = accuracy(after, [target]), accuracy(after, control)
se.show("01.forgotten", target_now, f"{target} on test after forgetting", slack=4.0)
se.show("01.control", control_now, "control tasks on test", slack=2.0)
se.claim("01.forgets", by=accuracy(suite.theta_0, [target]) - target_now, at_least=10.0)
se.claim("01.control_stays", by=control_now - 0.9 * abroad[0], at_least=2.0, unit="points above 90 % of the base's")

# %% [markdown]
# ## The straight line between two models
#
# $\theta(\alpha) = (1 - \alpha)\,\theta_a + \alpha\,\theta_b$ walks from one expert to another. If the accuracy of task a
# falls and that of task b rises, without a valley in between in which both are lost, the two models lie in the same
# **basin**, and averaging them makes sense.

# %%
a, b = 0, 2  # two experts
alphas = [0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0]
line = [{k: (1 - x) * thetas[a][k] + x * thetas[b][k] for k in thetas[a]} for x in alphas]
walk = [scores(suite, theta, "test", [suite.id_tasks[a], suite.id_tasks[b]], n=N) for theta in line]

se.figure(*d01.straight_line(alphas, walk))
middle = walk[alphas.index(0.5)]
for task in middle:
    se.show(f"01.middle.{task}", middle[task], f"half way, {task}", slack=2.5)
ends = [sum(point.values()) / 2 for point in (walk[0], walk[-1])]  # what one expert reaches on both tasks
se.claim("01.no_valley", by=sum(middle.values()) / 2 - max(ends), at_least=1.0)

# %% [markdown]
# No valley: half way between them, one model is better on the two tasks together than either expert.

# %% [markdown]
# ## Angles
#
# If all task vectors pointed in the same direction, they would be one update with different lengths; if two pointed in
# opposite directions, they would cancel. The cosine tells:
#
# $$\cos(\tau_n, \tau_m) = \frac{\langle \tau_n, \tau_m \rangle}{\|\tau_n\|\, \|\tau_m\|}$$

# %%
V = torch.stack([se.flatten(tau) for tau in taus])  # (N, d): one row for each expert
lengths = V.norm(dim=1)
C = (V @ V.T) / (lengths[:, None] * lengths)
off = C[~torch.eye(len(taus), dtype=torch.bool)]
se.figure(*d01.cosines(C, suite.id_tasks))
se.show("01.cosine", off.mean(), "mean cosine", unit="", digits=3, slack=0.01)
se.claim("01.orthogonal", by=0.2 - float(off.abs().max()), at_least=0.05, unit="below a cosine of 0.2")

# %% [markdown]
# Two numbers for each pair of experts are enough to say how long their sum is, before anything is added:

# %%
# EXERCISE 01.5

# %%
measured = V.sum(dim=0).norm()
se.show("01.sum_predicted", length_of_sum(lengths, C), "predicted length of the sum", unit="", digits=3, slack=0.05)
se.show("01.sum_measured", measured, "measured", unit="", digits=3, slack=0.05)
se.show("01.sum_parallel", lengths.sum(), "if all pointed in one direction", unit="", digits=3, slack=0.05)
se.show("01.sum_orthogonal", lengths.square().sum().sqrt(), "if all were orthogonal", unit="", digits=3, slack=0.05)
apart = measured - lengths.square().sum().sqrt()
se.claim("01.as_if_orthogonal", by=0.2 * float(measured) - float(apart.abs()), at_least=0.5, unit="below a fifth")

# %% [markdown]
# The sum is nearly as long as a sum of orthogonal vectors: the experts neither cancel each other nor repeat each other.
# (Parallel ones would not cancel either; they would be one and the same change.) But orthogonal in weight space is not
# the same as independent in what they do: each entry of the sum is still shared by all of them. That is where
# notebook 02 begins.

# %%
# QUIZ 01.q2

# %% [markdown]
# ## It fails, box 1: an expert from another beginning
#
# The suite `pocket-other` holds an expert for the first task that was fine-tuned from a *different* base: same data, same
# recipe, another random initialisation. Alone it knows its task. Average it with ours.

# %%
if suite.name == "pocket":
    file = se.load_suite("pocket-other").experts["digits"]
    print("alone, with the heads it was trained for, the stranger reaches (test, %):", file.metadata["test_accuracy"])
    stranger = dict(file)
    ours = dict(suite.experts["digits"])
    half = {k: (ours[k] + stranger[k]) / 2 for k in ours}
    distance = se.flatten(se.task_vectors(suite.theta_0, [stranger])[0]).norm() / se.flatten(suite.theta_0).norm()
    se.show("01.other_size", 100 * distance, "|stranger - theta_0| / |theta_0|", slack=5.0)
    se.show("01.other_half", accuracy(half, ["digits"]), "half ours, half the stranger's, on digits", slack=6.0)
    se.show("01.ours", accuracy(ours, ["digits"]), "ours alone", slack=1.5)
    se.claim("01.another_base", by=accuracy(ours, ["digits"]) - accuracy(half, ["digits"]), at_least=50.0)

# %% [markdown]
# The difference between the stranger and our base is larger than the base itself: it is no task vector. The hidden units
# of the two networks mean different things, in a different order, and the mean of two unrelated numberings is noise.
# (Its heads differ too: they come from the text tower it was trained with.) **Merge only what shares a base.** Notebook
# 11 tries to repair this by permuting units.

# %% [markdown]
# ## It does not show, box 2: QuickGELU
#
# A state dict holds weights, not the activation function. OpenAI's CLIP was trained with QuickGELU,
# $x\,\sigma(1.702\,x)$, others with GELU; both load into either network without a word. Here the weights of the pocket
# base (GELU) run in a network with QuickGELU, and the other way round for the published suites.

# %%
import copy

from open_clip.transformer import QuickGELU

swapped = copy.copy(suite)
swapped.visual = copy.deepcopy(suite.visual)
for block in swapped.visual.transformer.resblocks:
    block.mlp.gelu = torch.nn.GELU() if isinstance(block.mlp.gelu, QuickGELU) else QuickGELU()

# %%
right, wrong, z = {}, {}, []
for task in [*suite.id_tasks, *suite.ood_tasks]:
    images, labels = suite.images(task, "test", N)
    z += [[which.encode(suite.theta_0, images) for which in (suite, swapped)]]
    answers = [(features @ suite.heads[task].T).argmax(dim=1) for features in z[-1]]
    right[task], wrong[task] = (100 * float((a == labels).double().mean()) for a in answers)
difference = sum(wrong.values()) / len(wrong) - sum(right.values()) / len(right)
cosine = torch.cat([(x * y).sum(dim=1) for x, y in z]).mean()
se.show("01.right_gelu", sum(right.values()) / len(right), "right activation, mean over all tasks", slack=1.5)
se.show("01.gelu_difference", difference, "the wrong activation changes it by", unit="points", slack=1.0)
se.show("01.gelu_cosine", cosine, "cosine between the features of both networks", unit="", digits=3, slack=0.01)
se.claim("01.gelu_hidden", by=2.0 - abs(difference), at_least=1.0, unit="points below 2")

# %% [markdown]
# No error, no warning, and on this suite hardly a change of the mean accuracy: the features turn only a little in five
# blocks. That is the trap: *nothing* tells you. The error adds up with the depth; for published CLIPs of twelve blocks
# and more, users of open_clip report several points lost without knowing why (open_clip issues 771 and 915). So the
# architecture's name, **with its activation**, belongs into the file: look at the metadata below.

# %%
for task in suite.id_tasks[:1]:
    print(getattr(suite.experts[task], "metadata", {}).get("architecture", "this file does not say"))

# %%
# OPEN 01.open

# %% [markdown]
# ## What to remember
#
# * A task vector is a difference of weights. It is small, and it can be added, scaled and subtracted.
# * lam decides: chosen on validation, reported on test. For a sum of eight it lies well below 1.
# * What the sum gains at home has a price abroad: look at both.
# * The arithmetic presupposes one base, one architecture, one activation; a file of weights proves none of them.
#
# ## Further reading
#
# * Ilharco et al., 2023: Editing models with task arithmetic, arXiv:2212.04089.
# * Frankle et al., 2020: linear mode connectivity, arXiv:1912.05671.
# * Ainsworth et al., 2023: Git Re-Basin, arXiv:2209.04836.
#
# ## Claims
#
# | claim | status |
# |---|---|
# | Task vectors are less than a tenth of the base | measured here: `01.small` |
# | They are nearly orthogonal, and so their sum is about as long as if they were | measured here: `01.orthogonal`, `01.as_if_orthogonal`; also reported in arXiv:2212.04089 |
# | Half of a task vector gives more than half of its gain | measured here: `01.half`, for one expert |
# | At home the sum of all task vectors beats the base at the right lam and is worse than the base at a larger one | measured here: `01.sum_helps`, `01.too_far` |
# | With 8 tasks the best lam on CLIP ViT-B/32 is about 0.3 | from the paper, arXiv:2212.04089 |
# | The sum costs accuracy abroad | measured here: `01.price` |
# | Subtracting a task vector takes the task away and leaves the control tasks | measured here: `01.forgets`, `01.control_stays` |
# | No valley lies between two experts of one base; a mean across two bases is worthless | measured here: `01.no_valley`, `01.another_base` |
# | The wrong activation costs accuracy | not here: `01.gelu_hidden`; reported for deeper models, open_clip issues 771 and 915 |
# | Near orthogonality is *why* addition works | open: parallel task vectors would not cancel either |
