"""Random integrands with needles, poles, powers, kinks, growing exponentials: the exact road against mpmath.

Each factor is written twice, as text of a program and as a function of mpmath numbers, and names its places; mpmath cuts
the axis there and integrates in 30 digits. What exists is answered within its printed error (or sampled within its
standard error); what does not exist is refused.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath as mp
import pytest

import tp_compiler as tpc

Real = Any
DECLARATIONS = "ket |x> ~ N(0, 1)\nket |y> ~ N(0, 1)\n"


@dataclass(frozen=True)
class Piece:
    text: str
    value: Callable[[Real], Real]
    place: float = 0.0
    width: float = 1.0  # the scale of what happens there
    power: float = 0.0  # of |x - place|
    growth: float = 0.0  # c of e^(c x²)


def _needle(rng: random.Random) -> Piece:
    a, p = 10 ** rng.uniform(0, 9), rng.choice([0.0, 0.7, -1.3])
    return Piece(f"exp(-{a!r}*(x - {p})^2)", lambda x: mp.exp(-a * (x - p) ** 2), p, a**-0.5)


def _lorentzian(rng: random.Random) -> Piece:
    a, p = 10 ** rng.uniform(0, 8), rng.choice([0.0, 0.5, -1.1])
    return Piece(f"1/(1 + {a!r}*(x - {p})^2)", lambda x: 1 / (1 + a * (x - p) ** 2), p, a**-0.5)


def _power(rng: random.Random) -> Piece:
    q, p = rng.choice([-0.6, -0.5, -0.25, 0.3, 1.5]), rng.choice([0.0, 0.4, -0.8])
    return Piece(f"abs(x - {p})^({q})", lambda x: abs(x - p) ** mp.mpf(q), p, power=q)


def _pole(rng: random.Random) -> Piece:
    p = rng.choice([0.0, 0.3, -0.9])
    return Piece(f"1/(x - {p})", lambda x: 1 / (x - p), p, power=-1.0)


def _steep(rng: random.Random) -> Piece:
    a, p = 10 ** rng.uniform(0, 7), rng.choice([0.0, 0.6])
    return Piece(f"tanh({a!r}*(x - {p}))", lambda x: mp.tanh(a * (x - p)), p, 1 / a)


def _growing(rng: random.Random) -> Piece:
    c = rng.uniform(0.05, 0.4)
    return Piece(f"exp({c!r}*x^2)", lambda x: mp.exp(c * x * x), growth=c)


def _shifting(rng: random.Random) -> Piece:
    c = rng.uniform(-6, 6)
    return Piece(f"exp({c!r}*x)", lambda x: mp.exp(c * x), c)


def _logarithm(rng: random.Random) -> Piece:
    p = rng.choice([0.0, 0.2])
    return Piece(f"log(abs(x - {p}))", lambda x: mp.log(abs(x - p)), p)


def _kink(rng: random.Random) -> Piece:
    p = rng.choice([0.0, 0.9, -0.3])
    return Piece(f"relu(x - {p})", lambda x: max(x - p, mp.mpf(0)), p)


def _plain(rng: random.Random) -> Piece:
    return rng.choice(
        [
            Piece("sigmoid(x)", lambda x: 1 / (1 + mp.exp(-x))),
            Piece("x^3", lambda x: x**3),
            Piece("x^6", lambda x: x**6),
            Piece("cos(2*x)", lambda x: mp.cos(2 * x)),
            Piece("atan(x)", mp.atan),
        ]
    )


KINDS = (_needle, _lorentzian, _power, _steep, _growing, _shifting, _logarithm, _kink, _plain, _plain)


def _truth(pieces: list[Piece], inner: Callable[[Real], Real]) -> float:
    with mp.workdps(30):
        reach = 14 / mp.sqrt(1 - 2 * sum(p.growth for p in pieces))
        cuts = {mp.mpf(t) for t in range(-60, 61) if abs(t) < reach + 20}
        for p in pieces:
            for k in (0, 0.3, 1, 3, 10, 30, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8):
                step = mp.mpf(p.width) * k
                cuts |= {p.place - step, p.place + step} if step < 2 else set()
        ends = sorted(c for c in cuts if abs(c) <= reach + 20)
        apart = [ends[0], *(b for a, b in itertools.pairwise(ends) if b - a > mp.mpf(10) ** -20)]
        return float(mp.quad(lambda x: mp.fprod(p.value(x) for p in pieces) * inner(x) * mp.npdf(x), apart))


def _pieces(rng: random.Random) -> list[Piece]:
    while True:
        pieces = [rng.choice(KINDS)(rng) for _ in range(rng.choice([1, 2, 2, 3]))]
        powers: dict[float, float] = {}
        for p in pieces:
            powers[p.place] = powers.get(p.place, 0.0) + p.power
        if sum(p.growth for p in pieces) < 0.45 and min(powers.values()) > -0.7:
            return pieces


#: g(r x + √(1 - r²) y) and its average over y, at r = 0.6
OTHERS: dict[str, Callable[[Real], Real]] = {
    "": lambda x: mp.mpf(1),
    "*step(0.6*x + 0.8*y)": lambda x: mp.ncdf(mp.mpf(0.6) * x / mp.mpf(0.8)),
    "*(0.6*x + 0.8*y)^2": lambda x: (mp.mpf(0.6) * x) ** 2 + mp.mpf(0.8) ** 2,
    "*exp(0.6*x + 0.8*y)": lambda x: mp.exp(mp.mpf(0.6) * x + mp.mpf(0.8) ** 2 / 2),
}


# functions of two Gaussians that do not come apart --------------------------------------------------------------
Shape = tuple[str, Callable[[Real], Real], Callable[[Real], Real]]  # of u: text, E f(x - c) as a function of c, f(d)


def _shape(rng: random.Random) -> Shape:
    a, q = 10 ** rng.uniform(0, 6), rng.choice([-0.6, -0.5, -0.3, 0.5])

    def power(c: Real) -> Real:
        size = mp.mpf(2) ** (mp.mpf(q) / 2) * mp.gamma((mp.mpf(q) + 1) / 2) / mp.sqrt(mp.pi)
        return size * mp.hyp1f1(-mp.mpf(q) / 2, 0.5, -c * c / 2)

    def voigt(c: Real) -> Real:
        z = (c + 1j / mp.sqrt(a)) / mp.sqrt(2)
        return mp.sqrt(mp.pi / (2 * mp.mpf(a))) * mp.re(mp.exp(-z * z) * mp.erfc(-1j * z))

    return rng.choice(
        [
            (f"abs(@)^({q})", power, lambda d: abs(d) ** mp.mpf(q)),
            ("step(@)", lambda c: mp.ncdf(-c), lambda d: mp.mpf(d > 0)),
            ("relu(@)", lambda c: mp.npdf(c) - c * mp.ncdf(-c), lambda d: max(d, mp.mpf(0))),
            (f"1/(1 + {a!r}*(@)^2)", voigt, lambda d: 1 / (1 + a * d * d)),
            (
                f"exp(-{a!r}*(@)^2)",
                lambda c: mp.exp(-a * c * c / (1 + 2 * a)) / mp.sqrt(1 + 2 * a),
                lambda d: mp.exp(-a * d * d),
            ),
        ]
    )


CURVES: dict[str, Callable[[Real], Real]] = {
    "y^2": lambda y: y * y,
    "tanh(3*y)": lambda y: mp.tanh(3 * y),
    "sin(2*y)": lambda y: mp.sin(2 * y),
    "exp(y)": mp.exp,
}
BESIDE: dict[str, Callable[[Real], Real]] = {
    "": lambda y: mp.mpf(1),
    "*y^2": lambda y: y * y,
    "*sigmoid(y)": lambda y: 1 / (1 + mp.exp(-y)),
    "*exp(0.2*y^2)": lambda y: mp.exp(0.2 * y * y),
    "*step(y - 0.3)": lambda y: mp.mpf(y > 0.3),
}
#: their averages over a circle x² + y² = s
AROUND: dict[str, Callable[[Real], Real]] = {
    "": lambda s: mp.mpf(1),
    "*x^2": lambda s: s / 2,
    "*step(x*y)": lambda s: mp.mpf(1) / 2,
    "*atan(x/y)^2": lambda s: mp.pi**2 / 12,
}


def _beside_a_curve(rng: random.Random) -> tuple[str, float]:
    """f(x - c(y)) g(y), where the average over x is known."""
    text, inner, _ = _shape(rng)
    curve, beside = rng.choice(list(CURVES)), rng.choice(list(BESIDE))
    cuts = [*range(-16, 17), -0.5, -0.1, 0.1, 0.3, 0.5]
    with mp.workdps(20):
        want = mp.quad(lambda y: inner(CURVES[curve](y)) * BESIDE[beside](y) * mp.npdf(y), sorted(cuts))
    return text.replace("@", f"x - {curve}") + beside, float(want)


def _around_a_point(rng: random.Random) -> tuple[str, float]:
    """f(x² + y² - c) g(x, y), where the average of g around a circle is known."""
    text, _, outer = _shape(rng)
    c, beside = rng.choice([0.0, 0.0, 0.7, 2.0]), rng.choice(list(AROUND))
    steps = [0, 1e-6, 1e-4, 1e-2, 0.1, 0.5, 1, 3, 10, 30, 100, 200]
    with mp.workdps(20):

        def density(d: Real) -> Real:
            return outer(d) * AROUND[beside](c + d) * mp.exp(-(c + d) / 2) / 2

        want = mp.quad(density, steps)
        if c:
            want += mp.quad(lambda d: density(-d), [s for s in steps if s < c] + [c])
    return text.replace("@", f"x^2 + y^2 - {c}") + beside, float(want)


def _check_plane(seed: int) -> None:
    rng = random.Random(seed)
    text, want = rng.choice([_beside_a_curve, _around_a_point])(rng)
    run = tpc.limit(f"{DECLARATIONS}output o = <{text}>", seed=seed, max_samples=2**14)
    assert not run.failed, (text, want, run.failed["o"].message)
    found = run.outputs["o"]
    if found.method == "qmc":  # formulas that take longer than samples are given up
        assert abs(found.value - want) <= 8 * found.stderr, (text, want, found)
        return
    assert abs(found.value - want) <= 6 * found.stderr + 1e-10 * abs(want) + 1e-25, (text, want, found)
    assert found.stderr <= 1e-6 * abs(want), (text, want, found)


@pytest.mark.parametrize("seed", (1, 2, 6))
def test_what_exists_over_planes_is_answered(seed: int) -> None:
    _check_plane(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(7, 19))
def test_what_exists_over_planes_is_answered_on_more(seed: int) -> None:
    _check_plane(seed)


def _check(seed: int) -> None:
    rng = random.Random(seed)
    pieces = _pieces(rng)
    other = rng.choice([*OTHERS, "", ""])
    text = "*".join(p.text for p in pieces) + other
    want = _truth(pieces, OTHERS[other])
    run = tpc.limit(f"{DECLARATIONS}output o = <{text}>", seed=seed, max_samples=2**14)
    assert not run.failed, (text, want, run.failed["o"].message)
    found = run.outputs["o"]
    bound = 6 * found.stderr + 1e-10 * abs(want) + 1e-25 if found.method != "qmc" else 8 * found.stderr
    assert abs(found.value - want) <= bound, (text, want, found.value, found.stderr, found.method)


@pytest.mark.parametrize("seed", range(24))
def test_what_exists_is_answered(seed: int) -> None:
    _check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
def test_what_exists_is_answered_on_more(seed: int) -> None:
    _check(seed)


@pytest.mark.parametrize("seed", range(12))
def test_what_does_not_exist_is_refused(seed: int) -> None:
    """A pole next to factors that do not vanish there."""
    rng = random.Random(seed)
    pole = _pole(rng)
    beside = [
        p
        for p in _pieces(rng)
        if abs(p.place - pole.place) > 0.05 and p.width > 0.05 and not p.text.startswith(("x^", "relu"))
    ]
    text = "*".join(p.text for p in (pole, *beside))
    run = tpc.limit(f"{DECLARATIONS}output o = <{text}>", seed=seed, max_samples=2**12)
    assert "o" in run.failed and run.failed["o"].code == "NX441", text
