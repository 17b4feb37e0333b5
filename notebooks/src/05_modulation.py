# %% [markdown]
# # 05 Modulation: what do the other experts want?
#
# **You will be able to**
#
# * write down $S_n = G_n \odot \sum_i \tau_i$ and say what its sign means, entry by entry;
# * tell three readings of it apart, literal, agreement and abs, and say whom each of them punishes;
# * predict which of them gives all experts the same mask, and measure it;
# * measure sign conflict before and after pruning, and read a comparison that is closer than its error.
#
# **Needs** notebooks 02 (interference) and 04 (saliency). **Minutes** {reading} to read, {exercises} for the exercises; runs in about
# 40 seconds on two cores (pocket suite). On Colab: File, Save a copy in Drive, before you start.

# %% [markdown]
# ## Why one expert's saliency is not enough
#
# $G_n$ says how sensitive expert n is to each of its entries (notebook 04). It knows nothing of the other experts. But the
# merged model is $\theta_0 + \sum_n \tau_n$, and an entry that matters to expert n may be pulled elsewhere by the rest:

# %%
tau = torch.tensor([[3.0, 0.5, -2.0], [-1.0, 0.4, -1.0], [-2.5, 0.6, 0.0]])  # three experts, three coordinates
print("expert 1 wants:", tau[0].tolist(), " the sum gives:", [round(t, 1) for t in tau.sum(dim=0).tolist()])

# %% [markdown]
# In coordinate 0 expert 1's large update is undone, in coordinate 1 three small ones add up. SA-Merging therefore
# **modulates** the sensitivity with the sum of all updates:
#
# $$\tau^* = \sum_{i=1}^{N} \tau_i, \qquad S_n = G_n \odot \tau^*, \qquad G_n = \frac{\partial R_n}{\partial \tau_n}$$
#
# and keeps, in each tensor, the entries with the largest $S_n$. The idea behind it, in the words of the public notes on
# the paper: an update that opposes the aggregate gets a negative or small score, and goes first.

# %% [markdown]
# ## What the formula says, read literally
#
# $R_n$ depends on the *sizes* $|\theta_0 + \tau_n|$. So
#
# $$G_n = \mathrm{sign}(\theta_n) \odot |G_n| \qquad\Longrightarrow\qquad
#   \mathrm{sign}(S_n) = \mathrm{sign}(\theta_n) \cdot \mathrm{sign}(\tau^*)$$
#
# and **not** $\mathrm{sign}(\tau_n) \cdot \mathrm{sign}(\tau^*)$. Literally, $S_n$ is the change of expert n's path
# strength, to first order, when it moves along the aggregate. It is positive where the aggregate makes the weight
# *larger in size*, and it does not ask which way expert n went. The words describe another score. Since there is no public
# code to decide it, this package has three readings, each an argument:
#
# | reading | score | negative when |
# |---|---|---|
# | `literal` | $\mathrm{sign}(\theta_n)\,\lvert G_n\rvert\,\tau^*$ | the aggregate makes the weight smaller in size |
# | `agreement` | $\lvert G_n\rvert\,\mathrm{sign}(\tau_n)\,\tau^*$ | expert n opposes the aggregate |
# | `abs` | $\lvert G_n\,\tau^*\rvert$ | never: only the size counts (the paper's LoRA variant takes an absolute value) |
#
# All eight combinations of signs:

# %%
print("theta_n  tau_n  tau*    literal  agreement  abs")
for theta in (1, -1):
    for own in (1, -1):
        for total in (1, -1):
            signs = "  ".join(f"{'+' if s > 0 else '-':^6}" for s in (theta, own, total))
            print(f"{signs}     {'+' if theta * total > 0 else '-'}         {'+' if own * total > 0 else '-'}       +")

# %% [markdown]
# Literal and agreement give the same sign in four rows of eight: exactly where $\theta_n$ and $\tau_n$ have the same sign,
# that is, where expert n itself made its weight larger.

# %%
# EXERCISE 05.1

# %% [markdown]
# With half of the entries kept, the three readings keep three different pairs:

# %%
scores = four_scores()
for reading, S in scores.items():
    print(f"{reading:10} keeps entries", sorted(torch.tensor(S).topk(2).indices.tolist()))

# %% [markdown]
# Now for any number of experts. The slopes $|G_n|$ are given, as notebook 04 computed them; in code `G` is this size.

# %%
# EXERCISE 05.2

# %%
# EXERCISE 05.3

# %% [markdown]
# The package has both, for real models, in `samerge_edu.saliency.flow_score`. This is what it promises, and a comparison
# with yours on a small chain of two layers with two experts:

# %%
from samerge_edu.saliency import chain_flow, flow_score

print("\n".join(line.strip() for line in flow_score.__doc__.splitlines() if "S_n = " in line))

# %%
generator = torch.Generator().manual_seed(0)
shapes = {"0.weight": (3, 2), "1.weight": (2, 3)}
base = {k: torch.randn(shape, generator=generator) for k, shape in shapes.items()}
experts = [{k: 0.5 * torch.randn(shape, generator=generator) for k, shape in shapes.items()} for _ in range(2)]

for k in shapes:
    Gs = [chain_flow(se.add(base, tau)).gradient(k) for tau in experts]
    mine = {"literal": literal_scores(base[k], [t[k] for t in experts], Gs)}
    mine["agreement"] = agreement_scores([t[k] for t in experts], Gs)
    for reading in mine:
        package = flow_score(base, chain_flow, reading)(experts)
        same = all(torch.allclose(mine[reading][n], package[n][k]) for n in (0, 1))
        print(f"{k}, {reading}: the same as the package: {same}")

# %% [markdown]
# ## One coordinate to play with
#
# A weight of the base, the updates of two experts, and $|G| = 1$ for both. The arrows show where each expert goes, and
# where the sum goes. Before you read the scores of a picture, say who is punished. In one of the pictures agreement
# punishes nobody and literal both experts: why? In another one literal gives the two experts different signs: what did one
# of them do to the weight that the other did not?

# %%
from samerge_edu.course.drawings import d05


def three_scores(theta_0, tau_1, tau_2):
    """reading -> [score of expert 1, score of expert 2], for |G| = 1."""
    w, taus, Gs = torch.tensor([theta_0]), [torch.tensor([tau_1]), torch.tensor([tau_2])], [torch.ones(1)] * 2
    scores = {"literal": literal_scores(w, taus, Gs), "agreement": agreement_scores(taus, Gs)}
    scores["abs"] = [sum(taus).abs()] * 2
    return {reading: [s.item() for s in both] for reading, both in scores.items()}


def says(theta_0, tau_1, tau_2):
    scores, total = three_scores(theta_0, tau_1, tau_2), tau_1 + tau_2
    sentence = f"The sum takes the weight from {theta_0:g} to {theta_0 + total:g}. "
    for reading in ("literal", "agreement"):
        punished = [f"expert {n + 1}" for n, s in enumerate(scores[reading]) if s < 0]
        sentence += f"Negative under {reading}: {' and '.join(punished) or 'nobody'}. "
    return sentence.strip()


# %%
def draw(theta_0, tau_1, tau_2):
    """The picture of one setting; what is in it was computed above."""
    return d05.one_weight(theta_0, {"expert 1": tau_1, "expert 2": tau_2}, three_scores(theta_0, tau_1, tau_2))


presets = [{"theta_0": 1.0, "tau_1": 1.5, "tau_2": -0.5}, {"theta_0": -2.0, "tau_1": 1.0, "tau_2": 0.5}]
presets += [{"theta_0": -2.0, "tau_1": 0.5, "tau_2": -1.5}, {"theta_0": 0.5, "tau_1": -1.0, "tau_2": 0.5}]
se.explore(draw, presets, says, theta_0=(-2.0, 2.0, 0.25), tau_1=(-2.0, 2.0, 0.25), tau_2=(-2.0, 2.0, 0.25))

# %%
# QUIZ 05.q1

# %% [markdown]
# ## The signs of real experts
#
# Fine-tuning moves a weight by little, so $\mathrm{sign}(\theta_n)$ is nearly always $\mathrm{sign}(\theta_0)$, and that has
# nothing to do with what expert n learned. Count, for the first expert of the suite.

# %%
from functools import partial

from samerge_edu.saliency import clip_flow

suite = se.load_suite(lab.suite)
theta_0 = {k: v.cpu() for k, v in suite.theta_0.items()}
thetas = [{k: suite.experts[task][k].cpu() for k in theta_0} for task in suite.id_tasks]
taus = se.task_vectors(theta_0, thetas)

w, tau = se.flatten(thetas[0]).sign(), se.flatten(taus[0]).sign()
tau_star = sum(se.flatten(t) for t in taus).sign()
length = 100 * se.flatten(taus[0]).norm().item() / se.flatten(theta_0).norm().item()
se.show("05.length", length, "length of its task vector, in per cent of the base's", slack=1.0)
counts = {
    "kept its sign in fine-tuning": w == se.flatten(theta_0).sign(),
    "positive literal score": w * tau_star > 0,
    "positive agreement score": tau * tau_star > 0,
    "same sign of both scores": w * tau_star == tau * tau_star,
}
same = 100 * counts["same sign of both scores"].double().mean().item()
se.claim("05.unrelated", by=-abs(same - 50), at_least=-5)
for what, where in counts.items():
    se.show(f"05.signs.{what}", 100 * where.double().mean().item(), what, slack=2.0)

# %% [markdown]
# The last line is near 50 %: on these experts the two readings are unrelated, as if one of them tossed a coin. They are
# not two spellings of the same method.

# %% [markdown]
# ## Which experts keep the same entries?
#
# Before you run the next cells, think about the three ingredients of the literal score. $\tau^*$ is the same for all
# experts. $\mathrm{sign}(\theta_n)$ is nearly that of the base. And $|G_n|$? It is computed at $\theta_0 + \tau_n$, not far
# from $\theta_0$.

# %%
# QUIZ 05.q2

# %%
# EXERCISE 05.4

# %% [markdown]
# One round of pruning with each score, a third of every tensor kept, nothing re-estimated: the rounds of the full method
# come in notebook 06. `none` is the sensitivity without modulation, $|G_n \tau_n|$.

# %%
from samerge_edu.transforms.sa_merging import sa_merging

flow = partial(clip_flow, heads=suite.attention_heads)
READINGS = ("literal", "agreement", "abs", "none")
pruned = {r: sa_merging(taus, score=flow_score(theta_0, flow, r), T=1, p=2 / 3) for r in READINGS}
vectors = {r: torch.stack([se.flatten(t) for t in pruned[r]]) for r in READINGS}  # (N, d) each


def mean_overlap(V):
    """Mean overlap of the kept entries over all pairs of experts."""
    pairs = [(a, b) for a in range(len(V)) for b in range(a)]
    return sum(overlap(V[a] != 0, V[b] != 0) for a, b in pairs) / len(pairs)


overlaps = {r: 100 * mean_overlap(vectors[r]) for r in READINGS}
alike = min(overlaps["literal"], overlaps["abs"])
se.claim("05.one_mask", by=alike - overlaps["agreement"], at_least=30)
se.claim("05.none_like_chance", by=-abs(overlaps["none"] - 20), at_least=-5)
for reading, value in overlaps.items():
    se.show(f"05.overlap.{reading}", value, f"overlap of two experts' masks, {reading}", slack=2.0)

# %% [markdown]
# For comparison: two random masks with a third of the entries overlap by 20 % (1/9 of all entries in both, 5/9 in at least
# one). Without modulation the masks of two experts are about as alike as that: each expert keeps what is large for itself.
# Under `literal` and `abs`, SA-Merging in one round is close to choosing *one* mask for all experts, by the sum of
# their updates. That makes them cousins of methods that prune the *merged* task vector.
#
# If $R$ is differentiated at the merged parameters instead (`flow_at="merged"`; the conference abstract is worded like
# this, the preprint is not), all experts share $G$, and their scores are equal exactly:

# %%
for reading in ("literal", "agreement", "abs"):
    S = flow_score(theta_0, flow, reading, flow_at="merged")(taus[:2])
    k = "transformer.resblocks.0.mlp.c_fc.weight"
    print(f"{reading:10} experts 1 and 2 have the same scores: {torch.equal(S[0][k], S[1][k])}")

# %% [markdown]
# ## Sign conflict before and after
#
# The reason for modulation was interference. How much of it is left?

# %%
from samerge_edu.transforms.sa_merging import sign_conflict

conflicts = {"before": 100 * sign_conflict(taus)} | {r: 100 * sign_conflict(pruned[r]) for r in READINGS}
se.claim("05.conflict_stays", by=min(conflicts["literal"], conflicts["abs"]) - conflicts["none"], at_least=10)
se.claim("05.agreement_resolves", by=conflicts["before"] - conflicts["agreement"], at_least=80)
for name, value in conflicts.items():
    se.show(f"05.conflict.{name}", value, f"sign conflict, {name}", slack=2.0)

# %% [markdown]
# A number that goes down under every score, under `none` too. Were opponents removed, or simply many entries?

# %%
# EXERCISE 05.5

# %%
before = torch.stack([se.flatten(t) for t in taus])
for reading in READINGS:
    share = opposition_removed(before, vectors[reading])
    se.show(f"05.opposition.{reading}", 100 * share, f"opposing mass removed, {reading}", slack=2.0)
    gone = 1 - vectors[reading].abs().sum() / before.abs().sum()
    se.show(f"05.mass.{reading}", 100 * gone, f"of all mass, {reading}", slack=2.0)
total = sum(se.flatten(t) for t in taus)
for reading in READINGS:
    merged = vectors[reading].sum(dim=0)
    grows = (merged * se.flatten(theta_0) > 0).sum() / (merged != 0).sum()
    se.show(f"05.grows.{reading}", 100 * grows, f"merged updates that enlarge the weight, {reading}", slack=2.0)

# %%
se.figure(*d05.conflict_and_overlap(conflicts, overlaps))

# %%
# QUIZ 05.q3

# %% [markdown]
# So each reading punishes something else:
#
# * **agreement** removes whoever opposes the aggregate. As long as fewer entries are kept than have a positive score (the
#   count of signs above), everything that stays goes the way of $\tau^*$, and no conflict is left. With a larger quota it
#   would reach into negative scores: it is a quota, not a threshold at zero.
# * **literal** removes what shrinks weights. Most merged updates now enlarge weights, as printed above; conflict stays,
#   since the experts share their mask.
# * **abs** removes coordinates with a small total. Conflict stays for the same reason.
# * **none** prunes each expert by itself. Conflict goes down too, further than under literal and abs: a coordinate is now
#   shared by fewer experts, and two or three agree by chance more often than eight. Nothing was chosen for agreement.

# %% [markdown]
# ## Does it help?
#
# Sum the pruned vectors, choose the scale lam on validation, report test accuracy. Task Arithmetic, which prunes nothing,
# is the bar. This is *one* round, with few images, so that the notebook stays quick: do not crown a winner here.

# %%
from samerge_edu.evaluate import LAMS, choose_lam, id_average
from samerge_edu.merges.task_arithmetic import task_arithmetic

N_VAL, N_TEST = 40, 100  # images a task
result = {}
for name, vectors_of in {"Task Arithmetic": taus, **pruned}.items():
    tau_m = task_arithmetic(vectors_of)
    lam, _ = choose_lam(suite, tau_m, LAMS[:5], n=N_VAL)  # 0.1 to 1
    chosen = id_average(suite, se.add(theta_0, tau_m, lam), "test", N_TEST)
    result[name] = lam, chosen, id_average(suite, se.add(theta_0, tau_m, 1.0), "test", N_TEST)
zero_shot = id_average(suite, theta_0, "test", N_TEST)
se.show("05.zero_shot", zero_shot, "test accuracy of the base", slack=2.0)
for name, (_, chosen, literal_lam) in result.items():
    se.show(f"05.accuracy.{name}", chosen, f"{name}, lam from validation", slack=3.0)
    se.show(f"05.accuracy_at_1.{name}", literal_lam, f"{name}, lam = 1", slack=4.0)

# %%
images = N_TEST * len(suite.id_tasks)
error = 100 * (0.7 * 0.3 / images) ** 0.5  # of an accuracy near 70 %
print(f"two standard errors of a number: {2 * error:.1f} points; of a difference: {2 * 2**0.5 * error:.1f}, if independent")
by_reading = [result[r][1] for r in READINGS]
se.claim("05.no_clear_winner", by=min(by_reading) - max(by_reading), at_least=-4.5)
se.claim("05.too_long_at_1", by=zero_shot - max(at_1 for _, _, at_1 in result.values()), at_least=5)
se.figure(*d05.accuracies(result, READINGS, zero_shot, error))

# %% [markdown]
# Read the error bars before the bars. With lam from validation, the readings differ by less than two errors of a difference
# (all rows see the *same* images, so the true error is somewhat smaller; but the best of four is always ahead of something).
# That is no verdict: neither for one of them, nor that they are equal. What is far outside of all errors is the scale: at
# lam = 1, the scale that a literal reading of the paper suggests, every sum is far too long after one round, and worse than
# the base. Ten rounds at p = 0.2 leave a tenth of the entries instead of a third: notebook 06 runs them, with the ablations
# and a distribution of random masks beside the method.

# %%
# OPEN 05.open

# %% [markdown]
# ## What to remember
#
# * $S_n = G_n \odot \tau^*$: sensitivity times the *sum* of all updates, expert n's own included.
# * Read literally, $\mathrm{sign}(S_n) = \mathrm{sign}(\theta_n)\,\mathrm{sign}(\tau^*)$: it favours what makes weights
#   larger. It is not a test of agreement; the paper's words describe one. We offer both, and `abs`.
# * When experts stay close to the base, literal and abs give all experts nearly the same mask, and leave sign conflict as
#   it was. Agreement removes it.
# * A number has an error. Compare differences with it.
#
# ## Further reading
#
# * Park, Lee, Sohn: *Saliency-Aware Model Merging*, 2026, arXiv:2606.00511, Algorithm 1.
# * Yadav et al.: *TIES-Merging*, 2023, arXiv:2306.01708: agreement by electing a sign (notebook 02).
# * Du et al.: *Parameter Competition Balancing*, 2024, arXiv:2410.02396: competition between and within task vectors.
# * Wang et al.: *Localizing Task Information for Improved Model Merging*, 2024, arXiv:2405.07813: masks that experts share.
#
# ## Claims
#
# | claim | status |
# |---|---|
# | sign of the literal score is sign(theta_n) sign(tau*) | derived here; checked in exercise 05.2 by autograd |
# | Updates that oppose the aggregate get a negative or minimal score | from the paper, as summarised in public notes; true of `agreement`, not of the literal formula |
# | On fine-tuned experts literal and agreement have the same sign in about half of the entries | one expert, measured here: `05.unrelated` |
# | Literal and abs give nearly the same mask to all experts and leave the sign conflict | one round, a third kept, measured here: `05.one_mask`, `05.conflict_stays` |
# | Without modulation two experts' masks overlap about as random ones do | one round, a third kept, measured here: `05.none_like_chance` |
# | Agreement removes most of the sign conflict | one round, a third kept, measured here: `05.agreement_resolves` |
# | At lam = 1 every sum is worse than the base | one round, a third kept, measured here: `05.too_long_at_1` |
# | Which reading merges best | open: the four lie within two errors of a difference, measured here: `05.no_clear_winner`; notebook 06 and the leaderboard measure on |
# | Which reading the authors used | open: no code is public |
