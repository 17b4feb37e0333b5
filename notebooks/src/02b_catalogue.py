# %% [markdown]
# # 02b A catalogue: six more methods that look at entries
#
# **You will be able to**
#
# * read DARE, DELLA, Breadcrumbs, PCB, consensus masks and LiNeS as *edit each task vector, then combine*;
# * say in five lines what each asks of an entry, and what control would show that the question matters;
# * compare methods at their own scale, and say when they cannot be told apart.
#
# **Needs** notebook 02. **Minutes** {reading} to read, {exercises} for the exercises; runs in about a minute on two cores (pocket
# suite). On Colab: File, Save a copy in Drive, before you start.

# %%
from statistics import mean

from samerge_edu.course.drawings import d02
from samerge_edu.evaluate import accuracy, choose_lam, h_score, id_average, scores
from samerge_edu.merges.task_arithmetic import task_arithmetic
from samerge_edu.merges.ties import ties

suite = se.load_suite(lab.suite)
theta_0, tasks = suite.theta_0, suite.id_tasks
taus = se.task_vectors(theta_0, list(suite.experts.values()))  # N dictionaries of tensors
tau_sum, N = task_arithmetic(taus), len(taus)
toy = torch.tensor([[4.0, 1.0, -3.0, 0.5, 0.0], [2.0, -1.5, 5.0, 0.0, 0.0], [-1.0, 0.5, 2.0, 0.0, 6.0]])  # as in 02


def coin(seed=0):
    return torch.Generator().manual_seed(seed)


# %% [markdown]
# Every method below is measured as in notebook 02: at the scale that 50 validation images a task choose and at the
# scale that its paper publishes, on 100 test images a task. **Differences of two points are noise.** First the two that
# you know.

# %%
results = {}


def enter(name, tau_m, lam_paper):
    """Test accuracy (ID, OOD) of a merge at the scale chosen on validation, and ID at the paper's scale."""
    lam, _ = choose_lam(suite, tau_m, n=50)
    chosen = scores(suite, se.add(theta_0, tau_m, lam), n=100)
    at_home, abroad = mean(chosen[t] for t in tasks), mean(chosen[t] for t in suite.ood_tasks)
    published = id_average(suite, se.add(theta_0, tau_m, lam_paper), "test", 100)
    results[name] = {"lam": lam, "ID": at_home, "OOD": abroad, "paper lam": lam_paper, "paper ID": published}
    slug = "".join(c if c.isalnum() else "_" for c in name)
    se.show(f"02b.{slug}", at_home, f"{name}: ID on test, lam from validation", slack=3)
    se.show(f"02b.{slug}.paper", published, f"{'':{len(name)}}  ... at the published lam {lam_paper}", slack=3)


enter("sum", tau_sum, 0.3)
enter("TIES", ties(taus, density=0.2), 1.0)

# %% [markdown]
# ## Drop by coin: DARE and DELLA
#
# DARE (Yu et al., 2024) does not rank at all: a coin decides which entries stay, the mask $m$, and what stays is
# scaled up so that on average nothing is missing. (The paper's $p$ is the share dropped, 1 - density.)

# %%
# EXERCISE 02b.1

# %% [markdown]
# The expected value stays, and the noise around it grows: an entry has variance $\tau^2 (1/\text{density} - 1)$. DELLA
# (Deep et al., 2024) reduces that noise: in each row of a matrix the largest entries get a higher chance to stay, the
# smallest a lower one, and every survivor is divided by *its own* chance, so the expected value still holds.

# %%
# EXERCISE 02b.2

# %% [markdown]
# Model Breadcrumbs (Davari and Belilovsky, 2024) rank row by row too, and drop **both ends**: the smallest, because
# they are noise, and the very largest, because they are outliers.

# %%
# EXERCISE 02b.3

# %% [markdown]
# Who survives where? Draw the chance to stay against
# the rank within the row, measured on one real matrix.

# %%
from samerge_edu.transforms.breadcrumbs import breadcrumbs
from samerge_edu.transforms.dare import dare
from samerge_edu.transforms.della import della
from samerge_edu.transforms.trim import trim

key = next(k for k in theta_0 if k.endswith("mlp.c_fc.weight"))
one = [{key: taus[0][key]}]  # one matrix of one expert; rows run along the inputs of a neuron
edits = {
    "TIES' trim, per tensor": trim(one, density=0.3, scope="tensor"),
    "DARE": dare(one, density=0.3, generator=coin()),
    "DELLA": della(one, density=0.3, epsilon=0.25, generator=coin()),
    "Breadcrumbs": breadcrumbs(one, density=0.3, outliers=0.1),
}
order = one[0][key].abs().argsort(dim=1, descending=True)
survives = {name: (edited[0][key] != 0).float().gather(1, order).mean(dim=0) for name, edited in edits.items()}

# %%
se.figure(*d02.who_survives(survives, density=0.3))

# %%
# QUIZ 02b.q1

# %% [markdown]
# Exaggerated settings, so that one sees it; the papers' own are milder: DELLA's example has density 0.7 and
# probabilities 0.63 to 0.77, Breadcrumbs start at density 0.15 and drop the largest 0.6 %.
#
# All of these are *edits*: a list of task vectors in, a list of task vectors out. What combines them is a second
# choice, and so the papers' methods are pipes. The order is the reading order: first edit, then combine.

# %%
from functools import partial

recipes = {  # name -> (edit, combine, the scale that was published)
    "DARE + sum": (partial(dare, density=0.5, generator=coin()), task_arithmetic, 0.3),
    "DARE + TIES": (partial(dare, density=0.5, generator=coin()), partial(ties, density=0.2, reduce="sum"), 0.5),
    "DELLA + elect": (partial(della, generator=coin()), partial(ties, density=1.0), 1.1),
    "Breadcrumbs + sum": (breadcrumbs, task_arithmetic, 0.2),
}
for name, (edit, combine, lam_paper) in recipes.items():
    enter(name, se.pipe(edit, combine)(taus), lam_paper)
apart = abs(results["DARE + sum"]["ID"] - results["sum"]["ID"])
se.claim("02b.dare_is_the_sum", by=3 - apart, at_least=1.0, unit="points below 3")

# %% [markdown]
# Why is "DARE + sum" so near to the plain sum? Because it *is* the sum, plus noise: its expected value is the sum
# itself. If dropping by coin helps, then a combination that is not linear, such as an election, or a model that has to
# be stored small.

# %% [markdown]
# ## Let the parameters compete: PCB
#
# Trimming asks "is this entry large?", electing "is it on the winning side?". PCB-Merging (Du et al., 2024) multiplies
# both questions into one score and keeps the best 5 %:
#
# $$a_n = \exp(N u_n^2) \qquad b_n = \tanh\Big(\tau_n \odot \sum_j \mathrm{sgn}(\tau_j)\, u_j\Big)
# \qquad c_n = a_n \odot b_n$$
#
# with $u_n$ the magnitudes $|\tau_n|$ of expert $n$, brought to 0..1. Summaries of the paper write a soft-max for $a$;
# the authors' program has only the exponential, and so has our default (`form="softmax"` is the other).

# %%
# EXERCISE 02b.4

# %%
print("toy, c_n:", *[[round(v, 2) for v in row] for row in balance(toy).tolist()], sep="\n  ")

# %% [markdown]
# Column 3: expert 1 is against the others and scores below zero; it cannot win there, however large its change.
# Column 5: nobody else cares, expert 3 wins with its own vote.
#
# One more thing the formula hides: tanh sees the raw $\tau_n$. Real entries are about a thousandth, where tanh(x) = x,
# so the tanh does nothing; on the toy, with entries of 5, it saturates. A method should not depend on the unit of the
# weights, but this one does.

# %%
from samerge_edu.merges.pcb import pcb

enter("PCB", pcb(taus), 1.2)
enter("PCB, soft-max form", pcb(taus, form="softmax"), 1.2)
largest = max(t[k].abs().max().item() for t in taus for k in t)
se.show("02b.largest_entry", largest, "largest entry of all task vectors", unit="", digits=3, slack=0.01)

# %% [markdown]
# ## Ask who needs an entry: consensus masks
#
# Consensus Task Arithmetic (Wang et al., 2024) turns the question round. Given the sum, which of its entries does
# expert $n$ *need*? Those where its own change is large against what the others add:
# An entry that nobody needs is noise; an entry that one expert alone needs is
# "selfish": it serves one task and is added to all. Keep the entries that at least two need.

# %%
# EXERCISE 02b.5

# %%
from samerge_edu.merges.consensus import consensus, tall_masks

enter("Consensus", consensus(taus, min_tasks=2), 0.3)
need = torch.stack([torch.cat([m[k].flatten() for k in sorted(m)]) for m in tall_masks(taus)]).sum(dim=0)
share = [100 * (need == n).double().mean().item() for n in range(N + 1)]

# %%
se.figure(*d02.needed_by(share, min_tasks=2))

# %% [markdown]
# The published scale is tuned on validation data (0.1 to 1.0); the 0.3 above stands in for it. The masks have a
# second use, as compression: $\theta_0 + m_n \odot \tau_{sum}$ gives expert $n$ back from the sum and one bit an
# entry. Try it:

# %%
def own_accuracy(models, n=50):
    """Mean over the experts of the accuracy of theta_0 + tau_n on task n, on n validation images."""
    return mean(accuracy(suite, se.add(theta_0, t), task, "val", n) for task, t in zip(tasks, models, strict=True))


recovered = [{k: tau_sum[k] * m[k] for k in m} for m in tall_masks(taus, mask_lam=0.4)]
rebuilt, themselves = own_accuracy(recovered), own_accuracy(taus)
se.show("02b.tall", rebuilt, "experts rebuilt from the sum and one bit an entry, own task", slack=2)
se.show("02b.experts", themselves, "the experts themselves", slack=2)
se.claim("02b.nothing_lost", by=5 - (themselves - rebuilt), at_least=2.0, unit="points below 5")

# %% [markdown]
# Nearly all of it comes back: little was *destroyed* in the sum. It is still there, and only nobody can tell whose it is.

# %% [markdown]
# ## Spare the shallow layers: LiNeS
#
# LiNeS (Wang et al., 2025) does not look at entries at all. Early blocks hold general features that every task (and
# every unseen task) needs; late blocks hold what is special. So scale the update of block $l$ of $L$ by
# $\alpha + \beta\, l / (L - 1)$: little in front, more towards the output. It edits the merged vector of *any* method.
#
# Two traps. In the authors' code everything outside the blocks gets $\alpha$, also `ln_post` and `proj`, which are the
# *last* layers. And a method that shrinks the update must be compared at its own best scale, otherwise you measure the
# shrinking. As a control we turn it upside down: much in front, little at the end.

# %%
# EXERCISE 02b.6

# %%
from samerge_edu.transforms.lines import lines

deep = lines(taus, merge=task_arithmetic, beta=0.5)
alpha, beta = 1 / N, 0.5
upside_down = {k: (2 * alpha + beta) * tau_sum[k] - deep[k] for k in deep}  # alpha + beta * (1 - l / (L - 1))
enter("LiNeS + sum", deep, 1.0)
enter("LiNeS, proj as last layer", lines(taus, merge=task_arithmetic, beta=0.5, outside="position"), 1.0)
enter("LiNeS upside down", upside_down, 1.0)
gained = {how: results["LiNeS + sum"][how] - results["LiNeS upside down"][how] for how in ("ID", "paper ID")}
se.show("02b.lines_gains", gained["ID"], "deep over shallow, each at its own scale", unit="points", slack=2.5)
se.claim("02b.deep_not_shallow", by=gained["paper ID"], at_least=10.0)

# %% [markdown]
# At one scale, the published one, the difference is large; at its own scale for each, the number above is what remains.

# %% [markdown]
# ## All of them on one page

# %% tags=["nbval-ignore-output"]
for row in results.values():
    row["H"] = h_score(row["ID"], row["OOD"])
base = scores(suite, theta_0, n=100)
base = {"ID": mean(base[t] for t in tasks), "OOD": mean(base[t] for t in suite.ood_tasks)}
se.figure(*d02.one_page(results, base))

# %% tags=["nbval-ignore-output"]
import pandas as pd

pd.DataFrame(results).T.round(2).sort_values("ID", ascending=False)

# %%
ahead = max(row["ID"] for row in results.values()) - results["sum"]["ID"]
by_scale = results["sum"]["ID"] - results["sum"]["paper ID"]
se.show("02b.best_over_sum", ahead, "the best row is ahead of the sum, each at its own scale, by", unit="points", slack=2.0)
se.show("02b.scale_of_the_sum", by_scale, "the sum loses at the published scale", unit="points", slack=2.0)
se.claim("02b.nobody_far_ahead", by=5 - ahead, at_least=0.5, unit="points below 5")
se.claim("02b.scale_matters", by=by_scale, at_least=3.0)

# %% [markdown]
# Diamonds are the published scales, dotted lines the base. At its own scale no row is ahead of the plain sum by five
# points; the sum itself loses more than three by the published scale alone. So most of what such tables rank, on this
# suite, is how well a published scale happens to fit. In the published tables TIES and PCB beat Task Arithmetic by 3 and
# 7 points at home; those tables fix the sum's scale at 0.3, and the diamond in its row shows what 0.3 does here.
#
# None of these methods asked what a weight is *connected* to: that begins in notebook 03.

# %%
# OPEN 02b.open

# %% [markdown]
# ## What to remember
#
# * Edit and combine are separate choices: `pipe(edit, combine)`. And every method gets its own scale, from validation.
# * DARE's expected value is the plain sum. DELLA and Breadcrumbs rank within rows, and treat the largest in opposite
#   ways.
# * PCB asks whether an entry is large *and* wanted; consensus, who needs it; LiNeS, only how deep it lies.
# * Rows within two points of each other are not ranked by 100 images a task: name the set, not a winner.
#
# ## Further reading
#
# * Yu et al., *Language models are super Mario* (DARE), arXiv:2311.03099
# * Deep et al., *DELLA-Merging*, arXiv:2406.11617
# * Davari and Belilovsky, *Model Breadcrumbs*, arXiv:2312.06795
# * Du et al., *Parameter competition balancing* (PCB), arXiv:2410.02396
# * Wang et al., *Localizing task information* (TALL masks, consensus), arXiv:2405.07813
# * Wang et al., *LiNeS*, arXiv:2410.17146
#
# ## Claims
#
# | claim | status |
# |---|---|
# | DARE keeps accuracy with 90 % dropped | paper, arXiv:2311.03099, for large language models |
# | DARE in front of a sum is the sum | measured here: `02b.dare_is_the_sum`; exact for the expected value |
# | The sum and one bit an entry give the experts back, nearly | measured here: `02b.nothing_lost` |
# | Deep blocks more, shallow ones less: better than the reverse, at the published scale | measured here: `02b.deep_not_shallow`; paper, arXiv:2410.17146 |
# | At its own scale no method here beats the plain sum by five points; the published scale costs the sum more than three | measured here: `02b.nobody_far_ahead`, `02b.scale_matters` |
# | PCB 76.3 %, TIES 72.4 % on ViT-B/32, experts of Task Arithmetic | table in WUDI's repository |
# | The order of these methods is the same on every suite | open |
