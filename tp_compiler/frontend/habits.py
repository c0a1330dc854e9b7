"""Words and signs of Python, PyTorch and NumPy, each with what NEXORT writes instead. Messages quote these rows."""

from __future__ import annotations

_WHERE = "choose with `where(c, a, b)`, which is a where c > 0, otherwise b; `step(a - b)` is 1 where a > b"
_FUNCTION = "define a function as `fn f(z) = ...`, or as `def f(|x>) { ... return ... }`"
_NUMBERS = "use `1` and `0`"

#: Words that begin a statement of another language.
STATEMENTS = {
    **dict.fromkeys(("if", "elif", "else", "switch", "match"), _WHERE),
    **dict.fromkeys(("while", "repeat"), "write `for l in 1..10 { ... }`: loops have bounds known at compile time"),
    **dict.fromkeys(("print", "log", "show", "plot"), "report a scalar with `output ...`"),
    **dict.fromkeys(("let", "var", "const", "set"), "bind names without a keyword: `c = 1`, `|y> = W |x>`"),
    **dict.fromkeys(("backward", "optimize", "maximize"), "write `minimize loss` in a `train` block"),
    **dict.fromkeys(("class", "function", "func", "lambda"), _FUNCTION),
    **dict.fromkeys(
        ("param", "parameter", "weight", "layer"),
        "declare parameters as `matrix W ~ N(0, 1)`, `ket |b> ~ N(0, 1)` or `scalar c = 0`",
    ),
    **dict.fromkeys(("index", "dim", "axes"), "declare an index as `axis i : 4`"),
    **dict.fromkeys(("pass", "break", "continue", "assert", "del", "global", "try", "with"), "remove it"),
    "from": 'write `import layers` or `import "file.nexort"`, which brings all names; `relu`, `Adam` and the like need no import',
    "include": 'write `import "file.nexort"` or `import layers`',
    "step": "write `minimize loss` and `update all with SGD(lr = 0.1)` in a `train` block",
}

#: Packages whose names stand before functions.
MODULES = frozenset(
    {"np", "numpy", "torch", "nn", "functional", "F", "jnp", "jax", "math", "scipy", "sp", "tf", "optim"}
)

#: Names and functions, in lower case without underscores.
_NAMES = {
    **dict.fromkeys(("if", "else"), _WHERE),
    "and": "multiply conditions: `step(a) * step(b)`",
    "or": "take the larger condition: `max(step(a), step(b))`",
    "not": "write `1 - step(x)`",
    "true": _NUMBERS,
    "false": _NUMBERS,
    "none": "leave the argument out",
    "lambda": _FUNCTION,
    "e": "write `exp(1)`",
    "inf": "use a large number, such as `1e9`",
    "ln": "write `log(x)`, the natural logarithm",
    "log2": "write `log(x) / log(2)`",
    "log10": "write `log(x) / log(10)`",
    "log1p": "write `log(1 + x)`",
    "expm1": "write `exp(x) - 1`",
    "rsqrt": "write `1 / sqrt(x)`",
    "cbrt": "write `abs(x)^(1/3)`",
    "heaviside": "write `step(x)`",
    **dict.fromkeys(("maximum", "fmax"), "write `max(a, b)`"),
    **dict.fromkeys(("minimum", "fmin"), "write `min(a, b)`"),
    **dict.fromkeys(("clip", "clamp"), "write `max(a, min(x, b))`"),
    **dict.fromkeys(("power", "pow"), "write powers as `x^2`"),
    **dict.fromkeys(("dot", "inner", "vdot"), "write the inner product as `<x|y>`, which is x.y / n"),
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "linear"), "declare `matrix W ~ N(0, 1)` and write `W |x>`"),
    **dict.fromkeys(("outer", "ger"), "write the outer product as `|x><y|`"),
    "einsum": "name the indices: `sum[d](xi[i,d] |u[d]>)`",
    **dict.fromkeys(("transpose", "permute", "swapaxes"), "write the transpose of W as `W^T`; indices need no order"),
    **dict.fromkeys(("reshape", "view", "flatten", "squeeze", "unsqueeze", "expand"), "name the indices: `x[i,d]`"),
    **dict.fromkeys(("concatenate", "concat", "cat", "stack", "vstack", "hstack"), "use an index: `|x[i]>`, bound member by member"),
    **dict.fromkeys(("average", "avg", "nanmean"), "write `<x>` over the neurons, `mean[i](...)` over an index"),
    **dict.fromkeys(("var", "variance"), "write `<x|x> - <x>^2` over the neurons, with `mean[i](...)` over an index"),
    **dict.fromkeys(("std", "stddev"), "write `sqrt(<x|x> - <x>^2)` over the neurons, with `mean[i](...)` over an index"),
    **dict.fromkeys(("argmax", "argmin", "topk", "sort"), "use `softmax[k](...)`, or `max[k](...)` for the value"),
    **dict.fromkeys(("norm2", "l2norm"), "write `sqrt(<x|x>)`"),
    **dict.fromkeys(("eye", "identity"), "the identity operator is `I`; `delta[i,j]` is 1 where i = j"),
    **dict.fromkeys(("onehot", "kroneckerdelta", "kronecker"), "write `delta[i,j]`, which is 1 where i = j"),
    **dict.fromkeys(("zeros", "zeroslike"), "write `0`, or for a ket `ket |b> = 0`"),
    **dict.fromkeys(("ones", "oneslike", "full"), "write `1`, or for a ket `|1>`"),
    **dict.fromkeys(("tril", "triu", "mask"), "write the causal mask as `step(s - t + 1/2)`"),
    **dict.fromkeys(("arange", "range"), "an index used as a scalar is its position: 1, 2, ..."),
    **dict.fromkeys(("len", "size", "shape", "numel"), "write the size of the axis as a number"),
    **dict.fromkeys(
        ("randn", "rand", "normal", "gaussian", "random", "randnlike"),
        "declare what is drawn: `ket |x> ~ N(0, 1)`, `matrix W ~ N(0, 1)` or `data y[i] ~ N(0, 1)`",
    ),
    **dict.fromkeys(("array", "tensor", "asarray", "list"), "declare numbers as data: `data y[i] = [1, 2]`"),
    **dict.fromkeys(("detach", "stopgradient", "nograd"), "write `stop(x)`"),
    **dict.fromkeys(("gradient", "backward", "autograd", "jacobian"), "write `grad(f, |x>)`"),
    **dict.fromkeys(("mseloss", "meansquarederror"), "write `mse[i](f[i], y[i])`"),
    **dict.fromkeys(("crossentropyloss", "nllloss", "softmaxcrossentropy"), "write `cross_entropy[k](f[i,k], c[i])`"),
    **dict.fromkeys(
        ("binarycrossentropy", "binarycrossentropywithlogits", "bceloss", "bcewithlogitsloss"),
        "write `logistic(f[i], y[i])` with y = 1 or -1",
    ),
    **dict.fromkeys(("scaleddotproductattention", "multiheadattention"), "write `attention[s,t](...)`, after `import layers`"),
    **dict.fromkeys(("embedding", "lookup", "gather"), "use integer data as an index: `|e[tok[i,s]]>`"),
    **dict.fromkeys(("print", "println"), "report a scalar with `output ...`"),
    **dict.fromkeys(("expectation", "mathbb"), "write `<x>`, the mean over the neurons"),
    "logsoftmax": "write `f[k] - logsumexp[k](f[k])`",
    "erfinv": "it has no counterpart here",
    "swish": "write `silu(x)`",
    "lrelu": "write `leaky_relu(x, 0.01)`",
    "linspace": "write the numbers as `data x[i] = [0, 0.5, 1]`",
    "t": "write the transpose of W as `W^T`",
    "with": "name the optimizer in a line of its own: `update all with Adam(lr = 0.1)`",
    "tr": "sum the diagonal of a table as `sum[i](K[i,i])`; operators have `trace` in `optimizer ... on operators`",
    **dict.fromkeys(("inverse", "linalg"), "write `inv(S)` for the inverse of an operator, `inv[i,j](K)` of a table"),
    **dict.fromkeys(("load", "loadtxt", "readcsv", "open"), 'write `data x[i] from "points.npy"`'),
    "floordiv": "divide with `/`",
}  # fmt: skip

#: Names of one letter that mean something else in lower case.
_EXACT = {
    "N": "draw with `~`, not `=`: `ket |x> ~ N(0, 1)`, `data y[i] ~ N(0, 1)`",
    "T": "write the transpose as `W^T`",
}

#: Distributions.
LAWS = dict.fromkeys(
    ("normal", "gaussian", "gauss", "randn", "norm", "randomnormal"), "write `N(mean, variance)`"
) | dict.fromkeys(
    ("kaiming", "xavier", "glorot", "he"), "write `N(0, 2)` for Kaiming, `N(0, 1)` for Xavier: fan-in is included"
)

#: Characters that no token begins with.
SIGNS = {
    '"': 'close the string with `"` on the same line',
    "'": 'write strings in double quotes, `"..."`',
    "−": "write the ASCII minus `-`",
    "%": "start comments with `#`; there is no remainder",
    "&": "use `*` for products: `step(a) * step(b)` is 1 where both are positive",
    "!": "use `1 - step(x)` for negation",
    "×": "write `*`",
    "·": "write `*`",
    ".": "write `W^T`, `relu(...)`, `pi`; there are no attributes or modules",
    "@": "apply a matrix without a sign: `W |x>`; multiply matrices as `W V`; `|x>@1` is a copy",
    "“": 'write the straight quote `"`',
    "”": 'write the straight quote `"`',
    "\u00a0": "write an ordinary space",
    "（": "write `(`",
    "）": "write `)`",
    "?": "use `where(c, a, b)` to choose",
    "\\": "continue a line with an open bracket, an operator or a comma",
    "$": "write the expression without `$`",
    "`": "remove it",
}  # fmt: skip


def instead(name: str) -> str:
    """What to write instead of a name or function of another language, or the empty string."""
    return _EXACT.get(name) or _NAMES.get(plain(name), "")


def plain(name: str) -> str:
    """A name as PyTorch and TensorFlow write it alike: `LayerNorm` and `layer_norm` are one."""
    return name.lower().replace("_", "")


def attribute(before: str, after: str) -> str:
    """What to write instead of `before.after`."""
    if after == "T":
        return f"write the transpose as `{before}^T`" if before.isidentifier() else "write the transpose as `(...)^T`"
    if after in ("backward", "zero_grad"):
        return "write `minimize loss`, which takes the gradients, in a `train` block"
    if after == "step":
        return "write `update all with SGD(lr = 0.1)`, which makes the step, in a `train` block"
    if before in MODULES and after:
        return instead(after) or f"write `{after}`, without `{before}.`"
    if after in ("mean", "sum"):
        return f"write `<x>` for the mean over the neurons, `{after}[i](...)` over an index"
    return instead(after) if after else ""
