# %% [markdown]
# # 00 Start here: eight experts, one model
#
# **You will be able to**
#
# * load a CLIP with its experts, and classify images by captions;
# * merge eight experts into one model in four lines, without training and without data;
# * read a leaderboard: what merging promises, and what it costs.
#
# **Needs** Python and a first acquaintance with PyTorch. **Minutes** {reading} to read, {exercises} for the exercises; runs in under a
# minute on two cores (pocket suite).
# On Colab: File, Save a copy in Drive, before you start.

# %% [markdown]
# ## A merge in four lines
#
# Somebody fine-tuned one CLIP on eight tasks. That gives eight models, each excellent at one thing. You want *one*
# model that knows something of all eight, you have no data, and you do not want to train. Here is how.

# %%
from samerge_edu.evaluate import scores, summary
from samerge_edu.merges.task_arithmetic import task_arithmetic

suite = se.load_suite(lab.suite)  # a base model and its experts
taus = se.task_vectors(suite.theta_0, list(suite.experts.values()))  # what each expert has learned
tau_m = task_arithmetic(taus)  # all of it, added up
theta = se.add(suite.theta_0, tau_m, lam=0.18)  # put back onto the base, at less than a fifth of its size

# %% [markdown]
# Is it any good? Accuracy in percent, averaged over the eight tasks, on 100 test images each.

# %%
N = 100  # test images a task: enough to see what happens, few enough for seconds


def at_home(theta):
    """Mean accuracy over the tasks that have an expert."""
    per_task = scores(suite, theta, "test", suite.id_tasks, n=N)
    return sum(per_task.values()) / len(per_task)


base_id, sum_id = at_home(suite.theta_0), at_home(theta)
se.show("00.base_id", base_id, "the base, nobody's expert", slack=1.5)
se.show("00.merged_id", sum_id, "the merged model", slack=1.5)
se.claim("00.sum_helps", by=sum_id - base_id, at_least=5.0)

# %% [markdown]
# One model, better on average over eight tasks than the base it came from, for the price of an addition. (The scale 0.18
# is no magic: notebook 01 chooses it. The last line holds a sentence to its number; a test reads all such lines.) The
# rest of this notebook says what exactly happened; the rest of the course, how far one can get.

# %% [markdown]
# ## What the models see
#
# The **pocket suite** is a small, real CLIP that we trained on drawn images and their captions. The captions came from
# a noisy "web": some wrong, some vague. Each of the eight tasks **at home** (in-domain, ID) has a style of its own
# that the web showed rarely: digits in chalk, signs at night, hazy land. The six tasks **abroad** (out-of-domain, OOD)
# look like the web, and have no expert. They will tell what merging costs.

# %%
from samerge_edu import plots

web = None
if suite.name == "pocket":
    from samerge_edu.suites.pocket.tasks import draw

    def web(task, n):
        """The first images of a task in the style of the web."""
        return draw(task, "web", range(n), "web")[0]


se.figure(*plots.contact_sheet(suite, n=2, web=web))

# %% [markdown]
# ## Real handwriting
#
# Everything so far was drawn by a program. Here are 1,797 digits that people wrote and a machine scanned, 8 x 8 pixels
# enlarged (scikit-learn ships them). No model here has seen one. They are the task `real_digits`: it is reported, it has
# no validation images, and nothing in the course is chosen by it. Measured on the first 600.

# %%
from samerge_edu.course.drawings import d00
from samerge_edu.evaluate import accuracy

if "real_digits" in suite.tasks:
    images, labels = suite.images("real_digits", "test", 10)
    se.figure(*d00.pictures(images, f"Scanned digits, as a model sees them: {labels.tolist()}.", inch=0.6))
    real = {"the base": suite.theta_0, "the expert of drawn digits": dict(suite.experts["digits"])}
    for name in ("Average", "TIES", "TSV-M"):
        method = se.METHODS[name]  # two of the better ones, and the plainest
        real[f"merged: {name}"] = se.add(suite.theta_0, method.recipe(suite)(taus), method.lam)
    real = {name: accuracy(suite, model, "real_digits", n=600) for name, model in real.items()}
    for name, percent in real.items():
        se.show(f"00.real {name}", percent, f"scanned digits, {name}", slack=1.5)
    se.claim("00.real_expert", by=real["the expert of drawn digits"] - real["the base"], at_least=5.0)
    worst_merge = min(percent for name, percent in real.items() if name.startswith("merged"))
    se.claim("00.real_merges", by=worst_merge - real["the base"], at_least=2.0)

# %% [markdown]
# What was learned from drawings carries over to paper, in part: the expert of drawn digits reads real ones better than
# the base, and so do the merges, which contain seven other experts as well. A chance guess is right in 10 %.

# %% [markdown]
# ## Zero-shot: a caption is a classifier
#
# CLIP has two towers. The image tower turns an image into a vector z, the text tower turns a caption into a vector h,
# and training made vectors of matching pairs point in similar directions. So to classify an image, write one caption
# for each class and take the one whose direction is nearest:
#
# $$\text{class} = \arg\max_c \frac{\langle z, h_c \rangle}{\|z\|\, \|h_c\|}$$
#
# No training on the task: **zero-shot**. Here is one image against four captions. Change them; the model of the pocket
# suite knows about two hundred words, and says so when you use another.

# %%
images, labels = suite.images("shapes" if suite.name == "pocket" else suite.id_tasks[0], "test", 100)
captions = ["a star", "a circle", "the number five", "a photo of a bus"]

z = suite.encode(suite.theta_0, images[3:4])  # (1, dim), length 1
h = suite.read(captions)  # (4, dim), length 1
for caption, cosine in zip(captions, (z @ h.T)[0].tolist(), strict=True):
    print(f"{cosine:6.2f}  {caption}")

# %% tags=["nbval-ignore-output"]
nearest = captions[int((z @ h.T).argmax())]
se.figure(*d00.pictures(images[3:4], f"The image of the cell above; the nearest of the four captions is: {nearest}."))

# %%
# EXERCISE 00.1

# %% [markdown]
# Your function on a whole task: encode 100 images, embed one caption a class, classify.

# %%
task = suite.id_tasks[0]
images, labels = suite.images(task, "test", N)
heads = suite.read([suite.tasks[task].templates[0].format(name) for name in suite.tasks[task].classes])
predicted = classify(suite.encode(suite.theta_0, images), heads)
se.show("00.zero_shot", 100 * (predicted == labels).double().mean(), f"zero-shot accuracy on {task}", slack=2.5)

# %% [markdown]
# The library averages several captions a class (`suite.heads`), as CLIP does, and keeps these heads fixed from here on:
# **experts are image towers**, the text tower is never fine-tuned, so there is no head to merge.

# %% [markdown]
# ## What an expert is
#
# Take the base's image tower and train it on one task against the fixed heads. Then look at home and abroad.

# %%
expert_task = suite.id_tasks[-1]
models = {"base": suite.theta_0, f"expert: {expert_task}": dict(suite.experts[expert_task])}
accuracies = {name: scores(suite, theta, "test", n=N) for name, theta in models.items()}
se.figure(*plots.accuracy_bars(suite, accuracies))

# %%
base, expert = accuracies.values()


def abroad(per_task):
    """Mean accuracy over the tasks that no expert saw."""
    return sum(per_task[t] for t in suite.ood_tasks) / len(suite.ood_tasks)


se.show("00.expert_own", expert[expert_task], "the expert on its own task", slack=1.5)
se.show("00.base_own", base[expert_task], "the base on that task", slack=1.5)
se.show("00.base_ood", abroad(base), "the base abroad", slack=1.5)
se.show("00.expert_ood", abroad(expert), "the expert abroad", slack=2.0)
se.claim("00.expert_gains", by=expert[expert_task] - base[expert_task], at_least=20.0)
se.claim("00.expert_loses", by=abroad(base) - abroad(expert), at_least=4.0)

# %% [markdown]
# The expert gained a great deal on one task and lost abroad: fine-tuning **distorts** what the base knew.

# %%
# QUIZ 00.q1

# %% [markdown]
# ## The simplest merge: average
#
# All experts have the same tensors under the same names. So take the mean of each.
#
# $$\theta = \frac1N \sum_{n=1}^N \theta_n$$

# %%
# EXERCISE 00.2

# %%
averaged = average([dict(theta) for theta in suite.experts.values()])
se.show("00.average_id", at_home(averaged), "average of the experts, at home", slack=1.5)

# %% [markdown]
# Why does this work at all? Average the weights of two networks that were trained from different beginnings and you
# get noise (notebook 01 shows it). These experts all started from *the same base* and moved only a little way from it.
# If the network is nearly linear in its weights around the base, moves can be added. How far that carries, and what
# spoils it, is the subject of notebooks 01 and 02.

# %% [markdown]
# ## How much of the experts is left?
#
# Tasks differ in difficulty, so one compares with the experts: **normalised accuracy** is the mean, over the tasks, of
# the merged model's accuracy divided by that of the task's expert.

# %%
# EXERCISE 00.3

# %%
own = {t: scores(suite, dict(suite.experts[t]), "test", [t], n=N)[t] for t in suite.id_tasks}
merged = scores(suite, averaged, "test", suite.id_tasks, n=N)
shares = torch.tensor(list(merged.values())), torch.tensor(list(own.values()))
se.show("00.experts_id", shares[1].mean(), "each expert on its own task, averaged", slack=1.5)
se.show("00.normalised", normalised_accuracy(*shares), "normalised accuracy of the average", slack=1.5)

# %% [markdown]
# ## The leaderboard
#
# A method of this course is *edit each task vector, then combine, then scale*. The library's table `METHODS` lists them
# all; here are six. Each is measured twice: at the scale its paper publishes, and at the scale `lam` chosen on
# validation images. H is the harmonic mean of ID and OOD average: high only if both are.

# %%
from samerge_edu.evaluate import choose_lam

CHOSEN = ["Average", "Task Arithmetic", "TIES", "TSV-M", "WUDI", "SA-Merging"]
rows = []
for name in CHOSEN:
    method = se.METHODS[name]
    tau_m = method.recipe(suite)(taus)
    validated, _ = choose_lam(suite, tau_m, n=50)
    for lam, lam_from in [(method.lam, "paper"), (validated, "validation")]:
        result = summary(suite, scores(suite, se.add(suite.theta_0, tau_m, lam), "test", n=N), own)
        rows.append({"method": name, "lam": lam, "lam_from": lam_from, **result})

# %% tags=["nbval-ignore-output"]
import pandas as pd

pd.DataFrame(rows).round(1)

# %%
reference = {
    "zero_shot": summary(suite, base, own),
    "experts": {"id_avg": sum(own.values()) / len(own), "ood_avg": abroad(expert)},
}
se.figure(*plots.id_ood({"suite": suite.name, "rows": rows, "reference": reference}))

# %%
published, validated = (sorted((r for r in rows if r["lam_from"] == where), key=lambda r: -r["id_avg"])
                        for where in ("paper", "validation"))
best, second, *_, last = validated
print("best at home among these six:", best["method"])
se.show("00.best_id", best["id_avg"], "its ID average", slack=1.5)
se.show("00.best_ood", best["ood_avg"], "its OOD average", slack=2.0)
gap = reference["experts"]["id_avg"] - sum_id
share = 100 * (best["id_avg"] - sum_id) / gap
se.show("00.share_of_gap", share, "of the gap between the sum and the experts it closes", slack=8.0)
se.claim("00.one_leads", by=best["id_avg"] - second["id_avg"], at_least=3.0)
se.claim("00.all_help", by=last["id_avg"] - base_id, at_least=4.0)
se.claim("00.published_scale", by=base_id - published[-1]["id_avg"], at_least=2.0)

# %% [markdown]
# Read it like this. *Right* is better at home, *up* is better abroad. The base sits at the upper left: good abroad,
# mediocre at home. (The point called experts is eight models, and its OOD value here is that of one of them.) At the
# scale that validation chose, every merge lies right of the base (`00.all_help`). At the published scale, found for
# another CLIP, not every one does: those are the hollow marks, and the worst of them is worse than no merge at all
# (`00.published_scale`). One method leads by a margin that 100 images a task can tell (`00.one_leads`); how much of the
# gap to the experts it closes is printed above. As for the others: with so few images, a point or two between methods means nothing.
#
# Task Arithmetic has another scale here than in the first cell. `choose_lam` looks at 50 validation images a task, tries
# seven scales for any method, and takes the middle of those that are as good as the best: notebook 01 says why.
#
# The full table, with every method and 500 test images a task, comes from one command in a terminal:
#
#     samerge-edu leaderboard --suite pocket

# %%
# QUIZ 00.q2

# %%
# OPEN 00.open

# %% [markdown]
# ## Letters
#
# The code writes the papers' letters, each with one meaning in the whole course. The whole list: docs/letters.md.
#
# | letter | means | first met in |
# |---|---|---|
# | `theta_0`, `theta_n` | base, expert n | 00 |
# | `tau_n` | task vector of expert n | 01 |
# | `N` | number of experts | 00 |
# | `lam` | scale of the merged update | 01 |
# | `density` | share kept, in (0, 1] | 02 |
# | `m` | mask | 02 |
# | `G`, `R` | gradient of the path strength; path strength | 03 |
# | `S` | saliency | 03 |
# | `T`, `p` | rounds, share pruned in a round | 06 |
# | `eta` | share of layers pruned | 08 |

# %% [markdown]
# ## What to remember
#
# * Experts fine-tuned from one base can be merged by arithmetic on their weights, without data.
# * Merging is judged at home (ID) *and* abroad (OOD), against the base and against the experts.
# * Choices, such as the scale, are made on validation images; test images are only reported.
#
# ## Further reading
#
# * Radford et al., 2021: CLIP, arXiv:2103.00020.
# * Wortsman et al., 2022: model soups, averaging of fine-tuned models, arXiv:2203.05482.
# * Ilharco et al., 2023: task arithmetic, arXiv:2212.04089.
#
# ## Claims
#
# | claim | status |
# |---|---|
# | Adding up task vectors beats the base at home, on average | measured here: `00.sum_helps` |
# | What was learned from drawings helps on scanned digits, also after merging | measured here: `00.real_expert`, `00.real_merges` |
# | An expert gains much on its task and loses accuracy abroad | measured here: `00.expert_gains`, `00.expert_loses`, for one expert; for all: `samerge-edu doctor` |
# | At a scale from validation six methods beat the base; at the published scale not all do; one leads | measured here: `00.all_help`, `00.published_scale`, `00.one_leads` |
# | The same holds for CLIP ViT-B/32 on eight public data sets | from the paper, arXiv:2212.04089, for the sum |
# | The order of methods found here holds for larger models | open; published numbers are in notebook 12 |
