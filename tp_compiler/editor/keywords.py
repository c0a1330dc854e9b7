"""The keywords: one row each, with an example and a sentence. A test checks that they are those of frontend/tokens.py."""

from __future__ import annotations

#: Words that begin a statement.
STATEMENTS = {
    "nexort": ("nexort 1", "The version of the language; optional."),
    "axis": ("axis i, j : 4", "A finite axis and the names of its indices. Without a size, its data say how many points it has."),
    "width": ("width m = 2", "A second width class: m/n -> 2. The default class is n."),
    "data": ("data xi[i,d] = [[1, 0.5], [-0.3, 0.8]]", "Numbers: written out, from a file, drawn, or given by the caller."),
    "scalar": ("scalar c = 0", "A trainable number."),
    "ket": ("ket |u[d]> ~ N(0, 1)", "A vector with one independent entry per neuron."),
    "matrix": ("matrix W ~ N(0, 2)", "An n x n matrix with independent entries; the variance is over fan-in."),
    "for": ("for l in 1..3 { ... }", "A loop with bounds known at compile time, both included; `for l { .. }`: all positions of an axis."),
    "def": ("def block(|x>, op A, scale = 0.5) { ... return |y> }", "A function of kets, operators and scalars."),
    "fn": ("fn phi(z) = z * erf(z)", "An entrywise function."),
    "optimizer": ("optimizer Heavy(lr, beta = 0.9) { ... }", "An optimizer: `g` is the gradient, `p` the parameter, `t` counts from 1."),
    "state": ("state m = 0", "What an optimizer remembers; it has the parameter's shape."),
    "init": ("init { p := balanced(p) }", "Runs once before the first step, in an optimizer on layers."),
    "train": ("train steps = 10 { ... }", "A training loop, or gradient flow: `train time = [1, 4] { ... }`."),
    "import": ("import layers", "The definitions of the library of layers, or of another file: `import \"blocks.nexort\"`."),
    "parametrization": ("parametrization ntk", "The neural tangent limit, or exponents a, b, c, d of your own in a block."),
    "return": ("return |y>", "The values of a `def`, or the update of an optimizer."),
    "output": ("output k[i,j] = <x[i]|x[j]>", "A scalar to report."),
    "minimize": ("minimize loss", "What training minimizes; `clip 2` clips the norm of its gradient."),
    "update": ("update |u>, W with Adam(lr = 0.1)", "Which parameters an optimizer trains; `all` are those that no other line names."),
}  # fmt: skip

#: Words inside some statements.
INNER = {
    "from": ("data x[i] from \"points.npy\"", "A file, or the rows of an array."),
    "key": ("from \"points.npz\" key \"xi\"", "The array of the file."),
    "seed": ("data y[i] ~ N(0, 1) seed 7", "The seed of drawn data."),
    "frozen": ("matrix P ~ N(0, 1) frozen", "Not a parameter: it has no gradient."),
    "x": ("matrix R : m x n ~ N(0, 1)", "Maps n-kets to m-kets."),
    "in": ("for l in 1..3 { ... }", "The bounds of a loop."),
    "scalar": ("state s = 0 scalar", "A state that is one number."),
    "clip": ("minimize loss clip 2", "The norm of all natural gradients together is at most this."),
    "with": ("update all with SGD(lr = 0.1)", "The optimizer of the parameters."),
    "clt": ("clt <v|x>", "v.x / sqrt(n): a Gaussian scalar, at the scale of the central limit theorem."),
}  # fmt: skip

#: Words that are names of the language in one place only.
PLACES = {
    "steps": ("train steps = 10 { ... }", "The number of updates."),
    "time": ("train time = [1, 4] { ... }", "Gradient flow, and the times that are reported."),
    "step": ("output loss[step]", "The number of updates so far: 0, 1, 2, ... In gradient flow it is the time."),
    "all": ("update all with SGD(lr = 0.1)", "Every parameter that no other line names."),
    "op": ("def block(|x>, op A) { ... }", "A parameter that is an operator."),
    "on": ("optimizer N(lr) on operators { ... }", "What an optimizer acts on: operators, or layers instead of entries."),
    "operators": ("optimizer N(lr) on operators { ... }", "The optimizer composes operators: `g g^T`, `msign(g)`, `P^T g Q`."),
    "layers": ("import layers", "The library of layers; after `on`: entries that know their rows and columns."),
    "mup": ("parametrization mup", "The maximal update parametrization, which learns features; the default."),
    "ntk": ("parametrization ntk", "The neural tangent parametrization: features do not move."),
    "standard": ("parametrization standard", "That of deep-learning libraries."),
    "a": ("|u> : a = 0, b = 0, c = 1, d = 1", "The exponent of the multiplier: the weight is n^-a times what is trained."),
    "b": ("|u> : a = 0, b = 0, c = 1, d = 1", "The exponent of the initial size: the standard deviation is n^-b."),
    "c": ("|u> : a = 0, b = 0, c = 1, d = 1", "The exponent of the learning rate, n^-c."),
    "d": ("|u> : a = 0, b = 0, c = 1, d = 1", "The exponent of the gradient's scale: the optimizer sees n^d times the gradient."),
    "natural": ("Muon(lr = 0.1, scale = natural)", "The step of an operator is as it is."),
    "original": ("Muon(lr = 0.1, scale = original)", "Steps are multiplied by sqrt(max(1, rows/cols))."),
    "match_rms_adamw": ("Muon(lr = 0.1, scale = match_rms_adamw)", "Steps are multiplied by 0.2 sqrt(max(rows, cols))."),
    "unit_rms_norm": ("Muon(lr = 0.1, scale = unit_rms_norm)", "Steps are multiplied by sqrt(rows/cols)."),
    "spectral": ("Muon(lr = 0.1, scale = spectral)", "Steps are multiplied by sqrt(max(rows, cols))."),
}  # fmt: skip
