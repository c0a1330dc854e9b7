"""The words of functions, laws and constants: one row each, with a form to write and a sentence. Keywords are in keywords.py.

The names come from the tables of the language: tests compare the rows with them, and formulas with the functions themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tp_compiler.check.functions import library_bindings
from tp_compiler.check.hints import LIBRARIES, library_text
from tp_compiler.check.laws import DATA, KETS, MATRICES
from tp_compiler.diagnostics import Diagnostics, Source
from tp_compiler.frontend import syntax as ast
from tp_compiler.frontend.parse import parse
from tp_compiler.ir.primitives import ARGUMENT_NAMES, CALLABLE, DEFAULTS, PRIMITIVES

#: The files that every program knows, and what they define.
OPTIMIZERS = ("optimizers", "matrix_optimizers")


@dataclass(frozen=True)
class Word:
    """A name of the language: `kind` is function, law, constant, optimizer or layer; `form` is how it is written."""

    name: str
    kind: str
    form: str
    says: str
    arguments: tuple[str, ...] = ()


#: Entrywise functions of one argument as formulas, where the name does not say it.
FORMULAS = {
    "square": "x^2",
    "step": "where(x, 1, 0)",
    "sign": "step(x) - step(-x)",
    "abs": "max(x, -x)",
    "erfc": "1 - erf(x)",
    "relu": "max(x, 0)",
    "leaky_relu": "where(x, x, slope * x)",
    "relu6": "min(max(x, 0), 6)",
    "hardtanh": "min(max(x, -1), 1)",
    "hardsigmoid": "min(max(x + 3, 0), 6) / 6",
    "hardswish": "x * min(max(x + 3, 0), 6) / 6",
    "elu": "where(x, x, exp(x) - 1)",
    "selu": "1.0507009873554805 * where(x, x, 1.6732632423543772 * (exp(x) - 1))",
    "sigmoid": "1 / (1 + exp(-x))",
    "silu": "x / (1 + exp(-x))",
    "softplus": "log(1 + exp(x))",
    "logsigmoid": "-log(1 + exp(-x))",
    "softsign": "x / (1 + abs(x))",
    "squareplus": "(x + sqrt(x^2 + 4)) / 2",
    "mish": "x * tanh(log(1 + exp(x)))",
    "gelu": "x * (1 + erf(x / sqrt(2))) / 2",
    "gelu_tanh": "x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2",
}

_BY_INDICES = "over the indices in brackets, of scalars or kets"
#: Functions with rules of their own: how they are written, and what they are.
BUILTINS = {
    "sum": ("sum[i](x[i])", f"The sum {_BY_INDICES} or operators."),
    "mean": ("mean[i](x[i])", f"The mean {_BY_INDICES} or operators. The mean over the neurons is `<x>`."),
    "prod": ("prod[i](x[i])", f"The product {_BY_INDICES}."),
    "softmax": ("softmax[t](x[t])", "exp(x[t]) divided by its sum over t."),
    "logsumexp": ("logsumexp[t](x[t])", "The logarithm of the sum of exp(x[t]) over t."),
    "cumsum": ("cumsum[t](x[t], reverse = 0)", "The running sum x[1] + ... + x[t]; with `reverse = 1` from t to the end."),
    "shift": ("shift[t](x[t], by)", "x at the position t - by, and 0 outside the axis."),
    "unfold": (
        "unfold[t,s,r](x[s], stride = 1, padding = 0)",
        "x at the position stride * (t - 1) + r - padding of s, and 0 outside: the windows r of a convolution.",
    ),
    "delta": ("delta[i,j]", "1 where the positions i and j agree, otherwise 0."),
    "size": ("size(i)", "The number of positions of an axis."),
    "E": ("E[1](...)", "The average over an independent copy of the neurons, whose kets are marked `@1` (OuterNonlin)."),
    "hadamard": ("hadamard(G, H)", "The entrywise product of two operators."),
    "stop": ("stop(x)", "x, which differentiation treats as a constant."),
    "mse": ("mse[i](f[i], y[i])", "The mean of (f - y)^2 over the indices in brackets."),
    "cross_entropy": (
        "cross_entropy[k](f[i,k], c[i])",
        "The cross-entropy of the logits f with the class c, a position 1, 2, ..., or with probabilities p[i,k].",
    ),
    "logistic": ("logistic(f[i], y[i])", "log(1 + exp(-y f)), for labels y of 1 and -1."),
    "grad": ("grad(f, |x>)", "The natural gradient of f by a ket, a matrix or a scalar: df = <dx|δx>, df = <dh|δW|x>."),
    "vjp": ("vjp(|y>, |x>, |dy>)", "The transposed derivative of |y> by |x>, applied to |dy>."),
    "jvp": ("jvp(f, |x>, |dx>)", "The derivative of f along the direction |dx> of |x>."),
    "ntk": ("ntk(f[i], f[j]; W, |u>)", "The tangent kernel: by every parameter that is not frozen, or by those after `;`."),
    "inv": ("inv[i,j](K[i,j])", "The inverse of a table; without brackets, of an operator."),
    "pow": ("pow[i,j](K[i,j], p)", "The power of a symmetric table; without brackets, of an operator. Of numbers: `x^p`."),
    "solve": ("solve[i,j](K[i,j], y[j])", "The solution of K x = y, over i."),
    "cholesky": ("cholesky[i,j](K[i,j])", "The lower triangular L with L L^T = K."),
    "logdet": ("logdet[i,j](K[i,j])", "The logarithm of the determinant of a positive definite table."),
    "matfun": ("matfun[i,j](fn, K[i,j])", "A function of the eigenvalues of a symmetric table, or operator."),
    "dpow": ("dpow[i,j](K[i,j], B[i,j], p)", "The derivative of `pow` at K along the symmetric B."),
    "dmatfun": ("dmatfun[i,j](fn, K[i,j], B[i,j])", "The derivative of `matfun` at K along the symmetric B."),
    "msign": ("msign(A)", "The polar factor of an operator: its nonzero singular values become 1."),
    "eigenvectors": ("eigenvectors(L)", "The eigenvectors of nonzero eigenvalues, descending: an operator from arrays to kets."),
    "rowmean": ("rowmean(A)", "The means of the natural entries of each row: A|1>."),
    "colmean": ("colmean(A)", "The means of the natural entries of each column: A^T|1>."),
    "rownorm": ("rownorm(A)", "The root mean squares of the natural entries of each row."),
    "colnorm": ("colnorm(A)", "The root mean squares of the natural entries of each column."),
    "norm": ("norm(g)", "The root mean square of natural entries. The norm of a ket is `sqrt(<x|x>)`."),
    "trace": ("trace(A)", "The trace of an operator: <x|y> for |y><x|."),
    "inputs": ("inputs(g; f[i])", "K-FAC's factor Σ|x><x| of a gradient, in an optimizer on operators."),
    "signals": ("signals(g; f[i])", "K-FAC's factor Σ|d><d| of a gradient, d the gradients of the outputs f."),
    "examples": ("examples(g; f[i])", "The number of examples in K-FAC's factors."),
    "aspect": ("aspect(g; original)", "A factor of the rows and columns of a matrix, such as that of Muon."),
    "lengths": ("lengths(p)", "The norm of each row of a parameter, in an optimizer on layers."),
    "balanced": ("balanced(p)", "A parameter with rows centred and of constant norm, in an optimizer on layers (Nero)."),
}  # fmt: skip

CONSTANTS = {
    "pi": ("pi", "3.14159..."),
    "I": ("I", "The identity operator; `c I` is a multiple of it."),
    "n": ("n", "The default width class. Widths are not numbers: `<x|y>` is x.y / n."),
}

#: Distributions: what each is for kets, and for matrices and data.
LAWS = {
    "N": "Normal, with mean and variance. Entries of a matrix have the variance over fan-in.",
    "uniform": "Uniform between -a and a, or between two numbers. Of matrices and data, the argument is the variance.",
    "rademacher": "Plus or minus its size, each with probability 1/2. Of matrices and data, the argument is the variance.",
    "bernoulli": "1 with probability p, otherwise 0.",
}


@cache
def words() -> dict[str, Word]:
    """Every function, law, constant, optimizer and layer of the language by its name."""
    return {word.name: word for word in _words()}


def _words() -> Iterator[Word]:
    for name in sorted(CALLABLE):
        yield _entrywise(name)
    for name, (form, says) in BUILTINS.items():
        yield Word(name, "function", form, says)
    for name, (form, says) in CONSTANTS.items():
        yield Word(name, "constant", form, says)
    for name, says in LAWS.items():
        forms = dict.fromkeys(form for table in (KETS, MATRICES, DATA) for form in table.get(name, ()))
        yield Word(name, "law", " or ".join(forms), says)
    for library in OPTIMIZERS:
        for name, found in definitions(library).items():
            if found.head.startswith("optimizer"):
                yield Word(name, "optimizer", found.head, found.says, found.parameters)
    for library in LIBRARIES:
        for name, found in definitions(library).items():
            yield Word(name, "layer", found.head, found.says, found.parameters)


def _entrywise(name: str) -> Word:
    """A primitive: its formula, or that it is a function of its own, and that it acts entry by entry."""
    row = PRIMITIVES[name]
    arguments = ARGUMENT_NAMES.get(name, tuple("xyz"[: row.arity or 2]))
    defaults = DEFAULTS.get(name, {})
    form = f"{name}({', '.join(f'{a} = {defaults[a]:g}' if a in defaults else a for a in arguments)})"
    says = f"{FORMULAS[name]}, entry by entry." if name in FORMULAS else "Acts entry by entry, as in PyTorch."
    if name == "where":
        says = "a where c > 0, otherwise b, entry by entry."
    if name in ("max", "min"):
        says = f"The {'larger' if name == 'max' else 'smaller'} one; `{name}[i](x[i])` is taken over the indices in brackets."
    return Word(name, "function", form, says, arguments)


@dataclass(frozen=True)
class Definition:
    """A def, function or optimizer of a file: its head, the comment above it, and the names of its parameters."""

    head: str
    says: str
    parameters: tuple[str, ...]


@cache
def definitions(library: str) -> dict[str, Definition]:
    """What a library defines."""
    source = Source(f"library/{library}.nexort", library_text(library))
    return described(parse(source, Diagnostics()))


def described(file: ast.File) -> dict[str, Definition]:
    """What a file defines."""
    found = {}
    for s in file.statements:
        if isinstance(s, ast.Def | ast.Optimizer | ast.Fn):
            found[s.name] = defined(s)
    return found


def defined(s: ast.Def | ast.Optimizer | ast.Fn) -> Definition:
    """The head of a definition, without its body unless it is one expression."""
    text = s.span.text if isinstance(s, ast.Fn) else s.span.text.partition("{")[0]
    parameters = s.params if isinstance(s, ast.Fn) else tuple(p.name.ident for p in s.params)
    return Definition(" ".join(text.split()), comment_above(s.span.source.text, s.span.start), parameters)


def comment_above(text: str, start: int) -> str:
    """The lines of comment directly above a place."""
    lines: list[str] = []
    for line in reversed(text[:start].split("\n")[:-1]):
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(reversed(lines))


def functions_of_the_language() -> set[str]:
    """The names that every program knows, from the checker's own table."""
    return set(library_bindings()) | {"pi", "n"}
