"""Kets with other laws than the normal one, against SciPy's distributions and integrals, NumPy, and finite networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

import tp_compiler as tpc
from tests.unit.expand import roundtrip
from tp_compiler import driver
from tp_compiler.check.laws import KETS
from tp_compiler.diagnostics import Source

LAWS: dict[str, Any] = {
    "uniform(1/2)": stats.uniform(-0.5, 1),
    "uniform(-1, 3)": stats.uniform(-1, 4),
    "uniform(2, 2.5)": stats.uniform(2, 0.5),
    "rademacher": stats.rv_discrete(values=([-1, 1], [0.5, 0.5])),
    "rademacher(3)": stats.rv_discrete(values=([-3, 3], [0.5, 0.5])),
    "bernoulli(0.3)": stats.bernoulli(0.3),
    "bernoulli(1)": stats.bernoulli(1),
}
FUNCTIONS: dict[str, Callable[[float], float]] = {
    "x": lambda x: x,
    "x^2": lambda x: x**2,
    "x^3": lambda x: x**3,
    "x^4": lambda x: x**4,
    "exp(x)": math.exp,
    "relu(x - 0.3)": lambda x: max(x - 0.3, 0.0),
    "log(4 + x)": lambda x: math.log(4 + x),
    "step(x - 0.2)": lambda x: float(x > 0.2),
    "sin(3 * x) * x": lambda x: math.sin(3 * x) * x,
}


def expected(law: Any, f: Callable[[float], float]) -> float:
    """E f(x) by SciPy."""
    if isinstance(law.dist if hasattr(law, "dist") else law, stats.rv_discrete):
        return math.fsum(law.pmf(k) * f(float(k)) for k in range(-3, 4))
    low, high = law.support()
    places = [p for p in (0.2, 0.3) if low < p < high]
    value, _ = integrate.quad(f, low, high, points=places or None, epsabs=1e-13, epsrel=1e-13)
    return value / (high - low)


def text_of(law: str) -> str:
    lines = [f"output f{k} = <{name}>" for k, name in enumerate(FUNCTIONS)]
    return f"ket |x> ~ {law}\n" + "\n".join(lines) + "\n"


def test_every_law_is_tested() -> None:
    assert {law.partition("(")[0] for law in LAWS} | {"N"} == set(KETS)


@pytest.mark.parametrize("law", LAWS)
def test_averages_are_those_of_the_law(law: str) -> None:
    run = tpc.limit(text_of(law))
    for k, (name, f) in enumerate(FUNCTIONS.items()):
        found, wanted = run.outputs[f"f{k}"], expected(LAWS[law], f)
        assert found.method != "qmc", name
        assert abs(float(found.value) - wanted) <= 1e-11 * (1 + abs(wanted)), name


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("road", ["qmc", "mc", "networks"])
def test_samples_and_networks_draw_the_law(law: str, road: str) -> None:
    """`simulate` draws by NumPy, the particles of a limit are images of Gaussians."""
    text = text_of(law)
    drawn = {"width": 4096, "seeds": 16} if road == "networks" else {"method": road, "samples": 2048, "replicates": 16}
    run = (tpc.simulate if road == "networks" else tpc.limit)(text, **drawn)
    for k, (name, f) in enumerate(FUNCTIONS.items()):
        found, wanted = run.outputs[f"f{k}"], expected(LAWS[law], f)
        assert abs(float(found.value) - wanted) <= 5.5 * float(found.stderr) + 1e-12, name


def test_networks_have_the_values_of_the_law() -> None:
    text = """
axis d : 2
data a[d] = [0.5, 2]
ket |u[d]> ~ uniform(a[d])
ket |w> ~ uniform(1, 3)
ket |r> ~ rademacher(2)
ket |b> ~ bernoulli(0.25)
output above[d] = <step(|u[d]> - a[d])> + <step(-|u[d]> - a[d])>
output near[d] = <step(|u[d]> - 0.99 * a[d])>
output outside = <step(w - 3)> + <step(1 - w)>
output sizes = <(r^2 - 4)^2> + <(b^2 - b)^2>
output both[d] = <r|b>
output apart = <u[1]|u[2]>
"""
    run = tpc.simulate(text, width=8192, seeds=4)
    assert not run["above"].any() and run["outside"] == 0 and run["sizes"] == 0
    assert np.allclose(run["near"], 0.005, atol=0.002)
    assert abs(run["apart"]) < 5 / math.sqrt(
        12 * 8192
    )  # independent members: a standard deviation of 1/√(9 · 32768) · ...


IMAGES = {
    "uniform(0.7)": "0.7 * erf(|z> / sqrt(2))",
    "uniform(-1, 2)": "1/2 + 3/2 * erf(|z> / sqrt(2))",
    "rademacher": "sign(|z>)",
    "bernoulli(0.2)": "step(|z> - 0.8416212335729143)",  # the quantile at 0.8
}


@pytest.mark.parametrize("law", IMAGES)
def test_a_law_is_its_image_of_a_gaussian_ket_within_any_program(law: str) -> None:
    """Equality in law: the same outputs if the ket is written as a function of a Gaussian one."""
    body = """
axis i, j : 2
data c[i] = [1, -0.4]
ket |g> ~ N(0, 1)
ket |v> ~ N(0, 1)
matrix W ~ N(0, 2)
|h[i]> = W (|x> + c[i] * |g>)
|k[i]> = W^T (|h[i]> + |x>^2) + |x>
output K[i,j] = <h[i]|h[j]>
output L = <tanh(x + g)|g>
output m[i] = <k[i]|x>
output f[i] = clt <v|x * c[i] + g>
"""
    own = tpc.limit(f"ket |x> ~ {law}\n{body}")
    image = tpc.limit(f"ket |z> ~ N(0, 1)\n|x> = {IMAGES[law]}\n{body}")
    for name, found in own.outputs.items():
        other = image.outputs[name]
        error = 6 * np.hypot(found.stderr, other.stderr) + 1e-9
        assert np.all(np.abs(found.value - other.value) <= error), name
        if found.covariance is not None:
            errors = np.hypot(found.covariance_stderr, other.covariance_stderr)
            assert np.all(np.abs(found.covariance - other.covariance) <= 6 * errors + 1e-8)


def test_a_pair_of_a_uniform_and_a_gaussian_ket_by_scipy() -> None:
    def inner(u: float, g: float) -> float:
        return math.tanh(g + u) * math.tanh(g) * stats.norm.pdf(g)

    wanted, _ = integrate.dblquad(inner, -9, 9, -1, 1, epsabs=1e-11)
    run = tpc.limit("ket |u> ~ uniform(1)\nket |g> ~ N(0, 1)\noutput t = <tanh(g)|tanh(g + u)>\n")
    assert run.outputs["t"].method == "quadrature"
    assert abs(run["t"] - wanted / 2) < 1e-9


def test_rare_events_have_an_honest_error() -> None:
    run = tpc.limit("ket |b> ~ bernoulli(1e-4)\noutput p = <b>\n", method="qmc", samples=1024)
    assert abs(run["p"] - 1e-4) <= 4 * run.outputs["p"].stderr
    assert tpc.limit("ket |b> ~ bernoulli(1e-4)\noutput p = <b>\n")["p"] == pytest.approx(1e-4, rel=1e-12)


# -- rows --------------------------------------------------------------------------------------------------------------
ROWS = np.array([[1.0, 2.0], [-1.0, 0.5], [0.3, -2.0], [2.0, 1.0], [0.0, 0.0]])
ROW_TEXT = """
axis d, e : 2
ket |x[d]> from {0}
ket |g> ~ N(0, 1)
matrix W ~ N(0, 1)
output mean[d] = <x[d]>
output second[d,e] = <x[d]|x[e]>
output joint = <tanh(x[1]) * tanh(x[2])^2>
output mixed = <tanh(x[1] + g)|g * x[2]>
|h[d]> = W |x[d]>
output image[d,e] = <h[d]|relu(h[e])>
"""


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    np.save(tmp_path / "rows.npy", ROWS)
    np.savez(tmp_path / "rows.npz", a=ROWS, b=ROWS[:, 0])
    np.savetxt(tmp_path / "rows.csv", ROWS, delimiter=",")
    return tmp_path


def row_values() -> dict[str, Any]:
    """NumPy's averages over the rows, SciPy's over the Gaussian."""
    mixed = 0.0
    for a, b in ROWS:
        value, _ = integrate.quad(lambda g, a=a, b=b: math.tanh(a + g) * g * b * stats.norm.pdf(g), -9, 9)
        mixed += value / len(ROWS)
    second = ROWS.T @ ROWS / len(ROWS)
    return {
        "mean": ROWS.mean(axis=0), "second": second, "mixed": mixed,
        "joint": np.mean(np.tanh(ROWS[:, 0]) * np.tanh(ROWS[:, 1]) ** 2),
        "image": second / 2,  # E u relu(w) = Cov(u, w) / 2
    }  # fmt: skip


@pytest.mark.parametrize("source", ['"rows.npy"', '"rows.npz" key "a"', '"rows.csv"', "X[r,d]"])
def test_rows_are_an_empirical_law(rows: Path, source: str) -> None:
    text = ROW_TEXT.format(source)
    if "X" in source:
        text = text.replace("ket |x", f"axis r : 5\ndata X[r,d] = {ROWS.tolist()}\nket |x", 1)
    program = rows / "p.nexort"
    program.write_text(text, encoding="utf-8")
    wanted = row_values()
    limit = tpc.limit(program, samples=4096)
    networks = tpc.simulate(program, width=1024, seeds=8)
    methods = {name: found.method for name, found in limit.outputs.items()}
    assert methods == {
        "mean": "exact", "second": "exact", "joint": "exact", "mixed": "quadrature", "image": "closed-form"
    }  # fmt: skip
    for name, value in wanted.items():
        for run in (limit, networks):
            found = run.outputs[name]
            assert np.all(np.abs(found.value - value) <= 6.5 * found.stderr + 1e-11), (name, run.command)


def test_products_with_transposed_matrices_find_the_row_again(rows: Path) -> None:
    """Wᵀ tanh(W x₁ + x₂) has the dot |x₁> E tanh', which is a function of the row."""
    text = """
axis d : 2
ket |x[d]> from "rows.npy"
matrix W ~ N(0, 2)
|y> = W^T tanh(W |x[1]> + |x[2]>)
output along = <y|x[2]>
output f = <relu(y + x[2])>
output copies = <E[1](tanh(|g>@1 + |x[1]>))>
"""
    text = text.replace("matrix", "ket |g> ~ N(0, 1)\nmatrix")
    program = rows / "p.nexort"
    program.write_text(text, encoding="utf-8")
    exact = tpc.limit(program)
    assert {o.method for o in exact.outputs.values()} == {"quadrature"}
    deviation = math.sqrt(2 * np.mean(ROWS[:, 0] ** 2))

    def mean(f: Callable[[float], float]) -> float:
        value, _ = integrate.quad(lambda g: f(g) * stats.norm.pdf(g), -10, 10, epsabs=1e-12)
        return float(value)

    slope = np.mean([mean(lambda g, b=b: 1 - math.tanh(deviation * g + b) ** 2) for b in ROWS[:, 1]])
    assert exact["along"] == pytest.approx(2 * slope * np.mean(ROWS[:, 0] * ROWS[:, 1]), abs=1e-9)
    spread = math.sqrt(2 * np.mean([mean(lambda g, b=b: math.tanh(deviation * g + b) ** 2) for b in ROWS[:, 1]]))
    outer = [mean(lambda g, a=a, b=b: max(spread * g + 2 * slope * a + b, 0.0)) for a, b in ROWS]
    assert exact["f"] == pytest.approx(np.mean(outer), abs=1e-7)
    assert exact["copies"] == pytest.approx(
        np.mean([mean(lambda g, a=a: math.tanh(g + a)) for a in ROWS[:, 0]]), abs=1e-9
    )
    sampled = tpc.limit(program, method="qmc", samples=4096)
    for name, found in sampled.outputs.items():
        assert abs(found.value - exact[name]) <= 5 * found.stderr, name


FAMILIES = """
axis i, j : 2
axis d : 2
data c[i,d] = [[1, -0.4], [0.3, 2]]
data p[d] = [0.2, 0.7]
ket |r[d]> ~ {0}
matrix W ~ N(0, 1)
|h[i]> = tanh(sum[d](c[i,d] * |r[d]>))
|g[i]> = W |h[i]> + |r[1]>
output K[i,j] = <h[i]|h[j]>
output L[i,j] = <relu(g[i])|relu(g[j])>
"""


@pytest.mark.parametrize(("law", "values", "weights"), [
    ("rademacher(2)", (-2.0, 2.0), [(0.5, 0.5), (0.5, 0.5)]),
    ("bernoulli(p[d])", (0.0, 1.0), [(0.8, 0.2), (0.3, 0.7)]),
    ("bernoulli(1)", (0.0, 1.0), [(0.0, 1.0), (0.0, 1.0)]),
])  # fmt: skip
def test_families_of_two_values_are_summed_over_all_of_them(law: str, values: Any, weights: Any) -> None:
    run = tpc.limit(FAMILIES.format(law))
    assert [run.outputs[n].method for n in "KL"] in (["exact", "quadrature"], ["exact", "closed-form"])
    c = np.array([[1, -0.4], [0.3, 2]])
    wanted, kernel = np.zeros((2, 2)), np.zeros((2, 2))
    every = [(a, b, weights[0][a] * weights[1][b]) for a in (0, 1) for b in (0, 1)]
    for a, b, weight in every:
        h = np.tanh(c @ [values[a], values[b]])
        wanted += weight * np.outer(h, h)
    assert np.allclose(run["K"], wanted, atol=1e-14)
    points, mass = np.polynomial.hermite_e.hermegauss(180)
    root = np.linalg.cholesky(wanted + 1e-15 * np.eye(2))
    grid = np.stack(np.meshgrid(points, points, indexing="ij")).reshape(2, -1)
    each = np.outer(mass, mass).ravel() / mass.sum() ** 2
    for a, _, weight in every:
        relu = np.maximum(root @ grid + values[a], 0.0)
        kernel += weight * (relu * each) @ relu.T
    assert np.allclose(run["L"], kernel, atol=2e-3)  # the grid does not know the kinks


def test_rows_decide_the_sizes_of_axes(rows: Path) -> None:
    text = 'axis d, e\nket |x[d]> from "rows.npy"\noutput s[d,e] = <x[d]|x[e]>\n'
    program = rows / "p.nexort"
    program.write_text(text, encoding="utf-8")
    assert np.allclose(tpc.limit(program)["s"], ROWS.T @ ROWS / len(ROWS))
    given = "axis r\naxis d, e\ndata X[r,d]\nket |x[d]> from X[r,d]\noutput s[d,e] = <x[d]|x[e]>\n"
    assert np.allclose(tpc.limit(given, data={"X": ROWS})["s"], ROWS.T @ ROWS / len(ROWS))
    program.write_text(text.replace("|x[d]>", "|x>", 1).replace("x[d]|x[e]", "x|x"), encoding="utf-8")
    with pytest.raises(tpc.ProgramError) as refused:
        tpc.compile(program)
    assert "over (rows), but the array has the shape 5 x 2" in str(refused.value)


def test_rows_of_numbers_computed_in_the_program() -> None:
    text = "axis r : 3\ndata a[r] = [1, 2, 4]\nket |x> from a[r]^2 - 1\noutput m = <x>\noutput s = <x|x>\n"
    run = tpc.limit(text)
    assert (run["m"], run["s"]) == pytest.approx((6, (0 + 9 + 225) / 3))
    limit = tpc.limit(text + "output q = <x^3>\n", samples=1024)
    assert abs(limit["q"] - (27 + 3375) / 3) <= 5 * limit.outputs["q"].stderr


def test_files_of_rows_are_trusted_as_other_files_are(rows: Path) -> None:
    inner = rows / "inner"
    inner.mkdir()
    program = inner / "p.nexort"
    program.write_text('axis d : 2\nket |x[d]> from "../rows.npy"\noutput <x[1]>\n', encoding="utf-8")
    with pytest.raises(tpc.ProgramError) as refused:
        tpc.compile(program)
    assert [d.code for d in refused.value.diagnostics] == ["NX143"]
    assert tpc.compile(program, allow_outside=True).outputs


# -- as parameters -------------------------------------------------------------------------------------------------------
def test_gradients_stop_at_the_law() -> None:
    """v₁ = v₀ - lr (f - y) h with the declared law of v₀: no derivative of an image enters."""
    text = """
ket |g> ~ N(0, 1) frozen
ket |v> ~ {0}
train steps = 1 {{
    f = <v|tanh(g)>
    minimize (f - 1)^2 / 2
    update |v> with SGD(lr = 0.5)
}}
output second[step] = <v|v>
output along[step] = <v|tanh(g)>
output f[step]
output third = <v^3>
"""
    h2, _ = integrate.quad(lambda g: math.tanh(g) ** 2 * stats.norm.pdf(g), -9, 9, epsabs=1e-13)
    for law, variance, mean, cube in (("uniform(2)", 4 / 3, 0, 0.0), ("bernoulli(0.3)", 0.21, 0.3, 0.3)):
        run = tpc.limit(text.format(law), samples=4096)
        step = 0.5  # of h, since f = 0 at first
        values = {"second": [variance + mean**2, variance + mean**2 + step**2 * h2], "f": [0, step * h2]}
        for name, value in values.items():
            found = run.outputs[name]
            assert np.all(np.abs(found.value - value) <= 5 * found.stderr + 1e-9), (law, name)
        third = cube + 3 * mean * step**2 * h2
        assert abs(run["third"] - third) <= 5 * run.outputs["third"].stderr + 1e-9


LINEAR = """
axis i : 2
axis d : 2
axis r : 3
data x[i,d] = [[1, 0.5], [-0.3, 1]]
data y[i] = [1, -1]
data X[r,d] = [[1, 2], [0, -1], [-2, 0.5]]
ket |u[d]> from X[r,d]
ket |v> ~ bernoulli(0.25)
matrix W ~ N(0, 1)
train steps = 2 {
    f[i] = <v|W sum[d](x[i,d] |u[d]>)> + <v|sum[d](x[i,d] |u[d]>)>
    loss = mean[i]((f[i] - y[i])^2)
    minimize loss
    update all with SGD(lr = 0.1)
}
output loss[step]
output second[step] = <v|v>
output cubes[step] = <v^3>
output four[step] = <v^2|u[1]^2>
"""


def test_linear_networks_need_two_moments_and_other_averages_more() -> None:
    """Isserlis' theorem would give <v³> = 3 m σ² + m³ = 0.156 for 0.25."""
    run = tpc.limit(LINEAR, samples=4096)
    particles = tpc.limit(LINEAR, samples=4096, method="qmc")
    assert {n: o.method for n, o in run.outputs.items()} == {
        "loss": "exact", "second": "exact", "cubes": "qmc", "four": "qmc"
    }  # fmt: skip
    assert run["cubes"][0] == pytest.approx(0.25, abs=1e-9)
    for name, found in run.outputs.items():
        other = particles.outputs[name]
        assert np.all(np.abs(found.value - other.value) <= 5.5 * np.hypot(found.stderr, other.stderr) + 1e-9), name


TRAINED = """
axis i, j : 2
axis d : 2
data x[i,d] = [[1, 0.5], [-0.3, 1]]
data y[i] = [1, -1]
ket |u[d]> ~ uniform(1)
ket |b> ~ bernoulli(0.3)
matrix W ~ N(0, 1)
ket |v> ~ {law}
def net(x[d]) {{
    |h> = tanh(sum[d](x[d] * |u[d]>) + |b>)
    return {bracket}<v|tanh(W |h>)>
}}
parametrization {name}
train steps = 3 {{
    f[i] = net(x[i,d])
    loss = mean[i]((f[i] - y[i])^2) / 2
    minimize loss
    update all with {optimizer}
}}
output f[step,i] = net(x[i,d])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("law", "bracket", "name", "optimizer"),
    [
        ("uniform(sqrt(3))", "", "mup", "Adam(lr = 0.1)"),
        ("rademacher", "", "mup", "SGD(lr = 0.3)"),
        ("uniform(1)", "clt ", "ntk", "SGD(lr = 0.5)"),
        ("uniform(1)", "", "{ |v> : a=1, b=1/4, c=0, d=1 }", "SGD(lr = 0.5)"),
    ],
)
def test_networks_trained_from_other_laws_approach_the_limit(law: str, bracket: str, name: str, optimizer: str) -> None:
    text = TRAINED.format(law=law, bracket=bracket, name=name, optimizer=optimizer)
    found = tpc.verify(text, widths=(128, 256, 512), seeds=32)
    assert found.passed, str(found)


def test_a_kernel_of_other_laws_is_that_of_networks() -> None:
    text = TRAINED.split("parametrization")[0].format(law="uniform(1)", bracket="")
    text += "output k[i,j] = ntk(net(x[i,d]), net(x[j,d]))\n"
    limit, networks = tpc.limit(text, samples=4096), tpc.simulate(text, width=1024, seeds=8)
    found, other = limit.outputs["k"], networks.outputs["k"]
    assert np.all(np.abs(found.value - other.value) <= 5 * np.hypot(found.stderr, other.stderr) + 3 / 1024)


# -- the other stages ---------------------------------------------------------------------------------------------------
def test_exponents_and_factors_are_those_of_a_gaussian_ket_of_the_same_variance() -> None:
    text = TRAINED.replace("parametrization {name}\n", "").replace("~ uniform(1)", "~ {first}")
    given = {"bracket": "", "optimizer": "Adam(lr = 0.1)"}
    own = tpc.scale(text.format(law="rademacher(2)", first="uniform(3/2)", **given))
    gaussian = tpc.scale(text.format(law="N(0, 4)", first="N(0, 3/4)", **given))
    assert str(own) == str(gaussian)
    assert "0.866" in str(own)


def test_programs_with_laws_are_written_out(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(rows)
    text = TRAINED.format(law="rademacher(2)", bracket="", name="mup", optimizer="SGD(lr = 0.3)")
    written = roundtrip.holds(text)
    for line in ("ket |u[d]> ~ uniform(1)", "ket |b> ~ bernoulli(0.3)", "ket |v> ~ rademacher(2)"):
        assert f"{line}\n" in written
    text = """
axis d : 2
axis r : 2
data X[r,d] = [[1, 2], [3, 4]]
a = 0.5
ket |p> ~ uniform(-a, 2 * a) frozen
ket |q> ~ rademacher
ket |x[d]> from "rows.npz" key "a" frozen
ket |z[d]> from 2 * X[r,d]
output <p|q> + sum[d](<x[d]|z[d]>)
"""
    written = roundtrip.holds(text)
    for line in (
        "ket |p> ~ uniform(-0.5, 1) frozen", "ket |q> ~ rademacher",
        'ket |x[d]> from "rows.npz" key "a" frozen', "ket |z[d]> from 2 * X[r,d]",
    ):  # fmt: skip
        assert f"{line}\n" in written


def test_equations_state_the_law() -> None:
    text = """
axis d, e : 2
data p[d] = [0.2, 0.7]
data X[d,e] = [[1, 2], [3, 4]]
ket |u[d]> ~ uniform(1/2)
ket |w> ~ uniform(1, 3)
ket |r> ~ rademacher(2)
ket |b[d]> ~ bernoulli(p[d])
ket |x[e]> from X[d,e]
matrix W ~ N(0, 1)
|h> = |u[1]> + |r>
output uu[d,e] = <u[d]|u[e]>
output hh = <h|h>
output ww = <w>
output rr = <r * tanh(u[1])^2>
output bb[d] = <b[d]>
output f = <tanh(w)>
output g = <relu(W |x[1]>)|relu(W |x[1]>)>
output erfs = <erf(u[1])|erf(u[1])>
"""
    system = tpc.derive(text)
    shown = str(system)
    for line in (
        "|u_d⟩ ~ Uniform(−1/2, 1/2), independent over d", "|w⟩ ~ Uniform(1, 3)", "|r⟩ ~ Uniform{−2, 2}",
        "|b_d⟩ ~ Bernoulli(p_d), independent over d", "|x_e⟩ ~ entries of a random row of X[d,e]",
        "uu_{d,e} = δ_{d,e}/12", "ww = 2", "rr = 0", "bb_d = p_d", "f = E[tanh(|w⟩)]",
    ):  # fmt: skip
        assert f"{line}\n" in shown, line
    assert system["hh"].expression == pytest.approx(4 + 1 / 12)
    assert system["erfs"].closed_form is None  # that of a Gaussian would be wrong
    assert r"\text{Uniform}\{" in system.latex()


@pytest.mark.parametrize("command", ["limit", "simulate"])
def test_a_computed_probability_outside_0_and_1_is_refused(command: str) -> None:
    text = "ket |g> ~ N(0, 2)\nket |b> ~ bernoulli(<g|g>)\noutput <b>\n"
    program = driver.compile(Source("p.nexort", text))
    run = driver.limit(program) if command == "limit" else driver.simulate(program, width=64, seeds=2)
    (problem,) = run.failed.values()
    assert problem.code == "NX421" and "between 0 and 1" in problem.message
