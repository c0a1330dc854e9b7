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
# # Adam: feature learning beside the kernel limit
#
# One network, trained by Adam at two parametrizations. In the maximal-update limit (muP) features move. In the neural
# tangent limit (NTP) they do not, and what Adam does to the outputs is a nonlinear kernel descent (Tensor Programs IVb).

# %%
import numpy as np

import tp_compiler as tpc

STEPS = 10
NETWORK = """
axis i, j
axis d
data xi[i,d]
data y[i]
ket    |u[d]> ~ N(0, 1)
ket    |v>    ~ N(0, 1)
train steps = STEPS {
    |h[i]> = sum[d](xi[i,d] |u[d]>)
    f[i] = READ
    loss = mean[i]((f[i] - y[i])^2)
    minimize loss
    update all with Adam(lr = 0.1, eps = 0.01)
}
output f[step,i]
output features[step,i,j] = <tanh(h[i])|tanh(h[j])>
""".replace("STEPS", str(STEPS))
FEATURES = NETWORK.replace("READ", "<v|tanh(h[i])>")
KERNEL = "parametrization ntk\n" + NETWORK.replace("READ", "clt <v|tanh(h[i])>")

rng = np.random.default_rng(1)
data = {"xi": rng.normal(size=(4, 3)), "y": np.array([1.0, -0.5, 0.25, -1.0])}

# %% [markdown]
# ## Where features are learnt
#
# Outputs are numbers: all wide networks train alike. The kernel of the features moves.

# %%
moving = tpc.limit(FEATURES, data=data, samples=512)
moving.plot()

# %%
start, end = moving["features"][0], moving["features"][-1]
moved = np.linalg.norm(end - start) / np.linalg.norm(start)
print(f"the kernel of the features has moved by {100 * moved:.0f}%")

# %% [markdown]
# ## The kernel limit
#
# f_0 is Gaussian, and stays random: the mean of f with one and two standard deviations. The features stay as they were
# drawn.

# %%
frozen = tpc.limit(KERNEL, data=data, samples=512, f0="sample")
frozen.plot()

# %%
still = np.abs(frozen["features"] - frozen["features"][0]).max()
print("the kernel of the features has moved by", still)
assert still < 1e-12

# %% [markdown]
# ## What does `tpc scale` say?
#
# The same optimizer at both parametrizations, and where they are among their neighbours.

# %%
scaling = tpc.scale(FEATURES, data=data)
scaling

# %%
scaling.plot()

# %%
tpc.scale(KERNEL, data=data).plot()

# %% [markdown]
# ## And finite networks?

# %%
networks = [tpc.simulate(FEATURES, n, data=data, seeds=8, seed=n, only=["f"]) for n in (64, 256)]
moving.plot(networks=networks)
