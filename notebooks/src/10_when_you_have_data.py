# %% [markdown]
# # 10 When you have data: what does an image buy?
#
# **You will be able to**
#
# * say what each method was given (nothing, images, labels, the test images, the task) before you compare numbers;
# * merge by Fisher's diagonal and by RegMean's least squares, and say what the first cannot see;
# * use entropy as a loss without labels, and recognise when it asks for the wrong thing;
# * put a fair control beside a method that uses labels: plain fine-tuning with the same ones.
#
# **Needs** notebooks 01 and 09. **Minutes** {reading} to read, {exercises} for the exercises; runs in less than a minute on two cores
# (pocket suite). On Colab: File, Save a copy in Drive, before you start.

# %%
from statistics import mean

from samerge_edu.course.drawings import d10
from samerge_edu.evaluate import scores
from samerge_edu.merges.regmean import regmean
from samerge_edu.statistics import features, input_grams
from samerge_edu.studies import data

suite = se.load_suite("pocket")  # the recorded points below are of this suite
theta_0, tasks = suite.theta_0, suite.id_tasks
taus = se.task_vectors(theta_0, [dict(suite.experts[task]) for task in tasks])
record = data.recorded()
rows, M = record["rows"], record["test_images"]
print(f"{len(rows)} measured points, each on {M} test images of every task")


# %% [markdown]
# Most numbers of this notebook take minutes to measure, so they were measured before, by
# `python data_scripts/measure_images.py`, with each method's default settings. The library's functions that made them
# are named beside each. With 100 images of each of 8 tasks **a difference below two points is noise here**, and each
# point is one choice of images and one seed.
#
# ## The ladder
#
# Up to here every merge looked at weights only. A method may be given more, and each rung is another question:
#
# | it is given | methods | what you must have |
# |---|---|---|
# | nothing | Average, TSV-M, Iso-C, SA-Merging, LwPTV | the experts |
# | some images | Fisher, RegMean, CAT Merging, ACM | images of every task, from before |
# | some images, and trains on them | AdaMerging | the same, and time |
# | ... and the task of each test image | Surgery | somebody who tells you the task |
# | ... and they are the test images | AdaMerging as published | all test images at once |
# | labels | aTLAS, DF-Merge, evolution, STA | somebody who labelled |
#
# (One thing all of them are given here: the class names of each task, and with them which head reads an image.)


# %%
def point(method, images=None):
    """A measured point: by its method, and its number of images where there are several."""
    [row] = [r for r in rows if r["method"] == method and images in (None, r["images"])]
    return row


for name in ("Average", "Task Arithmetic", "TSV-M", "Iso-C"):
    slug = name.replace(" ", "_").replace("-", "_")
    se.show(f"10.{slug}", point(name)["id_avg"], f"{name}, no images, published scale: ID average", slack=1.5)

# %% [markdown]
# ## Fisher: who needs this parameter?
#
# The average treats every parameter of every expert alike. Matena and Raffel ask how much an expert's *answers* depend
# on it. A parameter may be moved freely if the answers stay; the measure is Fisher's diagonal,
#
# $$F_j = \frac{1}{n} \sum_i \sum_c p_{ic} \left(\frac{\partial \log p_{ic}}{\partial \theta_j}\right)^2
#   \qquad \tau_m = \frac{\sum_n F_n \, \tau_n}{\sum_n F_n} \;\text{ (entry by entry)}$$
#
# $p_{ic}$ is the model's own probability of class $c$ for image $i$. No label appears.

# %%
# EXERCISE 10.1


# %%
def answers(theta, x):
    """Two classes, one number z = theta . x a row: p (n, 2), and derivatives of log p by theta, (n, 2, 2)."""
    p = torch.sigmoid(x @ theta)
    return torch.stack([p, 1 - p], dim=1), torch.stack([(1 - p)[:, None] * x, -p[:, None] * x], dim=1)


experts = torch.tensor([[2.0, 0.5], [0.5, -1.0]])
inputs = [torch.tensor([[1.0, 0.1], [-0.8, 0.0], [0.6, -0.1]]), torch.tensor([[0.1, 1.0], [0.0, -1.2], [0.2, 0.9]])]
toy_F = torch.stack([fisher_diagonal(*answers(theta, x)) for theta, x in zip(experts, inputs, strict=True)])
merged_toy = (toy_F * experts).sum(dim=0) / toy_F.sum(dim=0)
se.figure(*d10.two_parameters(experts, toy_F, {"average": experts.mean(dim=0), "Fisher": merged_toy}))

# %% [markdown]
# Expert 1 has inputs along the first axis and keeps parameter 1; expert 2 keeps parameter 2. So far it is the best of
# both. Now the eight experts (`statistics.fisher`, `merges.fisher`), with 1 and 16 images of each task:

# %%
for n in (1, 16):
    se.show(f"10.fisher_{n}", point("Fisher", n)["id_avg"], f"Fisher, {n:2} images a task: ID average", slack=2)
se.claim("10.fisher_is_behind_tsv", by=point("TSV-M")["id_avg"] - point("Fisher", 16)["id_avg"], at_least=3)

# %% [markdown]
# ## RegMean: directions of the input, not single weights
#
# A diagonal knows nothing of inputs that rise and fall together. For one linear layer we can do better, and need no
# gradients: ask that the merged matrix answers the inputs of each task as its expert does (notebook 09 derived the
# solution; here you have the inputs themselves).

# %%
# EXERCISE 10.2

# %% [markdown]
# In code nobody stacks all inputs: $X^T X$ is enough, (in, in) for each layer and expert (`statistics.input_grams`). Its
# diagonal alone would weigh each input by its own strength: that is Fisher's diagonal for a layer whose answers are
# all equally important. RegMean's knob `off_diagonal` walks from there (0) to the full Gram (1). Two worlds that differ
# in nothing else:

# %%
grams = [input_grams(suite, suite.experts[task], task, n=16) for task in tasks]
gram_scores = {}
for off_diagonal in (0.0, 0.9):
    theta = se.add(theta_0, regmean(taus, grams, off_diagonal=off_diagonal))
    gram_scores[off_diagonal] = mean(scores(suite, theta, tasks=tasks, n=50).values())
    name = f"10.gram_{round(100 * off_diagonal)}"
    se.show(name, gram_scores[off_diagonal], f"RegMean, off_diagonal = {off_diagonal}: ID average", slack=2)
se.show(
    "10.off_diagonal", gram_scores[0.9] - gram_scores[0.0], "the entries off the diagonal add", unit="points", slack=2
)
for n in (1, 4, 16, 64, 256):
    se.show(f"10.regmean_n{n}", point("RegMean", n)["id_avg"], f"RegMean, {n:3} images a task", slack=2)
se.claim("10.regmean_is_soon_full", by=2 - abs(point("RegMean", 256)["id_avg"] - point("RegMean", 16)["id_avg"]))

# %%
# QUIZ 10.q1

# %% [markdown]
# From 16 images on, RegMean's gain is inside our noise: 16 images are some hundred tokens, and a Gram is soon known.
# What is missing is not images. Notebook 09 names one reason: "answer nothing here" is a wish like any other.
#
# ## AdaMerging: be sure of yourself
#
# If we may train, what is the loss without a label? Yang et al. take the **entropy** of the answers, and train one
# number for each tensor of each expert, $\theta^l = \theta_0^l + \sum_n \lambda_n^l \tau_n^l$, from $\lambda = 0.3$.

# %%
# EXERCISE 10.3

# %%
for n in (1, 4, 16, 64):
    row = point("AdaMerging", n)
    se.show(f"10.adamerging_n{n}", row["id_avg"], f"AdaMerging, {n:2} images a task: ID average", slack=2)
gain = point("AdaMerging", 64)["id_avg"] - point("Task Arithmetic")["id_avg"]
se.claim("10.adamerging_beats_its_start", by=gain, at_least=4)
gap = point("TSV-M")["id_avg"] - point("AdaMerging", 64)["id_avg"]
se.claim("10.tsv_without_images_is_ahead", by=gap, at_least=3)

# %% [markdown]
# It gains over its start, Task Arithmetic at 0.3. It does not reach what TSV-M does **without a single image**. With one
# image a task nothing is gained.
#
# ### When is sure not right?
#
# Entropy asks how sure the model is, and nothing else. Follow it on validation images while training goes on: each task
# is a line from the start (small dot), over 20 steps, to its end.

# %%
seen = record["sure"]
se.figure(*d10.sure_and_right(seen))
for when in seen:
    H, right = (mean(pair[i] for pair in when["per_task"].values()) for i in (0, 1))
    se.show(f"10.entropy_{when['steps']}", H, f"{when['steps']:2} steps: entropy", unit="nats", digits=2, slack=0.05)
    se.show(f"10.right_{when['steps']}", right, f"{when['steps']:2} steps: accuracy on validation", slack=2)
(H_20, a_20), (H_80, a_80) = ([mean(p[i] for p in w["per_task"].values()) for i in (0, 1)] for w in seen[1:])
se.claim("10.entropy_goes_on_falling", by=H_20 - H_80, at_least=0.05, unit="nats")
se.claim("10.accuracy_does_not_follow", by=a_20 - a_80, at_least=-1)
lost = {task: seen[1]["per_task"][task][1] - seen[-1]["per_task"][task][1] for task in tasks}
print("the task that loses most after 20 steps is one of", d10.within(lost))
se.claim("10.a_task_gets_surer_and_worse", by=max(lost.values()), at_least=3)

# %%
# QUIZ 10.q2

# %% [markdown]
# So without labels you cannot know when to stop; the default of 20 steps was chosen on labelled validation images, which
# is a small loan from the next rung. The paper's 500 steps of 1e-3 are a slower walk along the same way.
#
# ### On which images? Transductive or not
#
# The paper adapts to the *test images themselves*. Their labels are not touched, and there are uses where all images lie
# there before the first answer is due. But it is another question than "how will it do on new images". The same method,
# 64 images of validation and 64 of test:

# %%
there, here = point("AdaMerging (test images)"), point("AdaMerging", 64)
se.show("10.transductive", there["id_avg"] - here["id_avg"], "adapted to the test images: gain", unit="points", slack=2)
se.claim("10.transductive_is_worth_little", by=3 - abs(there["id_avg"] - here["id_avg"]))

# %%
# QUIZ 10.q3

# %% [markdown]
# ## Surgery: repair the features, if you know the task
#
# After any merge: the features $z$ of task $n$ are off, in a way that is alike for all its images. Surgery learns it on
# unlabelled images, $z' = z - W_{up}\,\mathrm{relu}(W_{down}\, z)$, so that $z'$ comes near the *expert's* feature. A few
# thousand numbers a task; the encoder stays. What it repairs, and what it does if told the wrong task:

# %%
from samerge_edu.adaptation.surgery import surgery

theta = se.add(theta_0, {key: sum(tau[key] for tau in taus) for key in theta_0}, 0.3)  # Task Arithmetic
kept = surgery(suite, theta, n=64)
told = {task: kept[task].repair for task in tasks}
mistold = {task: kept[other].repair for task, other in zip(tasks, [*tasks[1:], tasks[0]], strict=True)}
got = {}
for name, repair in {"no_surgery": {}, "own": told, "wrong_task": mistold}.items():
    got[name] = mean(scores(suite, theta, tasks=tasks, n=50, repair=repair).values())
    se.show(f"10.surgery_{name}", got[name], f"Task Arithmetic, {name.replace('_', ' ')}: ID average", slack=2.5)
se.claim("10.surgery_repairs", by=got["own"] - got["no_surgery"], at_least=5)
se.claim("10.surgery_needs_the_task", by=got["own"] - got["wrong_task"], at_least=10)
z, z_n = (features(suite, m, tasks[0], 64, "test", transductive=True) for m in (theta, suite.experts[tasks[0]]))
before, after = (
    (z - z_n).norm(dim=1).mean(),
    (torch.nn.functional.normalize(told[tasks[0]](z), dim=1) - z_n).norm(dim=1).mean(),
)
se.show("10.feature_gap", 100 * after / before, f"distance to the expert's feature on {tasks[0]}, left", slack=6)

# %% [markdown]
# That is a large step, and its price is on the label: at test time somebody tells you the task
# of each image, before the features leave. A model that knows the task could as well load the expert. (The rows of
# notebook 11 that keep a mask or an expert for each task are its true neighbours.)
#
# ## Labels, and the fair question
#
# With labels the same coefficients can be trained by cross-entropy, from $\lambda = 0$: **aTLAS**. Or nothing is
# differentiated, and CMA-ES looks for densities and scales of two groups of layers: **evolution** (40 trials here).
# But whoever has labels has a plain alternative, which tables of merging methods leave out: take the average and
# **fine-tune all of it**, on the same images, for the same 60 steps (`studies.data.fine_tune`, at a rate of
# 3e-4; on validation images 1e-4 is as good up to our noise, 1e-3 is worse).

# %%
for rate, accuracy in record["rates"].items():
    se.show(f"10.rate_{rate.replace('.', '_')}", accuracy, f"learning rate {rate}: validation", slack=2)
for n in (16, 64):
    se.show(f"10.atlas_n{n}", point("aTLAS", n)["id_avg"], f"aTLAS, {n} labels a task: ID average", slack=2)
for n in (1, 4, 16, 64, 256):
    row = point("fine-tuned average", n)
    se.show(f"10.tuned_n{n}", row["id_avg"], f"fine-tuned average, {n:3} labels a task: ID", slack=2.5)
    se.show(f"10.tuned_ood_n{n}", row["ood_avg"], f"{'':18}  {n:3} labels a task: OOD", slack=2.5)
se.show("10.tuned_base", point("fine-tuned base")["id_avg"], "fine-tuned base, 64 labels a task: ID average", slack=2.5)
rates = record["rates"]
se.claim("10.rates_tie", by=1 - abs(rates["0.0003"] - rates["0.0001"]))
se.show("10.evolution", point("Evolution")["id_avg"], "evolution, 64 labels a task: ID average", slack=2.5)
few = point("aTLAS", 16)["id_avg"] - point("fine-tuned average", 16)["id_avg"]
se.claim("10.few_labels_want_few_numbers", by=few, at_least=5)
se.claim("10.one_label_ruins", by=point("Average")["id_avg"] - point("fine-tuned average", 1)["id_avg"], at_least=20)

# %% [markdown]
# **With few labels, no; the question is how few.** aTLAS and fine-tuning have the same loss, images and steps. One moves
# eight numbers a tensor and can only mix what experts know; the other moves all, and with 1 or 4 labels a task it forgets
# more than it learns (its rate was looked at with 64 labels; a smaller one, or fewer steps, does less harm, and
# who would tell without validation labels?). Where the lines meet, the next figure says. Evolution gets accuracies only, no gradients, and 40
# of them.
#
# Fine-tuning *from TSV-M* is a row of [docs/data.md](../docs/data.md): it costs four points with 16 labels a task; with
# 64 it is about where TSV-M was, at home, and more than three points behind it abroad. So TSV-M is what to beat, here too.
#
# ## The figure
#
# All of it on one axis. Where would you stop paying?

# %%
se.figure(*d10.against_images(rows, ["Average", "TSV-M"], d10.LINES))
best = max(r["id_avg"] for r in rows if r["needs"] == "unlabelled" and not r["task_id"])
se.show("10.best_unlabelled", best, "the best with images only, no task id", slack=2)
se.claim("10.no_images_beat_images", by=point("TSV-M")["id_avg"] - best, at_least=2)
labels = max(r["id_avg"] for r in rows if r["needs"] == "labelled")
se.show("10.best_labelled", labels, "the best with labels", slack=2)
se.claim("10.tsv_is_not_behind_labels", by=point("TSV-M")["id_avg"] - labels, at_least=-2)
order = [
    point(*of)["id_avg"] for of in (("Fisher", 16), ("RegMean", 64), ("AdaMerging", 64), ("AdaMerging + Surgery",))
]
se.claim("10.fisher_below_regmean", by=order[1] - order[0], at_least=2)
se.claim("10.regmean_and_adamerging_tie", by=2 - abs(order[2] - order[1]))
se.claim("10.surgery_on_top", by=order[3] - order[2], at_least=3)

# %% [markdown]
# The published order, on ViT-B/32, is Fisher < RegMean < AdaMerging by layers < AdaMerging + Surgery. Its ends hold here;
# RegMean and AdaMerging are a tie in our noise. (The paper adapts for 500 small steps to all test images, we for 20 to
# 64 others; whether that is the reason was not tried.) And the data-free methods of its tables are the sum and TIES.
# TSV-M came later, and here it changes the picture: no method that sees images only, and is not told the task, reaches
# it. **Put the strongest data-free row beside a method that asks for data.** The
# rungs can also be climbed together, with TSV-M as the start of Surgery; nobody has to choose one of them.


# %%
def draw(images):
    return d10.at_budget(rows, images, ["Average", "TSV-M", "Iso-C"])


se.explore(draw, presets=[{"images": 4}, {"images": 64}], images=[1, 4, 16, 64, 256])

# %% [markdown]
# ### LwPTV in front of AdaMerging, at home and abroad
#
# The second paper puts LwPTV before AdaMerging: layers that no task needs go back to the base, and what is left is
# adapted.

# %%
alone, behind = point("AdaMerging", 64), point("LwPTV + AdaMerging")
se.show(
    "10.lwptv_home", behind["id_avg"] - alone["id_avg"], "LwPTV in front of AdaMerging: at home", unit="points", slack=2
)
se.show("10.lwptv_abroad", behind["ood_avg"] - alone["ood_avg"], "... and abroad", unit="points", slack=2)
se.claim("10.lwptv_costs_at_home", by=alone["id_avg"] - behind["id_avg"], at_least=1)
se.claim("10.lwptv_abroad_is_a_tie", by=2 - abs(behind["ood_avg"] - alone["ood_avg"]))

# %% [markdown]
# At home it costs, abroad the two are as good up to our noise: AdaMerging alone already ends near the base abroad, and
# there is little to win back.

# %% [markdown]
# ## Choose
#
# The figure's numbers are test numbers: they are for reporting. Whoever must choose a row for a budget needs a rule that
# does not look at them.

# %%
# EXERCISE 10.4

# %%
# OPEN 10.open

# %% [markdown]
# ## What to remember
#
# * Beside every accuracy stands what was given: nothing, images, the task, the test images, labels.
# * Fisher's diagonal sees single parameters, RegMean directions of inputs. Both need few images and are soon full.
# * Low entropy is confidence. It helps while the start is unsure, and says nothing about when to stop.
# * A method that knows the task is compared with methods that know it.
# * A method that uses labels is compared with plain fine-tuning on the same labels.
#
# ## Further reading
#
# * Matena and Raffel, *Merging models with Fisher-weighted averaging*, arXiv:2111.09832
# * Jin et al., *Dataless knowledge fusion* (RegMean), arXiv:2212.09849
# * Yang et al., *AdaMerging*, arXiv:2310.02575; *Representation surgery*, arXiv:2402.02705
# * Zhang et al., *Knowledge composition using task vectors with learned anisotropic scaling* (aTLAS), arXiv:2407.02880
# * Akiba et al., *Evolutionary optimization of model merging recipes*, arXiv:2403.13187
# * Zhang et al., *Merging smarter, generalizing better* (LwPTV), arXiv:2506.09093
#
# ## Claims
#
# | claim | status |
# |---|---|
# | Sixteen images are as good as 256 for RegMean | measured here, within 2 points: `10.regmean_is_soon_full` |
# | AdaMerging gains over Task Arithmetic at 0.3 | measured here: `10.adamerging_beats_its_start`; paper, arXiv:2310.02575 |
# | TSV-M, which sees no image, is ahead of Fisher and AdaMerging | measured here, pocket suite: `10.fisher_is_behind_tsv`, `10.tsv_without_images_is_ahead`, `10.no_images_beat_images` |
# | Entropy goes on falling where accuracy does not rise | measured here, validation: `10.entropy_goes_on_falling`, `10.accuracy_does_not_follow` |
# | A task gets surer and worse | measured here, 64 images, one seed: `10.a_task_gets_surer_and_worse` |
# | Adapting to the test images is worth little here | measured here, within 3 points: `10.transductive_is_worth_little` |
# | Surgery repairs, and needs to be told the task | measured here: `10.surgery_repairs`, `10.surgery_needs_the_task` |
# | The published order Fisher < RegMean < AdaMerging < + Surgery | its ends hold, RegMean and AdaMerging tie; measured here: `10.fisher_below_regmean`, `10.regmean_and_adamerging_tie`, `10.surgery_on_top` |
# | With 16 labels a task, coefficients (aTLAS) are better than fine-tuning everything | measured here, one rate and 60 steps: `10.few_labels_want_few_numbers` |
# | With one label a task, 60 steps of fine-tuning ruin the average | measured here: `10.one_label_ruins` |
# | 256 labels a task do not beat TSV-M without any image | measured here, up to 2 points: `10.tsv_is_not_behind_labels` |
# | LwPTV in front of AdaMerging | costs at home, abroad a tie; measured here: `10.lwptv_costs_at_home`, `10.lwptv_abroad_is_a_tie`; the paper reports gains, arXiv:2506.09093 |
# | Which number of images is enough on ViT-B/32 | open |
