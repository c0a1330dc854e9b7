"""The program and the dense network of one and the same architecture, and both trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import tp_compiler as tpc
from tests.unit.matrix_optimizers.network import Layer, Network, Optimizer

XI = np.array([[1.0, 0.5], [-0.3, 0.8], [0.7, -0.6]])
Y = np.array([[1.0, 0.2], [-0.5, 0.4], [0.25, -0.7]])
XT = np.array([[0.3, 0.7]])
N, STEPS = 14, 4
Make = Callable[[], Optimizer]

PROGRAM = """
axis i : 3
axis d : 2
axis c : {outputs}
axis l : 2
data x[i,d] = {x}
data y[i,c] = {y}
data xt[d] = {xt}
width m = 2
ket |u[d]> ~ N(0, 1)
{declarations}
def net(x[d]) {{
    |x> = {phi}(sum[d](x[d] |u[d]>))
    {chain}
    return <v[c]|x>
}}
train steps = {steps} {{
    f[i,c] = net(x[i,d])
    loss = {loss}
    minimize loss
    {update}
}}
output f[step,c] = net(xt[d])
"""


LOSSES = {
    "squared": "mean[i](sum[c]((f[i,c] - y[i,c])^2)) / 2",
    "entropy": "mean[i](logsumexp[c](f[i,c]) - sum[c](y[i,c] * f[i,c]))",
}


@dataclass(frozen=True)
class Architecture:
    declarations: str
    chain: str
    layers: tuple[Layer, ...]

    def text(self, update: str, outputs: int = 1, linear: bool = False, loss: str = "squared") -> str:
        phi = "1 * " if linear else "tanh"
        chain = self.chain.replace("tanh", "1 * ") if linear else self.chain
        return PROGRAM.format(
            outputs=outputs, x=XI.tolist(), y=Y[:, :outputs].tolist(), xt=XT[0].tolist(), steps=STEPS, phi=phi,
            declarations=self.declarations, chain=chain, update=update, loss=LOSSES[loss],
        )  # fmt: skip

    def dense(
        self, make: Make, outputs: int = 1, linear: bool = False, loss: str = "squared", fisher: str = "outputs"
    ) -> np.ndarray:
        """(steps + 1, outputs), every parameter with a separate optimizer."""
        network = Network(N, XI, Y[:, :outputs], list(self.layers), linear, loss, fisher)
        optimizers = {key: make() for key in network.facts()}
        return network.train(optimizers, STEPS, XT)[:, 0]


V, VM = "ket |v[c]> ~ N(0, 1)", "ket |v[c]> : m ~ N(0, 1)"
ARCHITECTURES = {
    "one hidden layer": Architecture(V, "", ()),
    "a matrix": Architecture(f"{V}\nmatrix W ~ N(0, 1)", "|x> = tanh(W |x>)", (Layer("W", N, N),)),
    "one matrix twice": Architecture(
        f"{V}\nmatrix W ~ N(0, 1)", "for k in 1..2 {{ |x> = tanh(W |x>) }}".replace("{{", "{").replace("}}", "}"),
        (Layer("W", N, N),) * 2,
    ),
    "a family": Architecture(
        f"{V}\nmatrix A[l] ~ N(0, 1)", "for k in 1..2 { |x> = tanh(A[k] |x>) }",
        (Layer("A", N, N, 0), Layer("A", N, N, 1)),
    ),
    "two widths": Architecture(
        f"{VM}\nmatrix W : m x n ~ N(0, 1)", "|x> = tanh(W |x>)", (Layer("W", 2 * N, N),)
    ),
}  # fmt: skip


def simulated(text: str) -> np.ndarray:
    run = tpc.simulate(text, width=N, seeds=1, seed=0)
    assert not run.failed, {name: d.render() for name, d in run.failed.items()}
    return np.asarray(run["f"])


def exact(text: str) -> np.ndarray:
    run = tpc.limit(text, method="exact")
    assert not run.failed, {name: d.render() for name, d in run.failed.items()}
    return np.asarray(run["f"])


__all__ = ["ARCHITECTURES", "STEPS", "XI", "XT", "Architecture", "Make", "N", "Y", "exact", "simulated"]
