"""Quadrature: steep, kinked and degenerate integrands, honest errors, every primitive, deep recursions."""

from __future__ import annotations

import math
import re

import mpmath as mp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import special

import tp_compiler as tpc
from tp_compiler.evaluate.gaussian import closed_forms, quadrature
from tp_compiler.evaluate.gaussian.quadrature import expectation, expectation_of
from tp_compiler.evaluate.gaussian.univariate import composite, monomial, univariate
from tp_compiler.ir.primitives import PRIMITIVES

SMOOTH = ["tanh", "sigmoid", "silu", "softplus", "gelu_tanh", "mish"]
CORRELATIONS = np.array([0.0, 0.5, -0.5, 0.999, 1 - 1e-12, 1.0, -1.0, -0.9999])


def covariances(variance: float) -> np.ndarray:
    """[[v, rv], [rv, v]] for each correlation r."""
    c = variance * CORRELATIONS
    v = np.full_like(c, variance)
    return np.stack([np.stack([v, c], -1), np.stack([c, v], -1)], -2)


MP = {
    "tanh": mp.tanh,
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "silu": lambda x: x / (1 + mp.exp(-x)),
    "softplus": lambda x: mp.log1p(mp.exp(x)) if x < 50 else x + mp.exp(-x),
    "gelu_tanh": lambda x: x * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (x + mp.mpf("0.044715") * x**3))) / 2,
    "mish": lambda x: x * mp.tanh(mp.log1p(mp.exp(x)) if x < 50 else x),
}


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("variance", [1e-6, 1.0, 1e6])
def test_one_variable_is_the_integral(name: str, variance: float) -> None:
    f = univariate(name)
    with mp.workdps(25):
        s = mp.sqrt(mp.mpf(variance))
        cuts = sorted({sign * end for sign in (-1, 1) for end in (0, *(k / max(s, 1) for k in (2, 8, 30)), 3, 12)})
        want = [mp.quad(lambda z, p=p: MP[name](s * z) ** p * mp.npdf(z), cuts) for p in (1, 2)]
    value, error = expectation([f], [0.0], [[variance]])
    assert_allclose(value, float(want[0]), rtol=1e-11, atol=1e-14)
    assert error <= 1e-11 * max(1, abs(value))
    twice, error = expectation([f, f], np.zeros(2), np.full((2, 2), variance))
    assert_allclose(twice, float(want[1]), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(
    "name", [*SMOOTH, "atan", "elu", "selu", "relu6", "hardtanh", "hardsigmoid", "hardswish", "softsign", "logsigmoid"]
)
@pytest.mark.parametrize("variance", [1e-6, 1.0, 30.0, 1e6])
def test_pairs_converge(name: str, variance: float) -> None:
    f = univariate(name)
    value, error = expectation([f, f], np.zeros(2), covariances(variance))
    assert np.all(error <= 1e-12 * np.maximum(1, np.abs(value[5])))
    # u = v is one variable, and u = -v too
    assert_allclose(
        value[5], expectation([composite(lambda x: f(x) ** 2, f.kinks)], [0.0], [[variance]])[0], rtol=1e-12
    )


@pytest.mark.parametrize("name", ["relu", "abs", "leaky_relu", "step", "sign", "erf", "gelu"])
@pytest.mark.parametrize("variance", [1e-6, 1.0, 1e6])
def test_pairs_are_the_closed_forms(name: str, variance: float) -> None:
    f, cov = univariate(name), covariances(variance)
    value, error = expectation([f, f], np.zeros(2), cov)
    want = closed_forms.kernel(f, f, cov[:, 0, 0], cov[:, 1, 1], cov[:, 0, 1])
    assert want is not None
    assert_allclose(value, want, rtol=1e-10, atol=1e-12 * max(variance, 1e-3))
    # honest: the error is not below the deviation, rounding aside
    assert np.all(np.abs(value - want) <= error + 4e-14 * np.abs(want[5]))


def test_means_and_kinks_away_from_the_centre() -> None:
    relu, tanh = univariate("relu"), univariate("tanh")
    mean, cov = np.array([0.7, -1.2]), np.array([[1.0, 0.3], [0.3, 0.5]])
    value, error = expectation([relu, tanh], mean, cov)
    # E relu(u) tanh(v) = ∫ tanh(v) E[relu(u) | v]
    rest = 1.0 - 0.3**2 / 0.5
    given = composite(lambda v: np.tanh(v) * closed_forms.single(relu, 0.7 + 0.6 * (v + 1.2), np.full_like(v, rest)))
    assert_allclose(value, expectation([given], [-1.2], [[0.5]])[0], rtol=1e-11)
    assert error < 1e-11
    bent = composite(lambda x: np.abs(x - 2.0), (2.0,))
    assert_allclose(
        expectation([bent], [0.5], [[1.0]])[0], closed_forms.single(univariate("abs"), -1.5, 1.0), rtol=1e-12
    )
    steep = np.array([[1e6, 3e5], [3e5, 1e6]])
    value, error = expectation([tanh, tanh], [300.0, -200.0], steep)
    sign = expectation([univariate("sign")] * 2, [300.0, -200.0], steep)[0]
    assert error < 1e-10 and abs(value - sign) < 1e-5


def test_three_variables() -> None:
    a = np.array([[1.0, 0.0, 0.0], [0.4, 0.8, 0.0], [-0.3, 0.5, 0.6]])
    cov = a @ a.T
    value, error = expectation([univariate("tanh"), univariate("sin"), monomial(2)], np.zeros(3), cov)
    joint, other = expectation_of(lambda x: np.tanh(x[..., 0]) * np.sin(x[..., 1]) * x[..., 2] ** 2, np.zeros(3), cov)
    assert_allclose(value, joint, rtol=1e-11)
    assert error < 1e-10 and other < 1e-10
    # Wick: E u v w² = c_uv c_ww + 2 c_uw c_vw
    wick = cov[0, 1] * cov[2, 2] + 2 * cov[0, 2] * cov[1, 2]
    assert_allclose(expectation([monomial(1), monomial(1), monomial(2)], np.zeros(3), cov)[0], wick, rtol=1e-11)
    steps, error = expectation([univariate("step")] * 3, np.zeros(3), cov)
    r = [cov[i, j] / math.sqrt(cov[i, i] * cov[j, j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert_allclose(steps, 1 / 8 + sum(math.asin(x) for x in r) / (4 * math.pi), rtol=1e-8)
    assert abs(steps - (1 / 8 + sum(math.asin(x) for x in r) / (4 * math.pi))) <= error + 1e-13


def test_dependent_variables_take_no_dimension() -> None:
    tanh, relu = univariate("tanh"), univariate("relu")
    twin = np.ones((3, 3)) * 2.0
    one = expectation([composite(lambda x: np.tanh(x) ** 2 * np.maximum(x, 0), (0.0,))], [0.1], [[2.0]])[0]
    assert_allclose(expectation([tanh, tanh, relu], np.full(3, 0.1), twin)[0], one, rtol=1e-13)
    fixed = np.array([[0.0, 0.0], [0.0, 2.0]])
    want = math.tanh(0.3) * closed_forms.single(relu, 0.1, 2.0)  # type: ignore[operator]
    assert_allclose(expectation([tanh, relu], [0.3, 0.1], fixed)[0], want, rtol=1e-12)
    assert expectation([tanh, relu], [0.3, 0.1], np.zeros((2, 2)))[0] == pytest.approx(math.tanh(0.3) * 0.1, rel=1e-15)


def test_shapes_and_joint_functions() -> None:
    means = np.zeros((2, 1, 2))
    cov = np.broadcast_to(np.array([[1.0, 0.5], [0.5, 2.0]]), (4, 2, 2))
    value, error = expectation_of(lambda x: np.exp(0.3 * x[..., 0]) * x[..., 1] ** 2, means, cov)
    assert value.shape == error.shape == (2, 4)
    assert_allclose(value, math.exp(0.045) * (2.0 + 0.15**2), rtol=1e-12)
    bent, _ = expectation_of(lambda x: np.maximum(x[..., 0], 0) * x[..., 1], means[0, 0], cov[0], kinks=[(0.0,), ()])
    assert_allclose(bent, 0.25, rtol=1e-12)


def test_what_is_not_finite_is_nan() -> None:
    value, error = expectation([univariate("log")], [[0.0], [50.0]], [[[1.0]], [[1.0]]])
    assert np.isnan(error[0]) and error[1] < 1e-11
    assert_allclose(value[1], math.log(50) - 1 / 5000 - 3 / (4 * 50.0**4), rtol=1e-8)
    assert np.isnan(expectation([univariate("exp")], [0.0], [[1e8]])[1])


def test_memory_is_bounded() -> None:
    largest = 0

    def watched(x: np.ndarray) -> np.ndarray:
        nonlocal largest
        largest = max(largest, x.size)
        return np.tanh(x)

    f = composite(watched)
    cov = np.broadcast_to(covariances(2.0)[1], (2000, 2, 2))
    expectation([f, f], np.zeros(2), cov)
    assert largest <= quadrature.BLOCK


def test_every_primitive_of_one_variable_has_a_value() -> None:
    missing = []
    for name, row in PRIMITIVES.items():
        if row.arity != 1 and name != "leaky_relu":
            continue
        f = univariate(name)
        mean = 40.0 if name in ("log", "sqrt") else 0.0
        variance = 1e-3 if name == "tan" else 1.0
        if closed_forms.single(f, mean, variance) is None:
            value, error = expectation([f], [mean], [[variance]])
            if not error <= 1e-11 * max(1.0, abs(value)):
                missing.append(name)
    assert not missing


def recursion(name: str, gram: np.ndarray, depth: int, nodes: int) -> np.ndarray:
    """An independent recursion: Gauss-Legendre panels in both whitened variables, fine enough for variance ≤ 4."""
    f = univariate(name)
    x, w = np.polynomial.legendre.leggauss(nodes)
    z, w = 11 * x, 11 * w * np.exp(-60.5 * x * x) / math.sqrt(2 * math.pi)
    for _ in range(depth):
        new = np.empty_like(gram)
        for i, j in np.ndindex(gram.shape):
            s, slope = math.sqrt(gram[i, i]), gram[i, j] / math.sqrt(gram[i, i])
            rest = math.sqrt(max(gram[j, j] - slope**2, 0.0))
            rest = 0.0 if i == j else rest
            new[i, j] = np.einsum("i,j,ij->", w * f(s * z), w, f(slope * z[:, None] + rest * z))
        gram = 1.5 * (new + new.T) / 2 + 0.1
    return gram


def by_quadrature(name: str, gram: np.ndarray, depth: int) -> np.ndarray:
    f, n = univariate(name), len(gram)
    for _ in range(depth):
        d = np.diag(gram)
        v1, v2 = np.broadcast_arrays(d[:, None], d[None])
        cov = np.stack([np.stack([v1, gram], -1), np.stack([gram, v2], -1)], -2)
        gram = 1.5 * expectation([f, f], np.zeros((n, n, 2)), cov)[0] + 0.1
    return gram


@pytest.mark.parametrize("name", SMOOTH)
def test_deep_recursions(name: str) -> None:
    x = np.array([[1.0, 0.2], [1.0, 0.2 + 1e-3], [-1.0, -0.2], [0.3, -0.9]])
    gram = x @ x.T + 0.1
    for depth in (1, 10):
        assert_allclose(by_quadrature(name, gram, depth), recursion(name, gram, depth, 240), rtol=1e-10)


POLYNOMIALS = {
    "(1+x+x^2+y)^14": (14, lambda x, y, z: 1 + x + x**2 + y),
    "(x*y+x+y)^12": (12, lambda x, y, z: x * y + x + y),
    "(x+y*z-z/2)^10": (10, lambda x, y, z: x + y * z - z / 2),
    "(x^2-y^2+x*z+1)^9": (9, lambda x, y, z: x**2 - y**2 + x * z + 1),
    "((x-y)^2*(y+z)+z)^6": (6, lambda x, y, z: (x - y) ** 2 * (y + z) + z),
    "(x+(y-1)^2+z^3)^8": (8, lambda x, y, z: x + (y - 1) ** 2 + z**3),
}


@pytest.mark.parametrize("law", ["independent", "dependent"])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_polynomials_of_several_gaussians_are_exact(name: str, law: str) -> None:
    """Against the sum of all monomials, whose moments are products of (k - 1)!!; x, y, z are made of u, v, w."""
    import sympy

    power, base = POLYNOMIALS[name]
    u, v, w = sympy.symbols("u v w")
    inner = base(u, v, w) if law == "independent" else base(u, u / 2 + v, sympy.Rational(1, 4) + w - v)
    expanded = sympy.Poly(sympy.Poly(inner, u, v, w) ** power, u, v, w)
    moments = [0 if k % 2 else int(sympy.factorial2(k - 1)) if k else 1 for k in range(power * 6 + 1)]
    exact = sum(c * moments[i] * moments[j] * moments[k] for (i, j, k), c in expanded.terms())
    made = "x = u\ny = v\nz = w" if law == "independent" else "x = u\ny = u/2 + v\nz = 1/4 + w - v"
    kets = "".join(f"ket |{k}> ~ N(0, 1)\n" for k in "uvw")
    text = f"{kets}{_kets(made)}\n|g> = {_kets(name)}\noutput a = <g>"
    found = tpc.limit(text, method="quadrature").outputs["a"]
    error = abs(float(found.value) - float(exact))
    assert error <= max(float(found.stderr), 2.0**-52 * abs(float(exact)))
    assert float(found.stderr) <= 1e-10 * abs(float(exact))


def _kets(text: str) -> str:
    return re.sub(r"([u-z])", r"|\1>", text)


def test_polynomials_of_more_gaussians() -> None:
    text = "".join(f"ket |{k}> ~ N(0, 1)\n" for k in "uvwxy")
    run = tpc.limit(
        text + "|h> = (|x>*|y> + |u>*|v>*|w>)^4\n|g> = (1 + |x> + |x>^2 + |y>)^20\noutput b = <h>\noutput c = <g>"
    )
    assert run["b"] == pytest.approx(3**2 + 6 + 3**3, rel=1e-13) and run.outputs["b"].method != "qmc"
    assert run["c"] == pytest.approx(5.789102e24, rel=1e-6)


@pytest.mark.parametrize("far", [-6.0, -10.0, -15.0, -25.0, -37.0, -80.0])
def test_what_only_longer_axes_reach(far: float) -> None:
    """E step(far + z) = Φ(far): a rule whose axis ends nearer sees 0, and must not call that unknown."""
    value, error = quadrature.expectation([univariate("step")], np.array([far]), np.ones((1, 1)))
    want = special.ndtr(far)
    assert error <= 1e-20 and abs(value - want) <= 1e-12 * want + 2e-23  # the Gaussian's mass beyond its shortest axis
