"""Kernels block by block beside two other roads: the evaluation of whole arrays, and the plain recursion of the layers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from mpmath import mp, mpf

import tp_compiler as tpc
from tp_compiler.evaluate import auto, bulk, errors
from tp_compiler.evaluate.exact import kernel_blocks
from tp_compiler.results import Run

POINTS, SIZES = 20, 3

HEAD = """parametrization ntk
axis i, j : {n}
axis d : 3
axis l : 4
data xi[i,d]
ket |u[d]> ~ N(0, 1)
ket |v> ~ N(0, 1)
matrix W[l] ~ N(0, 1)
"""
TAIL = "f[i] = clt <v|x[i]>\noutput nngp[i,j] = <x[i]|x[j]>\noutput K[i,j] = ntk(f[i], f[j])\n"


def network(name: str, first: str = "sum[d](xi[i,d] |u[d]>)") -> str:
    return f"{HEAD}|x[i]> = {name}({first})\nfor k in 2..3 {{ |x[i]> = {name}(1.2 W[k] |x[i]>) }}\n{TAIL}"


PROGRAMS = {
    **{name: network(name) for name in ("relu", "erf", "abs", "gelu", "sin", "step", "exp")},
    "scaled": HEAD
    + "|x[i]> = 2 relu(-3 sum[d](xi[i,d] |u[d]>))\n|x[i]> = relu(0.5 W[1] |x[i]>) - erf(2 W[2] |x[i]>)\n"
    + TAIL,
    "residual": HEAD + "|x[i]> = sum[d](xi[i,d] |u[d]>)\n"
    "for k in 1..3 { |x[i]> = |x[i]> + 0.5 W[k] relu(|x[i]>) }\n" + TAIL,
    "biased": HEAD
    + "ket |b> ~ N(0, 0.3)\n|x[i]> = relu(sum[d](xi[i,d] |u[d]>) + |b>)\n|x[i]> = relu(W[1] |x[i]>)\n"
    + TAIL,
    "linear": HEAD + "|x[i]> = W[1] sum[d](xi[i,d] |u[d]>)\n" + TAIL,
}


NOT_TABLED = ("gelu",)  # products of its derivatives have no row


def of_size(text: str, n: int) -> str:
    return text.replace("{n}", str(n))


def points(n: int = POINTS) -> np.ndarray:
    rng = np.random.default_rng(7)
    x = rng.standard_normal((n, SIZES))
    x[n // 2] = x[3] + 1e-7 * x[1]  # two points that covariances barely tell apart
    x[n // 3] = -x[5]
    return x


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_blocks, "SIDE", 7)


def whole(program: tpc.ProgramLike, monkeypatch: pytest.MonkeyPatch) -> Run:
    """By the evaluator of whole arrays."""
    with monkeypatch.context() as changed:
        changed.setattr(auto, "METHODS", auto.METHODS[1:])
        return tpc.limit(program)


def planned(program: tpc.ProgramLike) -> dict[str, bool]:
    return {name: plan is not None for name, plan in kernel_blocks.plans(program, program.outputs).items()}


@pytest.mark.parametrize("name", PROGRAMS)
def test_blocks_are_parts_of_the_whole(name: str, small_blocks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tpc.compile(of_size(PROGRAMS[name], POINTS), data={"xi": points()})
    found, other = tpc.limit(program), whole(program, monkeypatch)
    for output in other.outputs:
        one, two = found.outputs[output], other.outputs[output]
        assert one.method == two.method
        scale = np.max(np.abs(two.value))
        assert np.max(np.abs(one.value - two.value) - one.stderr - two.stderr) <= 4e-15 * scale, output
        assert np.max(one.stderr) <= 1e-6 * scale
    assert planned(program) == {"nngp": True, "K": name not in NOT_TABLED}


def plain(name: str, x: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """NNGP and tangent kernel by the recursion in closed form (Cho & Saul 2009; Williams 1997)."""
    k = x @ x.T
    tangent = np.zeros_like(k)
    for layer in range(depth):
        k = k if layer == 0 else 1.44 * k
        variance = np.diag(k)
        if name == "relu":
            size = np.sqrt(np.outer(variance, variance))
            c = np.clip(k / size, -1, 1)
            angle = math.pi - np.arccos(c)
            after, slope = size * (np.sqrt(1 - c * c) + angle * c) / (2 * math.pi), angle / (2 * math.pi)
        else:
            square = np.outer(1 + 2 * variance, 1 + 2 * variance)
            after, slope = 2 / math.pi * np.arcsin(2 * k / np.sqrt(square)), 4 / math.pi / np.sqrt(square - 4 * k * k)
        tangent = (k + (1.44 * tangent if layer else 0.0)) * slope
        k = after
    return k, k + tangent


@pytest.mark.parametrize("name", ["relu", "erf"])
@pytest.mark.parametrize("n", [16, 61])
def test_blocks_agree_with_the_plain_recursion(name: str, n: int, small_blocks: None) -> None:
    x = np.random.default_rng(n).standard_normal((n, SIZES))
    run = tpc.limit(of_size(network(name), n), data={"xi": x})
    nngp, tangent = plain(name, x, 3)
    assert np.allclose(run["nngp"], nngp, rtol=2e-7, atol=1e-9)  # arccos loses half the digits on the diagonal
    off = ~np.eye(n, dtype=bool)
    assert np.max(np.abs(run["K"] - tangent)[off]) < 1e-12 * np.max(tangent)
    assert np.array_equal(run["K"], run["K"].T)


def exact(name: str, x: np.ndarray, i: int, j: int) -> mpf:
    """The tangent kernel at one pair, to fifty digits."""

    def pair(name: str, v: mpf, w: mpf, c: mpf) -> tuple[mpf, mpf]:
        if name == "relu":
            ratio = min(mpf(1), max(mpf(-1), c / mp.sqrt(v * w)))
            angle = mp.pi - mp.acos(ratio)
            return mp.sqrt(v * w) * (mp.sqrt(1 - ratio**2) + angle * ratio) / (2 * mp.pi), angle / (2 * mp.pi)
        square = (1 + 2 * v) * (1 + 2 * w)
        return 2 / mp.pi * mp.asin(2 * c / mp.sqrt(square)), 4 / mp.pi / mp.sqrt(square - 4 * c * c)

    one, other = ([mpf(float(t)) for t in x[k]] for k in (i, j))
    v, w, c = mp.fdot(one, one), mp.fdot(other, other), mp.fdot(one, other)
    weight, tangent = mpf("1.2") ** 2, mpf(0)
    for layer in range(3):
        if layer:
            v, w, c, tangent = weight * v, weight * w, weight * c, weight * tangent
        after, slope = pair(name, v, w, c)
        tangent = (c + tangent) * slope
        v, w, c = pair(name, v, v, v)[0], pair(name, w, w, w)[0], after
    return c + tangent


@pytest.mark.parametrize("name", ["relu", "erf"])
def test_errors_bound_the_distance_from_the_truth(
    name: str, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors that no printed digit tells are reported, too: points far apart, close together, opposite, and far out."""
    monkeypatch.setattr(errors, "NEGLIGIBLE", 0.0)
    x = points()
    x[1] *= 30
    found = tpc.limit(of_size(network(name), POINTS), data={"xi": x}).outputs["K"]
    with mp.workdps(50):
        for i, j in [(0, 2), (3, 10), (5, 6), (5, POINTS // 3), (1, 1), (1, 4), (3, 3)]:
            off = abs(mpf(float(found.value[i, j])) - exact(name, x, i, j))
            assert off <= found.stderr[i, j], (i, j, float(off), found.stderr[i, j])
    assert np.max(found.stderr) < 1e-6 * np.max(found.value)


def test_narrow_bells_are_left_to_the_careful_formula(small_blocks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    x = points()
    x[1] *= 300
    program = tpc.compile(of_size(PROGRAMS["erf"], POINTS), data={"xi": x})
    found, other = tpc.limit(program), whole(program, monkeypatch)
    assert np.all(np.abs(found["K"] - other["K"]) <= found.outputs["K"].stderr + 1e-13 * np.abs(other["K"]).max())


def test_points_of_two_axes(small_blocks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
axis i : 17
axis t : 19
axis d : 3
data xi[i,d]
data zi[t,d]
ket |u[d]> ~ N(0, 1)
matrix W ~ N(0, 1)
|x[i]> = relu(W relu(sum[d](xi[i,d] |u[d]>)))
|z[t]> = relu(W relu(sum[d](zi[t,d] |u[d]>)))
output k[i,t] = <x[i]|z[t]>
output q[t,i] = <z[t]|x[i]>
"""
    program = tpc.compile(text, data={"xi": points(17), "zi": points(19)[::-1].copy()})
    run, other = tpc.limit(program), whole(program, monkeypatch)
    assert all(planned(program).values())
    assert np.allclose(run["k"], other["k"], rtol=1e-13, atol=1e-14)
    assert np.allclose(run["k"], run["q"].T, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("kind", ["zero", "tiny", "huge", "equal"])
def test_points_that_need_care(kind: str, small_blocks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A point at 0, coefficients without squares, points that are equal: values are those of whole arrays."""
    x = points()
    x[4] = {"zero": 0.0 * x[4], "tiny": 1e-170 * x[4], "huge": 1e3 * x[4], "equal": x[6]}[kind]
    program = tpc.compile(of_size(PROGRAMS["relu"], POINTS), data={"xi": x})
    found, other = tpc.limit(program, rtol=0.5, samples=8), whole(program, monkeypatch) if kind != "tiny" else None
    if other is None:
        assert found.outputs["K"].method == "qmc", "the squares underflow"
        return
    for name in ("nngp", "K"):
        scale = np.max(np.abs(other[name]))
        bars = found.outputs[name].stderr + other.outputs[name].stderr
        assert np.all(np.abs(found[name] - other[name]) <= bars + 4e-15 * scale), name


def test_a_plan_is_made_once_and_its_length_is_that_of_the_network() -> None:
    text = of_size(network("relu"), POINTS)
    lengths = []
    for depth in (10, 20, 40):
        deep = text.replace("axis l : 4", f"axis l : {depth}").replace("2..3", f"2..{depth}")
        program = tpc.compile(deep, data={"xi": points()})
        plan = kernel_blocks.plans(program, program.outputs)["K"]
        assert plan is not None and plan is kernel_blocks.plans(program, program.outputs)["K"]
        lengths.append(len(plan.steps))
    assert lengths[2] - lengths[1] == 2 * (lengths[1] - lengths[0]) <= 2 * 10 * 5


def test_kernels_are_found_to_be_symmetric() -> None:
    program = tpc.compile(of_size(PROGRAMS["relu"], POINTS), data={"xi": points()})
    plan = kernel_blocks.plans(program, program.outputs)["K"]
    assert plan is not None and all(o.symmetric for o in plan.outputs)
    text = of_size(PROGRAMS["relu"], POINTS).replace("<x[i]|x[j]>", "<x[i]|erf(x[j])>")
    program = tpc.compile(text, data={"xi": points()})
    plan = kernel_blocks.plans(program, [o for o in program.outputs if o.name == "nngp"])["nngp"]
    assert plan is None or not plan.outputs[0].symmetric


def test_a_large_kernel_has_one_error_for_all_pairs(small_blocks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It covers the error of each pair, and takes no memory."""
    program = tpc.compile(of_size(PROGRAMS["relu"], POINTS), data={"xi": points()})
    each = tpc.limit(program).outputs
    monkeypatch.setattr(kernel_blocks, "ONE_ERROR", POINTS**2 - 1)
    for name, estimate in tpc.limit(program).outputs.items():
        assert np.array_equal(estimate.value, each[name].value)
        assert not any(estimate.stderr.strides) and estimate.stderr.shape == estimate.value.shape
        largest = each[name].stderr.max()
        assert 0 < largest <= estimate.stderr.flat[0] <= 1.01 * largest


@pytest.mark.parametrize("low", [-3.0, 0.0, 1e-3, 0.5])
def test_the_largest_error_that_is_reported(low: float) -> None:
    values = np.linspace(low, 3.0, 4 * bulk.LARGE)
    for off in (bulk.Bulk(0.0, 1e-16), bulk.Bulk(3e-14, 2e-16), bulk.Bulk(1e-12, 0.0), bulk.Bulk(0.0, 1e-20)):
        told = errors.shown(values, off, False).max()
        assert told <= errors.most_shown(values, off, bulk.Extent.of(values)) <= max(told, off.within(3.0))


def test_pairs_of_data_alone(small_blocks: None) -> None:
    s, t = np.linspace(-2, 3, POINTS), np.linspace(1, 2, POINTS)
    outputs = {
        "product": ("3 * s[i] * t[j]", 3 * np.outer(s, t)),
        "symmetric": ("s[i] * s[j]", np.outer(s, s)),
        "sum": ("s[i] + t[j] + 1", s[:, None] + t + 1),
        "both": ("2 * s[i] * t[j] + s[j]", 2 * np.outer(s, t) + s),
    }
    head = f"axis i, j : {POINTS}\ndata s[i]\ndata t[j]\n"
    program = tpc.compile(
        head + "".join(f"output {name}[i,j] = {text}\n" for name, (text, _) in outputs.items()), data={"s": s, "t": t}
    )
    assert planned(program)["product"] and planned(program)["sum"]
    run = tpc.limit(program)
    for name, (_, value) in outputs.items():
        np.testing.assert_allclose(run[name], value, rtol=1e-15, atol=1e-15)


def test_the_work_of_a_block_is_linear_in_depth() -> None:
    """A layer's gradient is one factor on that of the layer above, not the product of all of them."""

    def reads(depth: int) -> int:
        text = (
            of_size(network("relu"), POINTS).replace("axis l : 4", f"axis l : {depth}").replace("2..3", f"2..{depth}")
        )
        program = tpc.compile(text, data={"xi": points()})
        (plan,) = set(kernel_blocks.plans(program, program.outputs).values())
        assert plan is not None
        return sum(len(step.inputs) for step in plan.steps)

    assert reads(24) - reads(16) == reads(16) - reads(8)
