"""Every instruction on degenerate arguments: constants, zeros, one point, sizes 1, indices bound and free.

`python -m tests.campaigns.instructions` runs all of them through every command of commands.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from tests.campaigns.commands import campaign
from tp_compiler.ir.primitives import ARGUMENT_NAMES, CALLABLE

#: What stands for the ket family |x[i]>: from nothing random at all to what has no closed form.
KETS = {
    "zero": "ket |x[i]> = 0",
    "constant": "ket |x[i]> = i - 1.5",
    "point": "ket |x[i]> ~ N(0.5, 0)",
    "gaussian": "ket |x[i]> ~ N(0, 1)",
    "shifted": "ket |x[i]> ~ N(0.3, 1/i)",
    "equal": "ket |g> ~ N(0, 1)\n|x[i]> = |g>",
    "singular": "S[i,j] = 1\nket |x[i]> ~ N(0, S[i,j])",
    "image": "ket |g[i]> ~ N(0, 1)\nmatrix X ~ N(0, 1)\n|x[i]> = X |g[i]> + X^T |g[1]>",
    "nonlinear": "ket |g[i]> ~ N(0, 1)\n|x[i]> = tanh(|g[i]>) * |g[1]>",
    "vanishing": "ket |g[i]> ~ N(0, 1)\n|x[i]> = 0 * |g[i]>",
    "tiny": "ket |x[i]> ~ N(0, 1e-200)",
    "huge": "ket |x[i]> ~ N(0, 1e200)",
    "undefined": "ket |g[i]> ~ N(0, 1)\n|x[i]> = log(-1 - |g[i]>^2)",
}

#: What stands for the scalar family c[i].
SCALARS = {
    "zero": "c[i] = 0",
    "one": "c[i] = 1",
    "position": "c[i] = i",
    "data": "data c[i] = [{row}]",
    "bracket": "c[i] = <x[i]|x[1]>",
    "negative": "scalar c[i] = -2",
    "huge": "c[i] = 1e200 * i",
}

_SLOPES = {name: f"{name}'" for name in CALLABLE if name not in ARGUMENT_NAMES or name == "leaky_relu"}


def _entrywise() -> Iterator[tuple[str, str]]:
    for name in sorted(CALLABLE):
        names = ARGUMENT_NAMES.get(name, ("x",))
        kets = ", ".join(("|x[i]>", "|z>", "0.5")[: len(names)])
        numbers = ", ".join(("c[i]", "0.3", "c[1]")[: len(names)])
        lines = [
            f"|y[i]> = {name}({kets})",
            "output mean[i] = <y[i]>",
            "output cross[i,j] = <y[i]|x[j]>",
            f"output number[i] = {name}({numbers})",
            "|d[i]> = grad(sum[j](<y[j]|z>), |x[i]>)" if name != "log" else "|d[i]> = |x[i]>",
            "output slope[i] = <d[i]|z>",
            f"output moved[i] = <z|W|{name}({kets})>",
        ]
        if name in _SLOPES:
            lines.append(f"output derivative[i] = <{_SLOPES[name]}({'x[i]' if len(names) == 1 else 'x[i], 0.1'})>")
        yield name, "\n".join(lines)


#: One construct each; |x[i]> and c[i] are the arguments, |z> a plain Gaussian ket, W a matrix, A[i] a family.
CONSTRUCTS = {
    "powers": """
output a[i] = <x[i]^2>
output b[i] = <abs(x[i])^(1/2)>
output c2[i] = abs(c[i])^c[1]
output e[i] = <x[i]^(-1)>
""",
    "quotients": """
output a[i] = <z/(x[i]^2 + 1)>
output b[i,j] = c[i]/c[j]
output e[i] = <x[i]/z>
""",
    "average": """
output a[i] = <x[i]>
output b = <sum[i](c[i] |x[i]>)>
output e = <mean[i](|x[i]>)|z>
""",
    "brackets": """
output a[i,j] = <x[i]|x[j]>
output b[i] = <tanh(x[i])|x[i]>
output e[j,i] = <x[i]|W^T W|x[j]>
""",
    "reductions": """
output a = max[i](c[i])
output b = min[i](c[i])
output p = prod[i](c[i])
output l = logsumexp[i](c[i])
output s[i] = softmax[i](c[i])
|m> = max[i](|x[i]>)
output km = <m|m>
|l> = logsumexp[i](|x[i]>)
output kl = <l>
|s[i]> = softmax[i](|x[i]>)
output ks[i] = <s[i]|x[i]>
|p> = prod[i](|x[i]>)
output kp = <p>
""",
    "reduction gradients": """
t = max[i](<x[i]|x[i]>) + prod[i](<x[i]|z>) + logsumexp[i](<x[i]|x[1]>)
output a[i] = <grad(t, |x[i]>)|x[i]>
""",
    "moves": """
|y[i]> = shift[i](|x[i]>, 1)
output a[i,j] = <y[i]|x[j]>
output b[i] = shift[i](c[i], -1)
output e[i] = <grad(sum[j](<y[j]|tanh(x[j])>), |x[i]>)|z>
output f = <x[1]|x[1]>
output g = sum[i](<shift[i](x[i], 5)>)
""",
    "windows": """
|y[i]> = sum[j](j * unfold[i,i,j](|x[i]>, 2, 1))
|b[i]> = sum[j](shift[i](W |x[i]>, 2 - j))
output a[i,j] = <y[i]|x[j]>
output d[i,j] = <tanh(b[i])|b[j]>
output k[i,j] = shift[i](c[i], j - 2)
output e[i] = <grad(sum[j](<y[j]|tanh(x[j])>), |x[i]>)|z>
output f[i] = <z|W^T|b[i]>
""",
    "running sums": """
|y[i]> = cumsum[i](|x[i]>)
|b[i]> = cumsum[i](W |x[i]>, reverse = 1)
output a[i,j] = <y[i]|x[j]>
output d[i,j] = <tanh(b[i])|b[j]>
output k[i] = cumsum[i](c[i], reverse = 1)
output e[i] = <grad(sum[j](<y[j]|tanh(x[j])>), |x[i]>)|z>
output f[i] = <z|W^T|b[i]>
output g = sum[i](<cumsum[i](y[i])>)
""",
    "gathers": """
data at[i] = [{ones}]
output a[i] = <x[at[i]]|x[i]>
output b[i] = c[at[i]]
output e[i] = <grad(sum[j](<x[at[j]]|tanh(x[j])>), |x[i]>)|z>
output f[i] = <z|A[at[i]]|x[i]>
""",
    "diagonals": """
K[i,j] = <x[i]|tanh(x[j])> + c[i]
output a[i] = K[i,i]
output b = sum[i](K[i,i])
output e[i] = delta[i,1] * K[i,1]
output f[i,j] = delta[i,j] * <x[i]|x[j]>
""",
    "members": """
|h[1]> = |x[1]>
for k in 2..size { |h[k]> = tanh(|h[k-1]> + |x[k]>) }
output a[i] = <h[1]|x[i]>
output b = <h[size]|h[1]>
""",
    "copies": """
|y[i]> = E[1](tanh(|x[i]> + |x[i]>@1))
output a[i] = <y[i]|y[i]>
output b[i] = <E[1](|x[i]>@1)>
output e = <E[1,2](abs(|z> - |x[1]>@1) * |x[1]>@2)|z>
output g[i] = <E[1](c[i] * |z>@1 * |x[i]>)|x[i]>
""",
    "copy gradients": """
|y[i]> = E[1](tanh(|x[i]> * |z>@1) * |x[i]>@1)
output a[i] = <grad(sum[j](<y[j]|z>), |x[i]>)|z>
""",
    "matrices": """
|y[i]> = W |x[i]>
|u[i]> = W^T relu(|y[i]>) + W |y[i]>
output a[i] = <u[i]|x[i]>
output b[i,j] = <u[i]|u[j]>
output e[i] = <x[i]|A[i]|x[1]>
output f[i] = <x[i]|A[1]^T A[i]|x[1]>
output g = <x[1]|A[1] A[1]^T|x[1]>
""",
    "rectangular": """
|y[i]> = R |x[i]>
|b[i]> = R^T tanh(|y[i]>)
output a[i] = <y[i]|y[1]>
output e[i] = <b[i]|x[i]>
""",
    "outer products": """
G = sum[i](|x[i]><x[i]|)
|y> = tanh(G / 0.1) |z>
output a = <y|z>
output b = <z|G|z>
output e = <z|hadamard(G, |z><x[1]|)|z>
output f = <z|(G + c[1] I)^2|z>
""",
    "finite matrices": """
K[i,j] = <x[i]|x[j]> + 0.5 * delta[i,j]
output a[i,j] = inv[i,j](K[i,j])
output b[i] = solve[i,j](K[i,j], c[j])
output d = logdet[i,j](K[i,j])
output e[i,j] = cholesky[i,j](K[i,j])
output f[i,j] = pow[i,j](K[i,j], 1/2)
output g[i,j] = matfun[i,j](exp, K[i,j])
output h[i,j] = pow[i,j](K[i,j], -1/2)
""",
    "singular matrices": """
K[i,j] = <x[i]|x[j]>
output a[i,j] = inv[i,j](K[i,j])
output b[i] = solve[i,j](K[i,j], c[j])
output d = logdet[i,j](K[i,j])
output e[i,j] = cholesky[i,j](K[i,j])
output f[i,j] = pow[i,j](K[i,j], -1/2)
output g[i,j] = matfun[i,j](log, K[i,j])
output h[i,j] = pow[i,j](c[i] * c[j], c[1])
""",
    "matrix gradients": """
K[i,j] = <x[i]|x[j]> + delta[i,j]
t = logdet[i,j](K[i,j]) + sum[i](solve[i,j](K[i,j], c[j]))
output a[i] = <grad(t, |x[i]>)|z>
output b[i] = <grad(sum[i](sum[j](pow[i,j](K[i,j], -1/2))), |x[i]>)|x[i]>
""",
    "operators": """
L = sum[i](|x[i]><x[i]|)
output a = <z|pow(0.1 + L, -1/2)|z>
output b = <z|inv(1 + L)|x[1]>
output e = trace(L)
output f = <z|msign(L)|z>
output g = norm(L)
""",
    "operator gradients": """
t = <z|(I + sum[j](|x[j]><x[j]|))^2|z>
output a[i] = <grad(t, |x[i]>)|x[i]>
""",
    "clt": """
output a[i] = clt <z|x[i]>
output b[i] = clt <x[i]|x[1]>
output e = sigmoid(clt <z|x[1]>)
output g[i] = clt <v|W|x[i]>
""",
    "gradients": """
f[i] = <v|tanh(W tanh(|x[i]> + c[i] |z>))>
output a[i,j] = ntk(f[i], f[j])
output b[i] = <grad(f[i], |z>)|z>
output e = jvp(f[1], |v>, |v>)
|p[i]> = vjp(tanh(|x[i]>), |x[i]>, |z>)
output g[i] = <p[i]|x[i]>
output h[i] = <v|grad(f[i], W)|z>
output s = <grad(<grad(f[1], |z>)|v>, |v>)|z>
""",
    "stopped": """
output a[i] = <stop(x[i])|x[i]>
output b[i] = <grad(<stop(tanh(x[i]))|x[i]>, |x[i]>)|z>
ket |q> ~ N(0, stop(c[1]))
output e = <q|q>
""",
    "laws": """
ket |q[i]> ~ N(c[i], c[i]^2)
output a[i,j] = <q[i]|q[j]>
output b = <tanh(q[1])>
matrix B ~ N(0, c[1])
output e = <x[1]|B^T B|x[1]>
""",
    "covariances": """
T2[i,j] = c[i] * c[j]
ket |q[i]> ~ N(0, T2[i,j])
output a[i,j] = <q[i]|q[j]>
output b[i] = <relu(q[i])>
""",
    "no covariance": """
T2[i,j] = c[i] - 2 * delta[i,j]
ket |q[i]> ~ N(0, T2[i,j])
output a[i,j] = <q[i]|q[j]>
""",
}

_LOOP = """train steps = 2 {{
    f[i] = <v|tanh(W tanh(|x[i]> + |u>))> + b
    loss = mean[i]((f[i] - c[i])^2) / 2
    minimize loss{clip}
    update {kets} with {first}
    update W with {second}
}}
output f[step,i] = <v|tanh(W tanh(|x[i]> + |u>))> + b
output loss[step]
output q = <step(u)|v>
output moved = <u|v>
"""

OPTIMIZERS = (
    "SGD(lr = 0.5)", "SGD(lr = 0.1, momentum = 0.9)", "Adam(lr = 0.1, eps = 0.01)", "Adam(lr = 0.1)", "SignSGD(lr = 0.1)",
    "AdamW(lr = 0.1, eps = 1e-3)", "SGD(lr = 0)", "SGD(lr = 1e200)",
)  # fmt: skip
ON_WHOLES = (
    "Muon(lr = 0.1)", "Shampoo(lr = 0.1, damping = 0.1)", "KFAC(lr = 0.1, damping = 0.1)", "SOAP(lr = 0.1, eps = 0.01)", "Nero(lr = 0.1)",
    "Adafactor(lr = 0.1)", "LAMB(lr = 0.1)",
)  # fmt: skip


def _training() -> Iterator[tuple[str, str]]:
    declared = "ket |u> ~ N(0, 1)\nscalar b = 0\n"
    for k, second in enumerate((*OPTIMIZERS, *ON_WHOLES)):
        first = second if second in OPTIMIZERS else "SGD(lr = 0.1)"
        clip = " clip 0.5" if k % 2 else ""
        yield f"training, {second}", declared + _LOOP.format(clip=clip, kets="|u>, |v>, b", first=first, second=second)


def constructs() -> dict[str, str]:
    """All constructs by name."""
    return {**dict(_entrywise()), **CONSTRUCTS, **dict(_training())}


def program(construct: str, ket: str, scalar: str, size: int) -> str:
    """The text of one construct on one kind of ket and one kind of scalar, over an axis of `size` points."""
    head = f"axis i, j : {size}\nsize = {size}\nwidth m = 2\nmatrix W ~ N(0, 1)\nmatrix A[i] ~ N(0, 1)\nmatrix R : m x n ~ N(0, 1)\n"
    fill = {"row": ", ".join(["0.5", "-1", "2"][:size]), "ones": ", ".join(["1"] * size)}
    numbers = SCALARS[scalar].replace("{row}", fill["row"])
    body = (
        constructs()[construct]
        .replace("{ones}", fill["ones"])
        .replace("{{", "{")
        .replace("}}", "}")
        .replace("..size", f"..{size}")
    )
    return f"{head}ket |z> ~ N(0, 1)\nket |v> ~ N(0, 1)\n{KETS[ket]}\n{numbers}\n{body}\n"


def programs(every: int = 1, offset: int = 0) -> Iterator[tuple[str, str]]:
    """(name, text) of every `every`-th combination; all scalars and sizes come in turn."""
    scalars, count = list(SCALARS), 0
    for construct in constructs():
        for ket in KETS:
            scalar, size = scalars[(count + count // len(KETS)) % len(scalars)], 1 + count // 3 % 3
            if count % every == offset:
                yield f"{construct} | {ket} | {scalar} | {size}", program(construct, ket, scalar, size)
            count += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--offset", type=int, default=0)
    chosen = parser.parse_args()
    return campaign(programs(chosen.every, chosen.offset))


if __name__ == "__main__":
    sys.exit(main())
