"""Products of functions that jump at one place: what Stein's lemma says of them equals a plain integral."""

from __future__ import annotations

import numpy as np
import pytest

import tp_compiler as tpc

MEMBERS = np.array([1.0, 1.0, -1.0, 2.0, 1.0 + 1e-7])
ANGLES = (np.arange(200_000) + 0.5) * 2 * np.pi / 200_000

HEAD = f"""
axis i, j : {len(MEMBERS)}
data q[i] = {MEMBERS.tolist()}
ket |x> ~ N(0, 1)
ket |z> ~ N(0, 1)
matrix W ~ N(0, 1)
|m[i]> = q[i] |x> + q[i] |z>
|o[i]> = q[i] |x> + |z>
|h[i]> = W (q[i] |x>)
"""
FUNCTIONS = {"step": lambda m: m > 0, "sign": np.sign, "leaky_relu'": lambda m: np.where(m > 0, 1.0, 0.01)}


def average(f, g, members: np.ndarray) -> np.ndarray:
    """E z f(m_i) g(m_j) over the plane of x and z: √(π/2) times the mean over the directions, f and g being homogeneous."""
    x, z = np.cos(ANGLES), np.sin(ANGLES)
    left, right = (np.array([fn(a * x + b * z) for a, b in members], dtype=float) for fn in (f, g))
    return np.sqrt(np.pi / 2) * (z * left) @ right.T / len(ANGLES)


@pytest.mark.parametrize("f", FUNCTIONS)
@pytest.mark.parametrize("g", FUNCTIONS)
@pytest.mark.parametrize("ket", ["m", "o"])
def test_a_gaussian_times_two_jumps(f: str, g: str, ket: str) -> None:
    run = tpc.limit(HEAD + f"output e[i,j] = <z|({f}(|{ket}[i]>)) * ({g}(|{ket}[j]>))>", method="quadrature")
    members = np.stack([MEMBERS, MEMBERS if ket == "m" else np.ones_like(MEMBERS)], axis=1)
    assert np.allclose(run["e"], average(FUNCTIONS[f], FUNCTIONS[g], members), atol=1e-4, rtol=0)


def test_the_dot_of_a_product_of_jumps() -> None:
    """<x|Wᵀ (f(h_i) g(h_j))> = <W x|f(h_i) g(h_j)>, an average without a derivative."""
    text = HEAD + "|y[i,j]> = W^T (step(|h[i]>) * sign(|h[j]>))\noutput d[i,j] = <x|y[i,j]>\n"
    text += "|v> = W |x>\noutput e[i,j] = <v|step(|h[i]>) * sign(|h[j]>)>\n"
    truth = np.sqrt(2 / np.pi) / 2 * np.outer(np.ones(len(MEMBERS)), np.sign(MEMBERS))
    run = tpc.limit(text, method="quadrature")
    assert np.allclose(run["d"], truth, atol=1e-9) and np.allclose(run["e"], truth, atol=1e-9)


def test_three_jumps_at_one_place_are_not_guessed() -> None:
    text = HEAD + "output e = <z * step(o[1]) * sign(o[2]) * step(o[1] + o[2])>"
    run = tpc.limit(text, samples=2**11)
    assert abs(run["e"] - 1 / (2 * np.sqrt(np.pi))) < 6 * run.outputs["e"].stderr + 1e-9
