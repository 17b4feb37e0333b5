# %% [markdown]
# # 01 A demo of the machinery
#
# Not a lesson: the smallest notebook with everything in it. Tests build it, run it and open it in a browser.

# %% [markdown]
# ## Exercises

# %%
# EXERCISE 01.1

# %%
# EXERCISE 01.2

# %% [markdown]
# ## A number that later cells need
# Whoever skips the exercises sees the same numbers here.

# %%
base = {"w": torch.tensor([1.0, 2.0, 3.0])}
experts = [{"w": torch.tensor([2.0, 2.0, 5.0])}, {"w": torch.tensor([1.0, 0.0, 3.5])}]
taus = task_vectors(base, experts)
merged = add(base, taus[0], lam=0.5)
print("merged:", merged["w"].tolist())
se.show("demo.norm", merged["w"].norm(), "length of the merged model", unit="", digits=2)

# %% [markdown]
# ## A picture to play with

# %%
import matplotlib.pyplot as plt


def draw(lam):
    w = add(base, taus[0], lam)["w"]
    fig, ax = plt.subplots()
    ax.bar(range(3), w)
    ax.set(ylim=(0, 7), title=f"lam = {lam:.2f}: the third weight is {w[2]:.1f}")
    return fig


def says(lam):
    return f"At lam = {lam:.2f} the third weight is {add(base, taus[0], lam)['w'][2]:.1f}."


se.explore(draw, presets=[{"lam": 0.0}, {"lam": 1.0}], says=says, lam=(0.0, 2.0, 0.1))

# %% [markdown]
# ## A question

# %%
# QUIZ 01.q1
