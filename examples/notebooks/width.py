# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Networks of finite width
#
# A limit is exact at n = ∞. A network of width n differs from it by a random part of size 1/√n and a mean part of size 1/n. Both
# follow from the limit: f_n ≈ f + b/n + N(0, Σ/n), for any network and optimizer.

# %%
import numpy as np
from matplotlib import pyplot as plt

import tp_compiler as tpc

PROGRAM = """
axis i : 3
axis d : 3
data xi[i,d] = [[0.9, -0.4, 1.3], [-0.7, 1.1, 0.3], [0.5, 0.8, -0.6]]
data y[i] = [1.0, -0.5, 0.25]
ket    |u[d]> ~ N(0, 1)
matrix W      ~ N(0, 1)
ket    |v>    ~ N(0, 1)
train steps = 5 {
    |h[i]> = W tanh(sum[d](xi[i,d] |u[d]>) / sqrt(3))
    f[i] = <v|tanh(h[i])>
    loss = mean[i]((f[i] - y[i])^2) / 2
    minimize loss
    update all with SGD(lr = 0.8)
}
output f[step,i]
output loss[step]
"""

# %% [markdown]
# ## Bands
#
# The band is what networks of width 64 do: two standard deviations around their mean.

# %%
run = tpc.limit(PROGRAM, width=64, samples=2048)
run.plot(width=64, networks=[tpc.simulate(PROGRAM, 64, seeds=32)])

# %% [markdown]
# ## Networks, and what was predicted for them
#
# The variance of each output after training, times the width:

# %%
widths = (32, 64, 128)
found = {n: tpc.simulate(PROGRAM, n, seeds=2000, seed=n).replicates for n in widths}
sigma = run.outputs["f"].fluctuations.sigma.diagonal()[-3:]
print("predicted", sigma.round(3))
for n in widths:
    print(f"n = {n:4}  ", (n * found[n]["f"][:, -1].var(axis=0)).round(3))

# %% [markdown]
# The whole law, not only its variance: the first output in networks of width 64, and the prediction.

# %%
outputs = found[64]["f"][:, -1, 0]
mean, deviation = run.at_width(64)["f"][-1, 0], np.sqrt(sigma[0] / 64)
grid = np.linspace(outputs.min(), outputs.max(), 200)
fig, ax = plt.subplots(figsize=(5, 3))
ax.hist(outputs, bins=40, density=True, alpha=0.4, label="2,000 networks of width 64")
ax.plot(
    grid, np.exp(-(((grid - mean) / deviation) ** 2) / 2) / (deviation * np.sqrt(2 * np.pi)), label="from the limit"
)
ax.set_xlabel("output for the first input, trained")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## A scaling law for the loss, computed from the limit
#
# E L(n) = L + b/n: no network is trained to know the line.

# %%
loss, b = run["loss"][-1], run.outputs["loss"].fluctuations.bias[-1]
fig, ax = plt.subplots(figsize=(5, 3))
wide = np.geomspace(24, 200, 50)
ax.plot(wide, loss + b / wide, label="from the limit")
ax.axhline(loss, linestyle=":", color="grey")
for n in widths:
    values = found[n]["loss"][:, -1]
    ax.errorbar(n, values.mean(), values.std() / np.sqrt(len(values)), fmt="o", color="black")
ax.set_xscale("log")
ax.set_xlabel("width")
ax.set_ylabel("mean loss")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## How wide must it be?

# %%
last = tpc.limit(PROGRAM.replace("[step]", "").replace("f[step,i]", "f[i]"), width=64, samples=2048, only=["loss"])
print("mean loss within 1% of the limit: n =", last.width_for("loss", 0.01))
print("95% of networks within 10%:       n =", last.width_for("loss", 0.1, share=0.95))
last
