"""`tpc.kernel`: against the same program with literal data, and against recursions in NumPy."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler.evaluate.exact import kernel_blocks
from tp_compiler.evaluate.exact.same_structure import arrays_of
from tp_compiler.evaluate.exact.tracer import KernelTracer
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.types import Axis
from tp_compiler.ir.walk import reachable

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(7, 3)), RNG.normal(size=(5, 3))
BOTH = np.vstack([X, Y])
NETWORK = """
axis i, j
axis d
data xi[i,d]
ket |u[d]> ~ N(0, 1)
matrix W ~ N(0, 2)
ket |v> ~ N(0, 1)
|h[i]> = W relu(sum[d](xi[i,d] |u[d]>))
f[i] = <v|relu(h[i])>
output nngp[i,j] = <relu(h[i])|relu(h[j])>
output ntk[i,j] = ntk(f[i], f[j])
"""
Array = np.ndarray


def averages(k: Array, left: Array, right: Array) -> tuple[Array, Array]:
    """E relu(a) relu(b) and E relu'(a) relu'(b) under covariances k and variances left, right (Cho and Saul)."""
    scale = np.sqrt(np.outer(left, right))
    angle = np.arccos(np.clip(k / scale, -1, 1))
    return scale * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi), (np.pi - angle) / (2 * np.pi)


def recursion(x: Array, y: Array) -> tuple[Array, Array]:
    """The NNGP and tangent kernels of NETWORK."""
    k, left, right = x @ y.T, (x**2).sum(1), (y**2).sum(1)
    first, slope = averages(k, left, right)
    tangent = first + 2 * slope * k
    nngp, slope = averages(2 * first, left, right)  # E relu² is half the variance, and W doubles it
    return nngp, nngp + slope * tangent


@pytest.mark.parametrize(("output", "place"), [("nngp", 0), ("ntk", 1)])
@pytest.mark.parametrize("batch", [1024, 3])
def test_two_roads(output: str, place: int, batch: int) -> None:
    kernel = tpc.kernel(NETWORK, output, batch=batch)
    whole = tpc.limit(NETWORK, data={"xi": BOTH})[output]
    near: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-14}
    np.testing.assert_allclose(kernel(X), whole[:7, :7], **near)
    np.testing.assert_allclose(kernel(X, Y), whole[:7, 7:], **near)
    np.testing.assert_allclose(kernel(Y, X), whole[7:, :7], **near)
    np.testing.assert_allclose(kernel.diagonal(X), np.diag(whole)[:7], **near)
    np.testing.assert_allclose(kernel(X, Y), recursion(X, Y)[place], **near)
    assert kernel(X[:1]).shape == (1, 1) and kernel(X[:1], Y).shape == (1, 5)
    estimate = kernel.estimate(X)
    assert estimate.axes == ("i", "j") and estimate.method == "closed-form"
    assert estimate.value.shape == estimate.stderr.shape == (7, 7)


def test_points_that_coincide() -> None:
    """Two families with the same points, whose correlation is rounded to 1."""
    kernel = tpc.kernel(NETWORK, "ntk")
    estimate = kernel.estimate(X, X[::-1])
    assert (np.abs(estimate.value[:, ::-1] - kernel(X)) <= 1e-7 + 4 * estimate.stderr).all()


def test_data_of_the_program_are_replaced() -> None:
    """Whatever their number, and whatever values they have: only the sizes of the other axes count."""
    text = NETWORK.replace("axis i, j", "axis i, j : 2").replace("axis d", "axis d : 3")
    for values in ("[[1, 1, 1], [0, 0, 0]]", "[[0.5, 2, 1], [3, 0, 1]]"):
        kernel = tpc.kernel(text.replace("xi[i,d]\n", f"xi[i,d] = {values}\n", 1), "nngp")
        np.testing.assert_allclose(kernel(X, Y), recursion(X, Y)[0], rtol=1e-12)
    np.testing.assert_array_equal(kernel({"xi": X.tolist()}), kernel(X))
    np.testing.assert_array_equal(tpc.kernel(tpc.compile(NETWORK, data={"xi": Y}), "nngp")(X), kernel(X))


def test_it_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, count = tpc.kernel(NETWORK, "nngp"), []
    compiled = tpc.api.driver.compile
    monkeypatch.setattr(tpc.api.driver, "compile", lambda *a, **k: count.append(1) or compiled(*a, **k))
    for n in (1, 2, 5, 7):
        assert kernel(X[:n], Y).shape == (n, 5)
    assert len(count) == 1
    assert kernel(RNG.normal(size=(4, 6))).shape == (4, 4) and len(count) == 2  # other sizes
    assert kernel(X).shape == (7, 7) and len(count) == 2


# programs of other kinds ---------------------------------------------------------------------------------------
def test_words() -> None:
    """Several arrays over the points: words, and a weight; other words are chosen."""
    text = """
    axis i, j
    axis s : 2
    axis w : 4
    data tok[s,i]
    data a[i]
    ket |e[w]> ~ N(0, 1)
    ket |b> ~ N(0, 1)
    |x[i]> = a[i] * mean[s](|e[tok[s,i]]>) + |b>
    output k[i,j] = <erf(x[i])|erf(x[j])>
    """
    tok, a = RNG.integers(1, 5, size=(2, 6)), RNG.normal(size=6)
    kernel = tpc.kernel(text, "k")
    whole = tpc.limit(text, data={"tok": tok, "a": a})["k"]
    one, two = ({"tok": tok[:, part], "a": a[part]} for part in (slice(4), slice(4, 6)))
    np.testing.assert_allclose(kernel(one), whole[:4, :4], rtol=1e-12)
    np.testing.assert_allclose(kernel(one, two), whole[:4, 4:], rtol=1e-12)
    with pytest.raises(TypeError, match="several data have no values"):
        kernel(tok)
    with pytest.raises(TypeError, match="also reads a; pass arrays for"):
        tpc.kernel(tpc.compile(text, data={"tok": tok, "a": a}), "k")({"tok": tok})
    with pytest.raises(ValueError, match="equally many points, but"):
        kernel({"tok": tok, "a": a[:3]}, two)
    with pytest.raises(tpc.ProgramError, match=r"NX225.*chooses positions 1..4"):
        kernel(one, {"tok": two["tok"] + 4, "a": two["a"]})


def test_two_axes() -> None:
    """Points of two kinds, such as images and texts."""
    text = """
    axis i
    axis k
    axis d
    axis e
    data x[i,d]
    data y[k,e]
    ket |u[d]> ~ N(0, 1)
    ket |c> ~ N(0, 1)
    output m[k,i] = <tanh(sum[d](x[i,d] |u[d]>) + c)|sum[e](y[k,e] * (|c> + |u[1]>))>
    """
    y = RNG.normal(size=(4, 2))
    kernel = tpc.kernel(text, "m", over=("i", "k"), data={"y": y})
    whole = tpc.limit(text, data={"x": X, "y": y})["m"]
    np.testing.assert_allclose(kernel(X, y[:3]), whole.T[:, :3], rtol=1e-10)
    with pytest.raises(TypeError, match="also reads y"):
        kernel({"x": X})
    with pytest.raises(ValueError, match="has no diagonal"):
        kernel.diagonal({"x": X, "y": y})


def test_more_indices_and_fixed_points() -> None:
    """Further indices follow; points that the program names keep its data."""
    text = NETWORK + "axis c : 2\ndata s[c] = [1, 2]\noutput t[c,j,i] = s[c] * <relu(h[i])|h[j]> / <h[1]|h[1]>\n"
    kernel = tpc.kernel(text, "t", data={"xi": Y})
    value = kernel(X[:2], X[2:])
    assert value.shape == (2, 5, 2)
    expected = tpc.limit(text, data={"xi": np.vstack([Y[:1], X])})["t"][:, 3:, 1:3].T
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    with pytest.raises(ValueError, match="also reads xi at points of the program itself"):
        tpc.kernel(text, "t")(X)


def test_constants_over_the_points() -> None:
    """A constant written as a family is that at other points, too."""
    text = NETWORK + "scalar b[i] = 3\noutput k[i,j] = b[i] * <h[i]|h[j]>\n"
    whole = tpc.limit(text, data={"xi": BOTH})["k"]
    np.testing.assert_allclose(tpc.kernel(text, "k")(X, Y), whole[:7, 7:], rtol=1e-12)


def test_an_asymmetric_output() -> None:
    text = NETWORK + "output a[i,j] = <relu(h[i])|sin(h[j])> * <h[i]|h[i]>\n"
    whole = tpc.limit(text, data={"xi": BOTH})["a"]
    for batch in (1024, 2):
        np.testing.assert_allclose(tpc.kernel(text, "a", batch=batch)(BOTH), whole, rtol=1e-9)


def test_of_a_trained_network() -> None:
    """The kernel of learned features, at points that the training has not seen."""
    text = """
    axis i, j : 2
    axis d : 2
    data xi[i,d] = [[1, 0.5], [-0.3, 0.8]]
    ket |u[d]> ~ N(0, 1)
    ket |v> ~ N(0, 1)
    def features(x[d]) { return sum[d](x[d] |u[d]>) }
    train steps = 2 {
        f[i] = <v|features(xi[i,d])>
        loss = mean[i]((f[i] - i)^2)
        minimize loss
        update all with SGD(lr = 0.2)
    }
    |h[i]> = features(xi[i,d])
    output k[i,j] = <h[i]|h[j]>
    """
    points = RNG.normal(size=(3, 2))
    found = tpc.kernel(text, "k")(points)
    basis = tpc.limit(text.replace("axis d", "axis d, c").replace("k[i,j] = <h[i]|h[j]>", "g[d,c] = <u[d]|u[c]>"))["g"]
    np.testing.assert_allclose(found, points @ basis @ points.T, rtol=1e-10)
    with pytest.raises(ValueError, match="also reads xi at points of the program itself"):
        tpc.kernel(text.replace(" = [[1, 0.5], [-0.3, 0.8]]", ""), "k")(points[:2])


def test_sampled_kernels_have_errors() -> None:
    text = "axis i, j\naxis d\ndata xi[i,d]\nket |u[d]> ~ N(0, 1)\nmatrix W ~ N(0, 1)\n"
    text += "|h[i]> = sum[d](xi[i,d] |u[d]>)\n|g[i]> = tanh(|h[i]> + W tanh(|h[i]>) / (1 + |h[i]>^2))\n"
    text += "output k[i,j] = <g[i]|W tanh(|g[j]>)>\n".replace("W tanh(|g[j]>)", "g[j] * exp(-g[j]^2)")
    kernel = tpc.kernel(text, "k", method="qmc", samples=256, replicates=4, seed=3)
    found = kernel.estimate(X[:2], Y[:3])
    exact = tpc.limit(text, data={"xi": BOTH}, method="qmc", samples=4096)["k"][:2, 7:10]
    assert found.method == "qmc" and (found.stderr > 0).all()
    assert (np.abs(found.value - exact) < 6 * found.stderr + 1e-3).all()


# mistakes ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("output", "over", "message"),
    [
        ("ntkk", ("i", "j"), r"no output 'ntkk'; its outputs are nngp, ntk"),
        ("ntk", ("i", "k"), r"must be two of the indices of ntk, which has i, j"),
        ("ntk", ("i", "i"), r"must be two of the indices"),
    ],
)
def test_names_of_outputs_and_indices(output: str, over: tuple[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tpc.kernel(NETWORK, output, over)(X)
    with pytest.raises(ValueError, match=message):
        tpc.kernel(NETWORK, output, over, data={"xi": X})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("output k[i,j] = <h[i]|h[j]> + 0.1 * delta[i,j]", "reads the position of a point"),
        ("ket |r[i]> ~ N(0, 1)\noutput k[i,j] = <h[i] + r[i]|h[j] + r[j]>", "each point has a ket of its own"),
        ("matrix R[i] ~ N(0, 1)\noutput k[i,j] = <h[i]|(R[i] |h[j]>)>", "each point has a matrix of its own"),
        ("scalar b[i] = 1\ng[i] = b[i] * f[i]\noutput k[i,j] = ntk(g[i], g[j])", "reads the position of a point"),
        ("m[i,j] = <h[i]|h[j]>\noutput k[i,j] = inv[i,j](m[i,j])", "function of the matrix of all points"),
        ("output k[i,j] = <cumsum[i](h[i])|h[j]>", "depends on the order of the points"),
        ("data s[i,j] ~ N(0, 1)\noutput k[i,j] = s[i,j] * <h[i]|h[j]>", "has data for pairs of points"),
    ],
)
def test_what_is_not_a_function_of_two_points(line: str, reason: str) -> None:
    with pytest.raises(tpc.ProgramError, match=f"NX309.*{reason}"):
        tpc.kernel(NETWORK.split("output")[0] + line + "\n", "k", data={"xi": X})


def test_it_can_be_copied_and_sent_to_other_processes() -> None:
    kernel = tpc.kernel(NETWORK, "ntk")
    again = pickle.loads(pickle.dumps(kernel))
    np.testing.assert_array_equal(again(X), kernel(X))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(kernel))(X), again(X))
    assert copy.deepcopy(kernel)(X, Y).shape == (7, 5) and repr(kernel) == "<kernel ntk[i,j]>"


def test_an_output_without_data() -> None:
    text = "axis i, j : 2\nket |u> ~ N(0, 1)\nc[i] = 1\noutput k[i,j] = c[i] * c[j] * <u|u>\n"
    with pytest.raises(ValueError, match="k reads no data over i"):
        tpc.kernel(text, "k")


def test_arrays_that_do_not_fit() -> None:
    kernel = tpc.kernel(NETWORK, "ntk", data={"xi": X})
    for points, message in (
        (X[:, :2], r"NX304.*`xi` has 2 entries over `d`, but axis `d` has 3"),
        (X[0], r"NX304.*but its array has 1 dimension"),
        (X[:0], r"NX304.*`xi` has no points"),
        (X * np.nan, r"NX316.*is NaN"),
        (X * 1j, r"NX315.*complex"),
    ):
        with pytest.raises(tpc.ProgramError, match=message):
            kernel(points)
        with pytest.raises(tpc.ProgramError, match=message):
            kernel(X, points)
    with pytest.raises(TypeError, match=r"there is no option 'sample'; did you mean .samples."):
        tpc.kernel(NETWORK, "ntk", sample=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no option 'only'"):
        tpc.kernel(NETWORK, "ntk", only=["ntk"])


EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "output", "over"),
    [
        ("convolution", "pooled", ("i", "j")),
        ("duplicates", "code", ("i", "j")),
        ("embedding", "nngp", ("i", "j")),
        ("erf_mlp", "cosine", ("i", "j")),
        ("nngp_posterior", "covariance", ("p", "q")),
        ("resnet", "nngp", ("i", "j")),
        ("rnn", "pooled", ("i", "j")),
        ("tangent_kernel", "K", ("i", "j")),
        ("transformer", "nngp", ("i", "j")),
        ("width_classes", "bottleneck", ("i", "j")),
    ],
)
def test_examples_at_their_own_points(name: str, output: str, over: tuple[str, str]) -> None:
    """As one family, as two, and point by point."""
    program = tpc.compile(EXAMPLES / f"{name}.nexort")
    expected = tpc.limit(program, only=[output])[output]
    kernel = tpc.kernel(program, output, over)
    axis = next(i.axis for o in program.outputs if o.name == output for i in o.indices if i.name == over[0])
    arrays = {
        a.name: a for n in [next(o.node for o in program.outputs if o.name == output)] for a in data_over(n, axis)
    }
    own = {key: a.values for key, a in arrays.items()}
    places = {key: next(k for k, i in enumerate(a.type.indices) if i.axis == axis) for key, a in arrays.items()}
    first = {key: value.take([0], axis=places[key]) for key, value in own.items()}
    np.testing.assert_allclose(kernel(own), expected, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(kernel(own, own), expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(kernel(first, own), expected[:1], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(kernel.diagonal(own), np.diag(expected), rtol=1e-10, atol=1e-13)


def data_over(node: ir.Node, axis: Axis) -> list[ir.Array]:
    return [n for n in reachable([node]) if isinstance(n, ir.Array) and any(i.axis == axis for i in n.type.indices)]


def test_a_shape_is_planned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the numbers are: those whose squares underflow are computed by another method."""
    x = RNG.normal(size=(20, 3))
    kernel = tpc.kernel(NETWORK, "ntk")
    kernel(x)
    made: list[object] = []
    trace = kernel_blocks.KernelTracer
    y = RNG.normal(size=(20, 3))
    others = [y, 1e-170 * y, np.vstack([y[:10], y[:10]]), x]
    alone = [tpc.kernel(NETWORK, "ntk")(z) for z in others]

    def counted(*given: Any) -> KernelTracer:
        made.append(given)
        return trace(*given)

    monkeypatch.setattr(kernel_blocks, "KernelTracer", counted)
    for z, value in zip(others, alone, strict=True):
        np.testing.assert_array_equal(kernel(z), value)
    np.testing.assert_allclose(alone[2], recursion(others[2], others[2])[1], rtol=1e-7)
    assert not made
    kernel(x[:19])
    assert len(made) == 1


def test_programs_that_differ_in_their_data_alone() -> None:
    def at(text: str, x: Array, y: Array) -> list[ir.Node]:
        pair = tpc.kernel(text, "ntk", data={"xi": X})._pairs[0]
        return [o.node for o in pair.at({"xi": x}, {"xi": y}, same=False).outputs]

    pair = tpc.kernel(NETWORK, "ntk", data={"xi": X})._pairs[0]
    one, other = (pair.at({"xi": x}, {"xi": Y}, same=False) for x in (X, X + 1))
    found = arrays_of([one.outputs[0].node], [other.outputs[0].node])
    assert found is not None and len(found) == 2
    assert sorted(float(np.sum(b.values - a.values)) for a, b in found.items()) == [0.0, X.size]
    for x, y in ((X[:6], Y), (Y, X)):
        moved = pair.at({"xi": x}, {"xi": y}, same=False)
        assert arrays_of([one.outputs[0].node], [moved.outputs[0].node]) is None
    for old, new in (("relu(h[i])", "erf(h[i])"), ("W relu", "W abs")):
        assert arrays_of([one.outputs[0].node], at(NETWORK.replace(old, new), X, Y)) is None, new
