"""The fluctuations of untrained networks by Gaussian moments: against closed forms, other derivations, and networks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import erf

import tp_compiler as tpc
from tp_compiler.evaluate.exact.fluctuations import MOST_ENTRIES, sigma
from tp_compiler.evaluate.fluctuations import exactly
from tp_compiler.evaluate.interface import NotExact
from tp_compiler.evaluate.options import Options
from tp_compiler.results import Estimate

Matrix = np.ndarray


def of(program: str, *names: str) -> Matrix:
    compiled = tpc.compile(program)
    chosen = [o for o in compiled.outputs if not names or o.name in names]
    found = sigma(compiled, chosen)
    assert np.all(found.error <= 1e-6 * np.max(np.abs(found.value)))
    return np.asarray(found.value)


def refused(program: str) -> str:
    compiled = tpc.compile(program)
    with pytest.raises(NotExact) as caught:
        sigma(compiled, compiled.outputs)
    return caught.value.reason


# -- by hand -----------------------------------------------------------------------------------------------------------
def test_functions_of_averages() -> None:
    assert of("ket |x> ~ N(1, 1)\noutput f = <x>^2") == pytest.approx(4)
    # log <x²> of N(m, v): Var x² = 2 v² + 4 v m², over (m² + v)²
    assert of("ket |x> ~ N(1, 2)\noutput f = log(<x|x>)") == pytest.approx((2 * 4 + 4 * 2) / 9)
    found = of("ket |x> ~ rademacher(2)\noutput f = <x>\noutput g = exp(<x> + <x|x>)")
    assert found == pytest.approx(4 * np.array([[1, math.exp(4)], [math.exp(4), math.exp(8)]]))


def test_widths_scale_the_fluctuations() -> None:
    found = of("width m = 4\nket |x> : m ~ N(0, 1)\nket |y> ~ N(0, 1)\noutput f = <x|x>\noutput g = <y|y>")
    assert found == pytest.approx(np.diag([0.5, 2.0]))


@pytest.mark.parametrize("depth", [1, 4])
def test_linear_networks(depth: int) -> None:
    """Each layer adds 2 <h|h>² (of fluctuations of |h|²), carried on by σ² at every later layer."""
    layers = "".join(f"|h> = W[{k}] |h>\n" for k in range(1, depth + 1))
    found = of(f"axis l : {depth}\nmatrix W[l] ~ N(0, 1.5)\nket |x> ~ N(0, 1)\n|h> = |x>\n{layers}output f = <h|h>")
    assert found == pytest.approx(2 * (depth + 1) * 1.5 ** (2 * depth))


@pytest.mark.parametrize("ratio", [1, 2, 0.5])
def test_powers_of_a_sample_covariance(ratio: float) -> None:
    """<u|(WᵀW)^p u>: given W it has variance 2 tr(WᵀW)^2p/n², moments of Marchenko and Pastur; their own fluctuations are smaller."""
    found = of(
        f"width m = {ratio}\nmatrix W : m x n ~ N(0, 1)\nket |u> ~ N(0, 1)\n|a> = W^T W |u>\n|b> = W^T W |a>\n"
        "output one = <u|a>\noutput two = <a|a>\noutput three = <a|b>\noutput four = <b|b>"
    )
    moments = [sum(math.comb(p, k) * math.comb(p, k - 1) / p * ratio**k for k in range(1, p + 1)) for p in range(1, 9)]
    wanted = [[2 * moments[p + q - 1] for q in range(1, 5)] for p in range(1, 5)]
    assert found == pytest.approx(np.array(wanted), rel=1e-9)


@pytest.mark.parametrize("order", ["|h> = W|x>\n|g> = W^T|y>\n", "|g> = W^T|y>\n|h> = W|x>\n"])
def test_identities_of_every_network_have_no_fluctuations(order: str) -> None:
    program = (
        "width m = 2\nmatrix W : m x n ~ N(0, 1.5)\nket |x> ~ N(0, 1)\nket |y> : m ~ N(0, 1)\n"
        f"{order}output difference = <y|h> - <g|x>/2\noutput f = <y|h>"
    )
    found = of(program)
    assert found == pytest.approx(np.array([[0, 0], [0, 0.75]]), abs=1e-12)


def test_identities_through_functions() -> None:
    """<tanh(W x)|W y> = <Wᵀ tanh(W x)|y>: the second product with W comes after the one with Wᵀ, or before it."""
    head = "matrix W ~ N(0, 1)\nket |x> ~ N(0, 1)\n|y> = erf(|x>)\n"
    for body in ("|c> = tanh(W|x>)\n|g> = W^T|c>\n|h> = W|y>\n", "|h> = W|y>\n|c> = tanh(W|x>)\n|g> = W^T|c>\n"):
        found = of(f"{head}{body}output d = <c|h> - <g|y>\noutput f = <c|h>")
        assert found[0] == pytest.approx(np.zeros(2), abs=1e-10) and found[1, 1] > 0.1


def test_kets_that_depend_on_one_another_are_met_once() -> None:
    head = "matrix W ~ N(0, 1)\nket |x> ~ N(0, 1)\nket |y> ~ N(0, 1)\n|a> = W^T|y>\n"
    once = of(f"{head}|g> = W^T(W|x>)\noutput f = <g|x>\noutput e = <g|a>")
    twice = of(f"{head}|b> = W^T(2 |y>)\n|g> = W^T(W|x>)\noutput f = <g|x>\noutput e = <g|a> + 0 <b|b>")
    assert twice == pytest.approx(once)


def test_families_are_read_member_by_member() -> None:
    """Shifts, running sums, tables and stacks of independent kets: the variance of each member is 2 · (its variance)²."""
    found = of(
        "axis s : 3\ndata c[s] = [1.0, 2.0, 3.0]\ndata p[s] = [2, 2, 1]\nket |x[s]> ~ N(0, 1)\n"
        "|y[s]> = shift[s](cumsum[s](c[s] |x[s]>), 1)\noutput f[s] = <y[s]|y[s]>\noutput g[s] = <x[p[s]]|x[p[s]]>"
    )
    assert np.diag(found) == pytest.approx([0, 2, 2 * 25, 2, 2, 2])
    assert found[3, 4] == pytest.approx(2) and found[3, 5] == 0 and found[1, 5] == pytest.approx(2)


# -- one hidden layer: an average over independent neurons ----------------------------------------------------------------
X, Y = np.array([1.0, 0.3]), np.array([-0.7, 0.2])


def _planes(f: object, a: Matrix = X, b: Matrix = Y) -> float:
    """E f(u·a, u·b) by a product rule."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    p, q = np.meshgrid(nodes, nodes)
    w = np.outer(weights, weights) / (2 * math.pi)
    return float(np.sum(w * f(p * a[0] + q * a[1], p * b[0] + q * b[1])))  # type: ignore[operator]


ONE_LAYER = """parametrization ntk
axis i, j : 2
axis d : 2
data xi[i,d] = [[1.0, 0.3], [-0.7, 0.2]]
ket |u[d]> ~ N(0, 1)
ket |v> ~ N(0, 1)
def net(x[d]) { return clt <v|erf(sum[d](x[d] |u[d]>))> }
f[i] = net(xi[i,d])
output K[i,j] = ntk(f[i], f[j])
"""


def test_tangent_kernel_of_one_hidden_layer() -> None:
    """An average of φφ' + x·x' v² φ̇φ̇' over independent neurons."""
    found = of(ONE_LAYER)

    def slope(h: Matrix) -> Matrix:
        return 2 / math.sqrt(math.pi) * np.exp(-h * h)

    dot = float(X @ Y)
    first = _planes(lambda a, b: erf(a) * erf(b) + dot * slope(a) * slope(b))
    second = _planes(
        lambda a, b: (
            (erf(a) * erf(b)) ** 2
            + 2 * dot * erf(a) * erf(b) * slope(a) * slope(b)
            + 3 * (dot * slope(a) * slope(b)) ** 2
        )
    )
    assert found[1, 1] == pytest.approx(second - first**2, rel=1e-6)
    assert found[1, 1] == pytest.approx(found[1, 2]) == pytest.approx(found[2, 2])


# -- depth: the recursion of the covariance of (K11, K12, K22), its derivatives by differences -----------------------------
def _arccos(k: Matrix) -> Matrix:
    """E relu relu for the pairs 11, 12, 22."""
    a, c, b = k
    root = math.sqrt(a * b)
    angle = math.acos(c / root)
    return np.array([a / 2, root * (math.sin(angle) + (math.pi - angle) * c / root) / (2 * math.pi), b / 2])


def _moments(k: Matrix) -> Matrix:
    """Cov of (φ1², φ1φ2, φ2²), φ = relu, by integration over angle (the radius is exact)."""
    root = np.linalg.cholesky(np.array([[k[0], k[1]], [k[1], k[2]]]))

    def at(t: float) -> tuple[float, float]:
        a, b = root @ np.array([math.cos(t), math.sin(t)])
        return max(a, 0.0), max(b, 0.0)

    powers = ((2, 0), (1, 1), (0, 2))
    kinks = sorted({*(math.atan2(-r[0], r[1]) for r in root), *(math.atan2(r[0], -r[1]) for r in root)})

    def mean(p: int, q: int) -> float:
        radius = 8 if p + q == 4 else 2  # E r^4, E r^2
        value = quad(lambda t: at(t)[0] ** p * at(t)[1] ** q, -math.pi, math.pi, points=kinks, epsabs=1e-12, limit=200)[
            0
        ]
        return float(radius * value / (2 * math.pi))

    whole = [[mean(a + c, b + d) for c, d in powers] for a, b in powers]
    means = np.array([mean(a, b) for a, b in powers])
    return np.array(whole) - np.outer(means, means)


def test_deep_relu_kernels() -> None:
    program = (
        "axis i, j : 2\naxis d : 2\ndata xi[i,d] = [[1.0, 0.3], [-0.7, 0.2]]\nket |u[d]> ~ N(0, 1)\nmatrix W ~ N(0, 2)\n"
        "matrix V ~ N(0, 2)\n|h[i]> = sum[d](xi[i,d] |u[d]>)\n|h[i]> = W relu(|h[i]>)\n|h[i]> = V relu(|h[i]>)\n"
        "output K[i,j] = <relu(|h[i]>)|relu(|h[j]>)>"
    )
    k = np.array([X @ X, X @ Y, Y @ Y])
    covariance = _moments(k)
    for _ in range(2):
        below = _arccos(k)
        steps = 1e-6 * np.eye(3)
        slopes = np.array([(_arccos(2 * (below + s)) - _arccos(2 * (below - s))) / 2e-6 for s in steps]).T
        k = 2 * below
        covariance = _moments(k) + slopes @ covariance @ slopes.T
    chosen = [0, 1, 3]
    assert of(program)[np.ix_(chosen, chosen)] == pytest.approx(covariance, rel=1e-6, abs=1e-7)


def test_derivatives_of_jumps() -> None:
    """P = <step(h1)|step(h2)> = 1/4 + asin(ρ)/2π has derivatives by both variances, though both functions jump."""
    mix = np.array([[1.0, 0.0], [0.9, 1.2]])
    program = (
        "ket |u> ~ N(0, 1)\nket |v> ~ N(0, 1)\nmatrix W ~ N(0, 1)\n|a> = |u>\n|b> = 0.9 |u> + 1.2 |v>\n"
        "output P = <step(W |a>)|step(W |b>)>"
    )
    (p, q), (_, r) = mix @ mix.T
    rho = q / math.sqrt(p * r)
    value, steep = 0.25 + math.asin(rho) / (2 * math.pi), 1 / (2 * math.pi * math.sqrt(1 - rho**2))
    slopes = steep * np.array([-rho / (2 * p), 1 / math.sqrt(p * r), -rho / (2 * r)])
    fourth = np.array(
        [[2 * p * p, 2 * p * q, 2 * q * q], [2 * p * q, p * r + q * q, 2 * q * r], [2 * q * q, 2 * q * r, 2 * r * r]]
    )
    assert of(program) == pytest.approx(value * (1 - value) + slopes @ fourth @ slopes, rel=1e-9)


def test_numbers_inside_kets() -> None:
    """<φ(h/√<h|h>)>: the influence of a neuron is φ(h) - (h² - 1)/2 E h φ'(h)."""
    program = "ket |x> ~ N(0, 1)\nmatrix W ~ N(0, 3)\n|h> = W|x>\noutput f = <exp(h/sqrt(<h|h>))>"
    slope = math.exp(0.5)  # E h e^h
    wanted = math.exp(2) - math.e + slope**2 / 2 - slope * 2 * math.exp(0.5) * 0.5
    assert of(program) == pytest.approx(wanted, rel=1e-9)


def test_kernel_regression() -> None:
    """Solutions, inverses and determinants of a kernel: the derivatives of NumPy's, by differences, and Σ of the kernel."""
    program = (
        "axis i, j : 2\naxis d : 2\ndata xi[i,d] = [[1.0, 0.3], [-0.7, 0.2]]\ndata y[i] = [1.0, -0.5]\nket |u[d]> ~ N(0, 1)\n"
        "|x[i]> = relu(sum[d](xi[i,d] |u[d]>))\nk[i,j] = <x[i]|x[j]> + 0.1 * delta[i,j]\noutput K[i,j] = k[i,j]\n"
        "output a[i] = solve[i,j](k[i,j], y[j] + k[1,j])\noutput b[i,j] = inv[i,j](k[i,j])\noutput c = logdet[i,j](k[i,j])"
    )
    kernel, names = of(program, "K"), ("a", "b", "c")
    at = tpc.limit(program, only=["K"])["K"]
    y = np.array([1.0, -0.5])

    def values(k: Matrix) -> Matrix:
        k = k.reshape(2, 2)
        parts = np.linalg.solve(k, y + k[0]), np.linalg.inv(k).ravel(), [np.linalg.slogdet(k)[1]]
        return np.concatenate(parts)

    steps = 1e-6 * np.eye(4)
    slopes = np.array([(values(at.ravel() + s) - values(at.ravel() - s)) / 2e-6 for s in steps]).T
    assert of(program, *names) == pytest.approx(slopes @ kernel @ slopes.T, rel=1e-6, abs=1e-7)


def test_biases_and_means() -> None:
    """Thresholds that fluctuate: <(h - <h>)^2 h> of a ket with mean."""
    assert of("ket |h> ~ N(1, 2)\noutput f = <(h - <h>)^2>") == pytest.approx(8)


# -- networks ---------------------------------------------------------------------------------------------------------------
def _networks(program: str, name: str, width: int, seeds: int) -> tuple[Matrix, Matrix]:
    """n times the covariance of an output over networks, with standard errors."""
    drawn = tpc.simulate(program, width, seeds=seeds, only=[name]).replicates[name].reshape(seeds, -1)
    found = width * np.cov(drawn.T).reshape(drawn.shape[1], -1)
    variances = np.diag(found)
    return found, np.sqrt((np.outer(variances, variances) + found**2) / seeds)


DEEP = ONE_LAYER.replace("ket |v>", "matrix W ~ N(0, 2)\nket |v>").replace(
    "erf(sum[d](x[d] |u[d]>))", "φ(W φ(sum[d](x[d] |u[d]>)))"
)
TIED = """width m = 2
axis i, j : 2
axis d : 2
data xi[i,d] = [[1.0, 0.4], [-0.2, 0.9]]
ket |u[d]> ~ N(0, 1)
matrix W : m x n ~ N(0, 1)
|x[i]> = sum[d](xi[i,d] |u[d]>)
|y[i]> = |x[i]> + W^T relu(W |x[i]>) / 2
output overlap[i,j] = <x[i]|y[j]>
output norm[i] = <y[i]|y[i]>
"""


POINTS = """axis i, j : 4
axis d : 2
data xi[i,d] = [[1.0, 0.4], [-0.2, 0.9], [0.7, -0.6], [-1.0, -0.3]]
ket |u[d]> ~ N(0, 1)
matrix W ~ N(0, 2)
|h[i]> = W φ(sum[d](xi[i,d] |u[d]>))
output K[i,j] = <φ(|h[i]>)|φ(|h[j]>)>
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "name"),
    [
        (DEEP.replace("φ", "relu"), "K"),
        (DEEP.replace("φ", "tanh"), "K"),
        (POINTS.replace("φ", "relu"), "K"),
        (POINTS.replace("φ", "tanh"), "K"),
        (TIED, "overlap"),
        (TIED, "norm"),
    ],
)
def test_networks_fluctuate_as_predicted(program: str, name: str) -> None:
    found, error = _networks(program, name, 256, 600)
    assert np.max(np.abs(found - of(program, name)) / error) < 3.5


def test_sampled_limits_are_left_to_samples() -> None:
    compiled = tpc.compile("ket |x> ~ N(0, 1)\noutput f = <x|x>\noutput g = <x>")
    known = {name: Estimate(np.array(1.0), np.array(0.0), (), how) for name, how in (("f", "qmc"), ("g", "exact"))}
    assert [*exactly(compiled, compiled.outputs, known, Options()).each] == ["g"]


# -- refusals ------------------------------------------------------------------------------------------------------------
def test_what_is_not_known_is_named() -> None:
    assert "clt" in refused("ket |u> ~ N(0, 1)\nket |v> ~ N(0, 1)\noutput f = clt <u|v>")
    assert "kink" in refused("ket |x> ~ N(0, 1)\noutput f = abs(<x>)")
    assert "jump" in refused("ket |x> ~ N(0, 1)\noutput f = <step(x - <x>)>")
    trained = "ket |u> ~ N(0, 1)\noutput f = <u|u>\ntrain steps = 1 {\n minimize <u|u>\n update all with SGD(lr = 0.1)\n}\noutput g = <u|u>"
    assert "training" in refused(trained) and of(trained, "f") == pytest.approx(2)
    assert "at most" in refused(f"axis i : {MOST_ENTRIES + 1}\nket |x[i]> ~ N(0, 1)\noutput f[i] = <x[i]|x[i]>")
    many = "axis i : 5\nket |x[i]> ~ N(0, 1)\nket |z> ~ N(0, 1)\n|y[i]> = tanh(|x[i]> + |z>)\noutput f = <y[1] * y[2] * y[3] * y[4] * y[5]>"
    assert "5 Gaussians" in refused(many)
