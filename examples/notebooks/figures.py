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
# # Figures of the papers

# %%
from pathlib import Path

import numpy as np

import tp_compiler as tpc

# %% [markdown]
# ## Tensor Programs IV, Figure 2: the classes of parametrizations
#
# Every stable and nontrivial parametrization either learns features or is in the operator regime, never both. The classes
# are computed for this network.

# %%
MLP = """
axis i : 3
data x[i] = [1.0, -0.7, 0.4]
data y[i] = [0.6, -0.3, 0.5]
ket    |u> ~ N(0, 1)
matrix W   ~ N(0, 1)
ket    |v> ~ N(0, 1)
train steps = 3 {
    minimize mean[i]((<v|tanh(W tanh(x[i] |u>))> - y[i])^2)
    update all with SGD(lr = 0.1)
}
"""
tpc.scale(MLP).plot()

# %% [markdown]
# ## Tensor Programs IV, Figure 4: networks approach the limit of feature learning
#
# A linear network with one hidden layer, whose limit is exact: the loss of single networks of growing width.

# %%
folder = Path("examples") if Path("examples").exists() else Path("..")
program = tpc.compile((folder / "figure4.nexort").read_text(encoding="utf-8"))
limit = tpc.limit(program, only=["loss"])
networks = [tpc.simulate(program, n, seeds=2, seed=n, only=["loss"]) for n in (64, 256, 1024)]
limit.plot(networks=networks)

# %% [markdown]
# ## Kernels of networks (Neal 1996; Cho and Saul 2009; Jacot et al. 2018)
#
# The covariance of a deep ReLU network at initialisation, and its neural tangent kernel, for points on a circle.

# %%
ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
KERNELS = """
axis i, j
axis d
data x[i,d]
ket    |u[d]> ~ N(0, 1)
matrix W      ~ N(0, 2)
ket    |v>    ~ N(0, 1)
f[i] = clt <v|relu(W relu(sum[d](x[i,d] |u[d]>)))>
output tangent[i,j] = ntk(f[i], f[j])
output nngp[i,j] = <relu(W relu(sum[d](x[i,d] |u[d]>)))|relu(W relu(sum[d](x[j,d] |u[d]>)))>
"""
kernels = tpc.limit(KERNELS, data={"x": np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)})
kernels.plot()

# %% [markdown]
# ## Wide networks as kernel regression (Jacot et al. 2018, Figure 2)
#
# Gradient flow in the neural tangent limit, from a Gaussian f_0: its mean with one and two standard deviations, at test
# points on a line, after a long time.

# %%
FLOW = """
parametrization ntk
axis i : 4
axis p
data x[i] = [-1.5, -0.6, 0.2, 1.4]
data y[i] = [-1.0, 0.5, 0.8, -0.6]
data z[p]
ket |u> ~ N(0, 1)
ket |b> ~ N(0, 1)
ket |v> ~ N(0, 1)
def net(t) { return clt <v|erf(2 t |u> + |b>)> }
train time = [TIME] {
    minimize mean[i]((net(x[i]) - y[i])^2) / 2
    update all with SGD(lr = 1)
}
output f[p] = net(z[p])
"""
points = np.linspace(-2.5, 2.5, 25)
flow = {time: tpc.limit(FLOW.replace("TIME", str(time)), data={"z": points}, only=["f"]) for time in (1, 1000)}
flow[1].plot()

# %%
flow[1000].plot()

# %% [markdown]
# ## Learning rates of muP transfer (Tensor Programs V, Figure 1)
#
# The limit of the loss over learning rates, in one program: a family of networks, each with its own rate.

# %%
RATES = """
axis r
axis i : 3
data lr[r]
data x[i] = [1.0, -0.7, 0.4]
data y[i] = [0.6, -0.3, 0.5]
ket |u[r]> ~ N(0, 1)
ket |v[r]> ~ N(0, 1)
train steps = 6 {
    loss[r] = mean[i]((<v[r]|tanh(x[i] |u[r]>)> - y[i])^2)
    minimize sum[r](lr[r] * loss[r])
    update all with SGD(lr = 1)
}
output loss[step,r]
"""
rates = {"lr": np.geomspace(0.03, 6, 12)}
sweep = tpc.limit(RATES, data=rates, samples=512)
networks = [tpc.simulate(RATES, n, data=rates, seeds=8, seed=n) for n in (64, 256)]
sweep.plot(x="lr", networks=networks)
