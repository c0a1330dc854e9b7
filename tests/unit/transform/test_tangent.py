"""Tangent kernels of families of parameters, one a layer: one product for each layer, not one for each pair."""

from __future__ import annotations

import pytest

import tp_compiler as tpc
from tp_compiler.ir.walk import reachable


def network(layers: int) -> str:
    return f"""
        axis i, j : 2
        axis l : {layers}
        data xi[i] = [1.0, -0.5]
        ket |u> ~ N(0, 1); ket |c[l]> ~ N(0, 1); ket |v> ~ N(0, 1)
        matrix A[l] ~ N(0, 1)
        |h[i]> = xi[i] * |u>
        for l in 1..{layers} {{ |h[i]> = |h[i]> + A[l] relu(|h[i]>) + 0.3*|c[l]> }}
        f[i] = <v|h[i]>
        output K[i,j] = ntk(f[i], f[j])
    """


def instructions(layers: int) -> int:
    return len(reachable(o.node for o in tpc.compile(network(layers)).outputs))


def test_programs_grow_by_the_layer() -> None:
    first, second, third = (instructions(n) for n in (8, 16, 24))
    assert third - second == second - first


@pytest.mark.slow
def test_a_thousand_layers_compile() -> None:
    assert instructions(1000) - instructions(992) == instructions(24) - instructions(16)


def test_one_member_of_a_family() -> None:
    """Restricted to the member at 2, the kernel is that of one layer: <dh|dh'><x|x'>."""
    run = tpc.limit("""
        axis i, j : 2
        axis l : 3
        data xi[i] = [1.0, -0.5]
        ket |u> ~ N(0, 1); ket |v> ~ N(0, 1)
        matrix A[l] ~ N(0, 1)
        |h1[i]> = xi[i] * |u> + A[1] relu(xi[i] * |u>)
        |h2[i]> = |h1[i]> + A[2] relu(|h1[i]>)
        |h3[i]> = |h2[i]> + A[3] relu(|h2[i]>)
        f[i] = <v|h3[i]>
        output K[i,j] = ntk(f[i], f[j]; A[2])
        |dh2[i]> = |v> + step(|h2[i]>) * (A[3]^T |v>)
        output by_hand[i,j] = <dh2[i]|dh2[j]> * <relu(h1[i])|relu(h1[j])>
    """)
    assert run["K"] == pytest.approx(run["by_hand"], rel=1e-12)
