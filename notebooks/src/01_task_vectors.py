# %% [markdown]
# # 01 Task vectors: what fine-tuning changed, as something to calculate with
#
# **You will be able to**
#
# * compute a task vector, add it, scale it, and subtract it to forget;
# * choose the scale lam on validation images and report on test images;
# * walk the straight line between two models and say what the accuracy along it means;
# * recognise two ways in which the arithmetic fails: another initialisation, another activation.
#
# **Needs** notebook 00. **Minutes** 25 to read, 40 for the exercises; runs in under a minute on two cores (pocket
# suite). On Colab: File, Save a copy in Drive, before you start.

# %%
import matplotlib.pyplot as plt

from samerge_edu.evaluate import scores
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

# %% [markdown]
# A few percent: an expert is a short walk away from the base. That is why we may hope that walks can be added.

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
for lam in (0.0, 0.5, 1.0, 1.5):
    theta = add(suite.theta_0, taus[0], lam)
    se.show(f"01.one_expert.{lam}", accuracy(theta, [task]), f"{task} with lam = {lam}", slack=2.0)

# %% [markdown]
# Half of the task vector already gives more than half of the gain. Keep this in mind: it is the reason why a sum of
# *scaled-down* task vectors can work.

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
lams = [0.0, 0.06, 0.12, 0.18, 0.24, 0.32, 0.45, 0.7]
tau_sum = task_arithmetic(taus)
tables = {}
for split in ("val", "test"):
    per_lam = [scores(suite, add(suite.theta_0, tau_sum, lam), split, suite.id_tasks, n=N) for lam in lams]
    tables[split] = torch.tensor([list(per_task.values()) for per_task in per_lam])  # (lams, tasks)
lam, reported = choose_lam(lams, tables["val"], tables["test"])
print("lam chosen on validation:", lam)
se.show("01.task_arithmetic", reported, "its ID average on test", slack=1.5)

# %%
fig, axis = plt.subplots(figsize=(6, 3.4))
for split, look in (("val", "o-"), ("test", "s--")):
    axis.plot(lams, tables[split].mean(dim=1), look, label=split)
axis.axvline(1 / len(taus), color="0.6", linestyle=":")
axis.text(1 / len(taus), axis.get_ylim()[0], " 1/N: the average", fontsize=8, va="bottom")
axis.set(xlabel="lam", ylabel="ID average (%)", title=f"The sum helps up to lam = {lam}, then destroys")
axis.legend()
peak = tables["val"].mean(dim=1)
se.figure(fig, f"On validation the ID average rises from {peak[0]:.0f} % to {peak.max():.0f} % and falls to {peak[-1]:.0f} %.")

# %% [markdown]
# Three things to read off. At lam = 1/N the sum *is* the average of notebook 00. The best lam is not far from there: the
# more experts, the less of each. And beyond it the model breaks, although each task vector alone could be added at
# full size. What breaks it is **interference**: notebook 02.

# %% [markdown]
# ## What does the sum cost abroad?

# %%
curve = {lam: accuracy(add(suite.theta_0, tau_sum, lam), suite.ood_tasks) for lam in lams[:6]}
fig, axis = plt.subplots(figsize=(6, 3.2))
axis.plot(list(curve), list(curve.values()), "D-")
axis.set(xlabel="lam", ylabel="OOD average (%)", title="Every step towards the experts costs something abroad")
se.figure(fig, f"The OOD average falls from {curve[0.0]:.0f} % at lam = 0 to {curve[lams[5]]:.0f} % at lam = {lams[5]}.")
se.show("01.ood_base", curve[0.0], "OOD average of the base", slack=1.5)
se.show("01.ood_best", curve[lam], "OOD average at the chosen lam", slack=2.0)

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

fig, axis = plt.subplots(figsize=(6, 3.4))
axis.plot(steps, forgotten, "o-", label=f"{target}, to be forgotten")
axis.plot(steps, kept, "s--", label="control: the tasks abroad")
axis.axhline(0.95 * kept[0], color="0.6", linestyle=":")
axis.invert_xaxis()
axis.set(xlabel="lam", ylabel="accuracy on validation (%)", title=f"At lam = {lam_forget}, {target} fades and the rest stays")
axis.legend()
se.figure(fig, f"{target} falls from {forgotten[0]:.0f} % to {forgotten[steps.index(lam_forget)]:.0f} % at lam = {lam_forget}.")
se.show("01.forgotten", accuracy(add(suite.theta_0, tau, lam_forget), [target]), f"{target} on test after forgetting", slack=4.0)
se.show("01.control", accuracy(add(suite.theta_0, tau, lam_forget), control), "control tasks on test", slack=2.0)

# %% [markdown]
# ## The straight line between two models
#
# $\theta(\alpha) = (1 - \alpha)\,\theta_a + \alpha\,\theta_b$ walks from one expert to another. If the accuracy of task a
# falls and that of task b rises smoothly, without a valley in which both are lost, the two models lie in the same
# **basin**, and averaging them makes sense.

# %%
a, b = 0, 2  # two experts
alphas = [0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0]
line = [{k: (1 - x) * thetas[a][k] + x * thetas[b][k] for k in thetas[a]} for x in alphas]
walk = [scores(suite, theta, "test", [suite.id_tasks[a], suite.id_tasks[b]], n=N) for theta in line]

fig, axis = plt.subplots(figsize=(6, 3.4))
for task, look in ((suite.id_tasks[a], "o-"), (suite.id_tasks[b], "s--")):
    axis.plot(alphas, [point[task] for point in walk], look, label=task)
axis.set(xlabel=f"alpha: from the expert of {suite.id_tasks[a]} to that of {suite.id_tasks[b]}", ylabel="accuracy (%)")
axis.set_title("Half way between two experts, both tasks are still there")
axis.legend()
middle = walk[3]
se.figure(fig, f"At alpha = 0.5 the model reaches {' % and '.join(f'{v:.0f}' for v in middle.values())} % on the two tasks.")
for task in middle:
    se.show(f"01.middle.{task}", middle[task], f"half way, {task}", slack=2.5)

# %% [markdown]
# ## Angles
#
# If all task vectors pointed in the same direction, they would be the same update; if they pointed in opposite
# directions, they would cancel. The cosine tells:
#
# $$\cos(\tau_n, \tau_m) = \frac{\langle \tau_n, \tau_m \rangle}{\|\tau_n\|\, \|\tau_m\|}$$

# %%
V = torch.stack([se.flatten(tau) for tau in taus])  # (N, d): one row for each expert
lengths = V.norm(dim=1)
C = (V @ V.T) / (lengths[:, None] * lengths)
off = C[~torch.eye(len(taus), dtype=torch.bool)]
fig, axis = plt.subplots(figsize=(5, 4.2))
shown = axis.imshow(C - torch.diag(C.diag()), cmap="RdBu_r", vmin=-0.3, vmax=0.3)
axis.set_xticks(range(len(taus)), suite.id_tasks, rotation=45, ha="right")
axis.set_yticks(range(len(taus)), suite.id_tasks)
axis.grid(visible=False)
fig.colorbar(shown, label="cosine (diagonal left out)")
axis.set_title("Task vectors are nearly orthogonal")
n, m = divmod(int((C - 2 * torch.eye(len(taus))).argmax()), len(taus))
se.figure(fig, f"Off the diagonal, cosines are {off.mean():.2f} on average; the closest pair is {suite.id_tasks[n]} and {suite.id_tasks[m]}.")
se.show("01.cosine", off.mean(), "mean cosine", unit="", digits=3, slack=0.01)

# %% [markdown]
# Two numbers for each pair of experts are enough to say how long their sum is, before anything is added:

# %%
# EXERCISE 01.5

# %%
se.show("01.sum_predicted", length_of_sum(lengths, C), "predicted length of the sum", unit="", digits=3, slack=0.05)
se.show("01.sum_measured", V.sum(dim=0).norm(), "measured", unit="", digits=3, slack=0.05)
se.show("01.sum_parallel", lengths.sum(), "if all pointed in one direction", unit="", digits=3, slack=0.05)
se.show("01.sum_orthogonal", lengths.square().sum().sqrt(), "if all were orthogonal", unit="", digits=3, slack=0.05)

# %% [markdown]
# Nearly orthogonal: the experts change *different directions* of the weight space, which is why a sum of them does not
# cancel. But orthogonal in weight space is not the same as independent in what they do: each entry of the sum is
# still shared by all of them. That is where notebook 02 begins.

# %%
# QUIZ 01.q2

# %% [markdown]
# ## It fails, box 1: an expert from another beginning
#
# The suite `pocket-other` holds an expert for the first task that was fine-tuned from a *different* base: same data, same
# recipe, another random initialisation. Alone it is as good as ours. Average it with ours.

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

# %% [markdown]
# The difference between the stranger and our base is larger than the base itself: it is no task vector. The hidden units
# of the two networks mean different things, in a different order, and the mean of two unrelated numberings is noise.
# (Its heads differ too: they come from the text tower it was trained with.) **Merge only what shares a base.** Notebook
# 11 tries to repair this by permuting units.

# %% [markdown]
# ## It fails, box 2: QuickGELU
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

right = scores(suite, suite.theta_0, "test", n=N)
wrong = scores(swapped, suite.theta_0, "test", n=N)
se.show("01.right_gelu", sum(right.values()) / len(right), "right activation, mean over all tasks", slack=1.5)
se.show("01.wrong_gelu", sum(wrong.values()) / len(wrong), "wrong activation", slack=2.0)
images, _ = suite.images(suite.id_tasks[0], "test", N)
cosine = (suite.encode(suite.theta_0, images) * swapped.encode(suite.theta_0, images)).sum(dim=1).mean()
se.show("01.gelu_cosine", cosine, "cosine between the features of both networks", unit="", digits=3, slack=0.01)

# %% [markdown]
# No error, no warning. The features are others, and what that costs depends on the network: five shallow blocks and
# well separated classes may forgive it, and the mean accuracy above hardly moves. Twelve blocks and a thousand classes
# do not: users of open_clip lost several points without knowing why (open_clip issues 771 and 915), and published
# evaluations were wrong because of it. That is the trap: *nothing* tells you. So the architecture's name, **with its
# activation**, belongs into the file: look at the metadata below.

# %%
for task in suite.id_tasks[:1]:
    print(getattr(suite.experts[task], "metadata", {}).get("architecture", "this file does not say"))

# %%
# OPEN 01.open

# %% [markdown]
# ## What to remember
#
# * A task vector is a difference of weights. It is small, and it can be added, scaled and subtracted.
# * lam decides: chosen on validation, reported on test. The best lam falls as the number of experts grows.
# * Every gain at home has a price abroad; the base is the best model abroad.
# * The arithmetic presupposes one base, one architecture, one activation.
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
# | Task vectors are a few percent of the base and nearly orthogonal | measured here, pocket suite; also reported in arXiv:2212.04089 |
# | With 8 tasks the best lam on CLIP ViT-B/32 is about 0.3 | from the paper, arXiv:2212.04089; on pocket: measured here, see the curve |
# | Subtracting a task vector forgets the task and keeps a control task | measured here, pocket suite |
# | Near orthogonality is *why* addition works | open: it is necessary for the sum not to cancel, not sufficient |
