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
# # First steps with `tpc` in Python
#
# A program is text. It has two readings: a network of finite width (`simulate`), and its limit (`limit`).

# %%
import numpy as np

import tp_compiler as tpc

PROGRAM = """
axis i, j : 3
axis d : 2
data xi[i,d] = [[1.0, 0.5], [-0.3, 0.8], [0.2, -1.1]]
gain = 2

ket    |u[d]> ~ N(0, 1)
matrix W      ~ N(0, 1)

|h[i]> = sum[d](xi[i,d] |u[d]>)
|y[i]> = sqrt(gain) W relu(|h[i]>)

output nngp[i,j] = <relu(y[i])|relu(y[j])>
output back[i,j] = <h[i]|W^T relu(W|h[j]>)>
"""

# %% [markdown]
# `check` lists what is wrong, without raising; `parse` and `compile` raise `ProgramError` with the same list.

# %%
for finding in tpc.check(PROGRAM.replace("relu(|h[i]>)", "relo(|h[i]>)")):
    print(finding.render())

syntax_tree = tpc.parse(PROGRAM)
program = tpc.compile(PROGRAM)
print(len(syntax_tree.statements), "statements; outputs:", [o.name for o in program.outputs])

# %% [markdown]
# ## The limit
#
# Outputs are NumPy arrays, one dimension per index. Where there is a closed form, `limit` finds it, and says so.

# %%
exact = tpc.limit(program)
print(exact)

# %% [markdown]
# Everything else is sampled, and every sampled number comes with a standard error. `method` asks for sampling here.

# %%
limit = tpc.limit(program, samples=4096, seed=0, method="qmc")
print(limit)

# %%
kernel = limit["nngp"]
error = limit.outputs["nngp"].stderr
print("eigenvalues of the kernel:", np.linalg.eigvalsh(kernel))
print("largest standard error:", error.max())

# %% [markdown]
# The first kernel is the arc-cosine kernel of Cho and Saul, twice. Written by hand it is the exact one to rounding,
# and the sampled one deviates from it by a few of its standard errors:

# %%
inputs = np.array([[1.0, 0.5], [-0.3, 0.8], [0.2, -1.1]])


def relu_kernel(covariance):
    """E relu(a) relu(b) of centred Gaussians, for all pairs."""
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    cosine = np.clip(covariance / scale, -1, 1)
    angle = np.arccos(cosine)
    return scale * (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi)


by_hand = relu_kernel(2 * relu_kernel(inputs @ inputs.T))
assert np.allclose(exact["nngp"], by_hand, rtol=1e-12)
z = (kernel - by_hand) / error
print("z-scores:", np.round(z, 1))

# %% [markdown]
# Sizes of axes and top-level scalars can be changed without touching the text.

# %%
for gain in (1.0, 2.0, 4.0):
    run = tpc.limit(PROGRAM, settings={"gain": gain}, only=["nngp"])
    print(f"gain {gain}: {run['nngp'][0, 0]:.6f}")

# %% [markdown]
# ## The same program at finite width

# %%
widths = (64, 128, 256)
deviation = []
for width in widths:
    network = tpc.simulate(program, width, seeds=8, seed=1)
    deviation.append(float(np.sqrt(np.mean((network["nngp"] - kernel) ** 2))))
    print(width, "neurons: off by", deviation[-1])

# %% [markdown]
# `verify` does this properly: means compared by z-scores, and the slope of the deviation in log n, about -1/2.

# %%
verification = tpc.verify(program, widths=widths, seeds=24, samples=4096)
for check in verification.checks:
    print(check.name, "passes" if check.passed else "FAILS", "slope", check.slope)
print("verified:", verification.passed)

# %% [markdown]
# ## A picture, where matplotlib is installed

# %%
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("no matplotlib: pip install matplotlib")
else:
    figure, axes = plt.subplots()
    axes.loglog(widths, deviation, "o-", label="RMS deviation from the limit")
    axes.loglog(widths, deviation[0] * np.sqrt(widths[0] / np.array(widths)), "--", label="slope -1/2")
    axes.set_xlabel("width n")
    axes.legend()
