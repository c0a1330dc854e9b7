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
# # Your own optimizer
#
# An optimizer is written in the language itself: what it does to one entry of a parameter, with its states. Its
# infinite-width limit, its width exponents and parameter groups for PyTorch follow from the text.

# %%
import tp_compiler as tpc

PROGRAM = """
axis i : 3
data xi[i] = [1.0, -0.7, 0.4]
data y[i]  = [0.6, -0.3, 0.5]
ket    |u> ~ N(0, 1)
matrix W   ~ N(0, 1)
ket    |v> ~ N(0, 1)

optimizer Cautious(lr, beta = 0.9, eps = 0.01) {
    state m = 0
    state s = 0
    m := beta * m + (1 - beta) * g          # g: one natural entry of the gradient
    s := beta * s + (1 - beta) * g^2
    return -lr * step(m * g) * m / (sqrt(s) + eps)   # only where momentum and gradient agree
}

train steps = 8 {
    |h[i]> = W tanh(xi[i] |u>)
    f[i] = <v|tanh(h[i])>
    loss = mean[i]((f[i] - y[i])^2)
    minimize loss
    update all with OPTIMIZER
}
output f[step,i]
output loss[step]
"""
OWN = PROGRAM.replace("OPTIMIZER", "Cautious(lr = 0.1)")

# %% [markdown]
# ## Its limit

# %%
own = tpc.limit(OWN, samples=256)
own.plot()

# %% [markdown]
# Beside Adam's:

# %%
adam = tpc.limit(PROGRAM.replace("OPTIMIZER", "Adam(lr = 0.1, eps = 0.01)"), samples=256)
for name, run in (("Cautious", own), ("Adam", adam)):
    print(f"{name:10} loss after 8 updates: {run['loss'][-1]:.4f} ± {run.outputs['loss'].stderr[-1]:.4f}")

# %% [markdown]
# ## Its exponents
#
# How do learning rates and initial values scale with the width, so that networks approach this limit? For an entrywise
# optimizer that `tpc` does not know, gradients are scaled too, so that its update sees numbers of order one.

# %%
scaling = tpc.scale(OWN)
scaling

# %%
scaling.plot()

# %% [markdown]
# ## Groups for PyTorch

# %%
module = scaling.torch()
print(module)
compile(module, "groups.py", "exec")

# %% [markdown]
# ## Finite networks approach the limit

# %%
verification = tpc.verify(OWN, widths=(32, 64, 128), seeds=16, samples=256, only=["loss"])
assert verification.passed
verification.plot()
