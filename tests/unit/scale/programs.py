"""Programs for `tpc scale`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import tp_compiler as tpc
from tp_compiler.ir.model import Compiled, Exponents

DATA = """
axis i : 2
axis d : 2
data x[i,d] = [[1.0, 0.5], [0.2, -1.0]]
data y[i] = [1.0, -1.0]
"""

MLP = (
    DATA
    + """
ket |u[d]> ~ N(0, 1)
matrix W ~ N(0, 2)
matrix A ~ N(0, 2)
ket |v> ~ N(0, 1)
def net(x[d]) {
    |h1> = sum[d](x[d] |u[d]>)
    |h2> = W gelu(|h1>)
    |h3> = A gelu(|h2>)
    return <v|gelu(h3)>
}
train steps = 2 {
    f[i] = net(x[i,d])
    loss = mean[i]((f[i] - y[i])^2) / 2
    minimize loss
    update all with OPTIMIZER
}
output loss[step]
"""
)

RESNET = (
    DATA
    + """
axis l : 2
ket |u[d]> ~ N(0, 1)
ket |b[l]> = 0
matrix A[l] ~ N(0, 2)
matrix B[l] ~ N(0, 1)
matrix F ~ N(0, 1) frozen
ket |v> = 0
train steps = 2 {
    |h[i]> = sum[d](x[i,d] |u[d]>)
    for l in 1..2 { |h[i]> = |h[i]> + B[l] relu(A[l] |h[i]> + |b[l]>) }
    |z[i]> = F |h[i]>
    f[i] = <tanh(z[i])|v>
    loss = mean[i]((f[i] - y[i])^2) / 2
    minimize loss
    update all with OPTIMIZER
}
output loss[step]
"""
)

GPT = """
axis i : 2
axis s, t : 3
axis w : 5
axis h : 2
data tok[i,s] = [[1, 2, 3], [4, 5, 1]]
data next[i,s,w] ~ N(0, 1) seed 1
ket |e[w]> ~ N(0, 1)
ket |pos[s]> ~ N(0, 1)
ket |g> = 1
ket |b> = 0
matrix Q[h] ~ N(0, 1)
matrix K[h] ~ N(0, 1)
matrix V[h] ~ N(0, 1)
matrix O[h] ~ N(0, 1)
matrix A ~ N(0, 2)
matrix B ~ N(0, 1)
scalar c = 1
def ln(|x>) {
    |m> = |x> - <x>
    return |m> / sqrt(<m|m> + 1e-5)
}
train steps = 2 {
    |x[i,s]> = |e[tok[i,s]]> + |pos[s]>
    |z[i,s]> = |g> ln(|x[i,s]>) + |b>
    |q[i,s,h]> = Q[h] |z[i,s]>
    |k[i,s,h]> = K[h] |z[i,s]>
    |v[i,s,h]> = V[h] |z[i,s]>
    a[i,s,t,h] = softmax[t](c <q[i,s,h]|k[i,t,h]>)
    |x[i,s]> = |x[i,s]> + sum[h](O[h] sum[t](a[i,s,t,h] |v[i,t,h]>))
    |x[i,s]> = |x[i,s]> + B relu(A ln(|x[i,s]>))
    f[i,s,w] = <e[w]|ln(|x[i,s]>)>
    loss = mean[i](mean[s](logsumexp[w](f[i,s,w]) - sum[w](next[i,s,w] f[i,s,w])))
    minimize loss
    update all with OPTIMIZER
}
output loss[step]
"""

GATED = (
    DATA
    + """
width m = 4
ket |u[d]> ~ N(0, 1)
matrix A : m x n ~ N(0, 1)
matrix B : m x n ~ N(0, 1)
matrix C : n x m ~ N(0, 1)
ket |v> ~ N(0, 1)
scalar c = 0
train steps = 2 {
    |h[i]> = sum[d](x[i,d] |u[d]>)
    |z[i]> = C (silu(A |h[i]>) * (B |h[i]>))
    f[i] = <v|z[i]> + c
    loss = mean[i]((f[i] - y[i])^2) / 2
    minimize loss
    update all with OPTIMIZER
}
output loss[step]
"""
)

RNN = (
    DATA
    + """
axis s : 3
ket |u[d]> ~ N(0, 1)
ket |b> ~ N(0, 0.2)
matrix W ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 2 {
    |e[i]> = sum[d](x[i,d] |u[d]>) + |b>
    |h[i,1]> = tanh(|e[i]>)
    for s in 2..3 { |h[i,s]> = tanh(W |h[i,s-1]> + |e[i]>) }
    |p[i]> = mean[s](|h[i,s]>)
    f[i] = <v|p[i]>
    loss = mean[i]((f[i] - y[i])^2) / 2
    minimize loss
    update all with OPTIMIZER
}
output loss[step]
"""
)

#: Soft gates: the inner brackets do not read the loss, and the numbers computed from them scale kets.
GATE = (
    DATA
    + """
axis e : 2
ket |u[d]> ~ N(0, 1)
ket |r[e]> ~ N(0, 1)
matrix A[e] ~ N(0, 2)
matrix B[e] ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 2 {
    |h[i]> = sum[d](x[i,d] |u[d]>)
    p[i,e] = softmax[e](<r[e]|h[i]>)
    |g[i]> = |h[i]> + sum[e](p[i,e] * (B[e] relu(A[e] |h[i]>)))
    f[i] = <v|g[i]>
    loss = mean[i]((f[i] - y[i])^2) / 2
    minimize loss
    update all with OPTIMIZER
}
output loss[step]
"""
)

#: Attention as in GATv2: scores by a readout of a nonlinear function of both ends.
GATV2 = (
    DATA
    + """
axis s, t : 2
data z[i,s,d] ~ N(0, 1) seed 3
ket |u[d]> ~ N(0, 1)
ket |r> ~ N(0, 1)
matrix L ~ N(0, 1)
matrix R ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 2 {
    |h[i,s]> = sum[d](z[i,s,d] |u[d]>)
    a[i,s,t] = softmax[t](<r|leaky_relu(L |h[i,s]> + R |h[i,t]>, 0.2)>)
    |g[i,s]> = sum[t](a[i,s,t] * (R |h[i,t]>))
    f[i] = mean[s](<v|tanh(g[i,s])>)
    loss = mean[i]((f[i] - y[i])^2) / 2
    minimize loss
    update all with OPTIMIZER
}
output loss[step]
"""
)

#: A temperature: its gradient, and what it scales, vanish at initialisation and not in training.
TEMPERATURE = (
    DATA
    + """
axis s, t : 3
data z[i,s,d] ~ N(0, 1) seed 3
ket |u[d]> ~ N(0, 1)
matrix Q ~ N(0, 1)
matrix K ~ N(0, 1)
matrix V ~ N(0, 1)
ket |v> ~ N(0, 1)
scalar tau = 1
train steps = 8 {
    |h[i,s]> = tanh(sum[d](z[i,s,d] |u[d]>))
    |q[i,s]> = Q |h[i,s]>
    |k[i,s]> = K |h[i,s]>
    a[i,s,t] = softmax[t](tau * <q[i,s]|k[i,t]>)
    |g[i]> = mean[s](|h[i,s]> + sum[t](a[i,s,t] * (V |h[i,t]>)))
    f[i] = <v|tanh(g[i])>
    loss = mean[i]((f[i] - y[i])^2) / 2
    minimize loss
    update all with OPTIMIZER
}
output loss[step]
output temperature[step] = tau
"""
)

#: What has no place in the tables of the literature.
OTHERS = {"gate": GATE, "gatv2": GATV2, "temperature": TEMPERATURE}
PROGRAMS = {"mlp": MLP, "resnet": RESNET, "gpt": GPT, "gated": GATED, "rnn": RNN}


def text(name: str, optimizer: str = "Adam(lr = 0.1)") -> str:
    return (PROGRAMS | OTHERS)[name].replace("OPTIMIZER", optimizer)


def with_rows(program: Compiled, rows: Mapping[tuple[str, bool], Mapping[str, float]]) -> Compiled:
    """The same program under a `parametrization` block."""
    span = program.outputs[0].span
    members = {(t.name, t.ket): t.member for t in program.network.parameters}
    given = tuple(Exponents(*key, members[key], values, span) for key, values in rows.items())
    network = dataclasses.replace(program.network, parametrization="block", rows=given)
    return dataclasses.replace(program, network=network)


def compiled(name: str, optimizer: str = "Adam(lr = 0.1)") -> Compiled:
    return tpc.compile(text(name, optimizer))
