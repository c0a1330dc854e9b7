from __future__ import annotations

import numpy as np
import pytest

from tests.unit.finite.programs import (
    SOURCE,
    S,
    drawn_ket,
    drawn_matrix,
    indices,
    ket,
    matrix,
    program,
    span,
)
from tp_compiler.diagnostics import ProgramError
from tp_compiler.finite.run import samples, simulate
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import Builder
from tp_compiler.ir.program import Output, Program
from tp_compiler.ir.types import Width

n = 12


def one(node: ir.Node, **options) -> np.ndarray:
    found = samples(program(f=node), n, 1, **options)
    assert not found.failed, found.failed
    return found.values["f"][0]


def failure(node: ir.Node):
    return samples(program(f=node), n, 1).failed["f"]


def test_matrix_family_members_and_gram() -> None:
    b = Builder()
    (layer,), (i, j), (d,) = indices(2, "l"), indices(3, "i", "j"), indices(4, "d")
    xi = np.arange(12.0).reshape(3, 4) / 5
    u = ket(b, "u", (d,))
    x = b.contract((b.array("xi", xi, (i, d), False, S), u), (d,), (), S)
    a = matrix(b, "A", (layer,), var=2.0)
    h = b.matmul(a, (layer,), False, x, S)
    y = b.matmul(a, (layer,), True, b.map("tanh", (h,), S), S)
    gram = b.contract((y, b.rename(y, {i: j}, S)), (), (0,), S)
    second = b.average(b.matmul(a, (2,), False, b.map("square", (x,), S), S), S)
    found = samples(program(gram=gram, second=second), n, 1).values
    xs = xi @ drawn_ket("u", n, 4)
    ws = [drawn_matrix("A", n, n, k, 2.0) for k in range(2)]
    ys = np.stack([np.tanh(xs @ w.T) @ w for w in ws], 1)
    assert gram.type.indices == (i, layer, j)
    np.testing.assert_allclose(found["gram"][0], np.einsum("ila,jla->ilj", ys, ys) / n, rtol=1e-12)
    np.testing.assert_allclose(found["second"][0], (xs**2 @ ws[1].T).mean(1), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("ratio", [0.25, 4.0])
def test_rectangular_widths(ratio: float) -> None:
    b = Builder()
    m = Width("m", ratio)
    x, w = ket(b, "x"), matrix(b, "R", rows=m, var=3.0)
    h = b.matmul(w, (), False, x, S)
    back = b.matmul(w, (), True, h, S)
    values = samples(program(a=b.contract((h, h), (), (0,), S), c=b.contract((back, x), (), (0,), S)), n, 1).values
    size = round(ratio * n)
    xs, r = drawn_ket("x", n)[0], drawn_matrix("R", size, n, var=3.0)
    assert values["a"][0] == pytest.approx((r @ xs) @ (r @ xs) / size)
    assert values["c"][0] == pytest.approx(xs @ r.T @ r @ xs / n)


@pytest.mark.parametrize("law", ["normal", "rademacher", "uniform"])
def test_laws_have_the_variance_of_their_fan_in(law: str) -> None:
    b = Builder()
    x = ket(b, "x", mean=1.0, var=0.0)
    w = matrix(b, "W", law=law, var=2.0, cols=Width("m", 2.0), rows=Width("m", 2.0))
    x = ket(b, "x", mean=1.0, var=0.0, width=Width("m", 2.0))
    h = b.matmul(w, (), False, x, S)
    found = samples(program(s=b.average(b.map("square", (h,), S), S)), 400, 2).values["s"]
    np.testing.assert_allclose(found, 2.0, rtol=0.25)


@pytest.mark.parametrize("tile", [5, 40, 1 << 20])
def test_outer_nonlin_of_order_one_and_two(tile: int) -> None:
    b = Builder()
    (i, j) = indices(2, "i", "j")
    x, z = ket(b, "x", (i,)), ket(b, "z", mean=0.5)
    s, t = b.slot(), b.slot()
    g = b.contract((x, b.copy(b.rename(x, {i: j}, S), s, S)), (), (), S)
    g = b.rename(g, {j: i}, S)
    first = b.contract((b.map("tanh", (g,), S), b.copy(z, s, S)), (), (s,), S)
    three = b.map("sin", (b.map("add", (g, b.copy(z, t, S)), S),), S)
    second = b.contract((three, b.copy(z, s, S)), (i,), (s, t), S)
    out = program(a=b.contract((first, z), (), (0,), S), c=b.contract((second, second), (), (0,), S))
    found = samples(out, n, 1, tile=tile).values
    xs, zs = drawn_ket("x", n, 2), drawn_ket("z", n)[0] + 0.5
    gs = xs[:, :, None] * xs[:, None, :]
    ys = np.tanh(gs) @ zs / n
    np.testing.assert_allclose(found["a"][0], ys @ zs / n, rtol=1e-12)
    full = np.einsum("iabc,b->a", np.sin(gs[..., None] + zs), zs) / n**2
    np.testing.assert_allclose(found["c"][0], full @ full / n, rtol=1e-12)


@pytest.mark.parametrize("tile", [3, 60, 1 << 20])
def test_nested_average_inside_a_tile(tile: int) -> None:
    b = Builder()
    m = Width("m", 0.5)
    x, z, q = ket(b, "x"), ket(b, "z"), ket(b, "q", width=m)
    s, t = b.slot(), b.slot()
    outer = b.map("add", (x, b.copy(z, s, S)), S)
    inner = b.contract((b.map("cos", (b.mul(outer, b.copy(q, t, S), S),), S), b.copy(q, t, S)), (), (t,), S)
    assert len(inner.type.slots) == 2
    body = b.map("exp", (b.add(inner, outer, S),), S)
    y = b.contract((body, b.copy(x, s, S)), (), (s,), S)
    found = one(b.contract((y, y, y), (), (0,), S), tile=tile)
    xs, zs, qs = drawn_ket("x", n)[0], drawn_ket("z", n)[0], drawn_ket("q", n // 2)[0]
    o = xs[:, None] + zs
    ys = np.exp((np.cos(o[..., None] * qs) * qs).mean(-1) + o) @ xs / n
    assert found == pytest.approx((ys**3).mean())


def test_deep_bodies_and_programs_need_no_recursion() -> None:
    b = Builder()
    x, w = ket(b, "x"), matrix(b, "W")
    s = b.slot()
    g = h = x
    g = b.mul(x, b.copy(x, s, S), S)
    for _ in range(1500):
        g = b.map("tanh", (b.map("add", (g, b.constant(0.1, S)), S),), S)
        h = b.map("sin", (b.map("add", (h, x), S),), S)
    y = b.contract((g, b.copy(b.matmul(w, (), False, h, S), s, S)), (), (s,), S)
    assert np.isfinite(one(b.average(y, S)))


def test_correlated_family_and_mean() -> None:
    b = Builder()
    (i, j) = indices(3, "i", "j")
    root = np.array([[1.0, 0, 0], [2, 1, 0], [0, 1, 0]])
    cov = root @ root.T
    symbol = ir.KetSymbol("g", (i,), Width("n", 1.0), S, pair=(i, j))
    g = b.initial_ket(symbol, b.array("m", np.array([1.0, 2, 3]), (i,), False, S), b.array("S", cov, (i, j), 0, S), S)
    found = samples(program(m=b.average(g, S), c=b.contract((g, b.rename(g, {i: j}, S)), (), (0,), S)), 20000, 1)
    np.testing.assert_allclose(found.values["m"][0], [1, 2, 3], atol=0.07)
    np.testing.assert_allclose(found.values["c"][0], cov + np.outer([1, 2, 3], [1, 2, 3]), atol=0.5)


@pytest.mark.parametrize(
    ("cov", "code"), [([[1.0, 2], [2, 1]], "NX422"), ([[1.0, 0.5], [0.1, 1]], "NX423"), (None, "NX421")]
)
def test_impossible_covariances(cov, code: str) -> None:
    b = Builder()
    (i, j) = indices(2, "i", "j")
    if cov is None:
        assert failure(b.average(ket(b, "u", var=-1.0), S)).message == "the variance of `|u>` is negative (-1)"
        assert failure(b.average(ket(b, "u", var=-1.0), S)).code == code
        return
    symbol = ir.KetSymbol("g", (i,), Width("n", 1.0), S, pair=(i, j))
    g = b.initial_ket(symbol, b.constant(0, S), b.array("S", np.array(cov), (i, j), False, S), S)
    assert failure(b.average(g, S)).code == code


def test_indices_gather_diagonal_position_shift_stack_reduce() -> None:
    b = Builder()
    (i, j), (k,), (t,) = indices(3, "i", "j"), indices(4, "k"), indices(2, "t")
    a = np.random.default_rng(0).standard_normal((3, 3, 4))
    j_k = b.array("a", a, (i, j, k), False, S)
    tok = b.array("tok", np.array([3, 1]), (t,), True, S)
    own = b.array("own", np.array([4, 1, 2]), (i,), True, S)
    np.testing.assert_allclose(one(b.reindex(j_k, (i, i, k), (), S)), np.einsum("iik->ik", a))
    np.testing.assert_allclose(one(b.reindex(j_k, (j, i, 2), (), S)), a[:, :, 1])
    np.testing.assert_allclose(one(b.reindex(j_k, (i, ir.Gather(1), 2), (tok,), S)), a[:, [2, 0], 1])
    found = b.reindex(j_k, (i, 1, ir.Gather(1)), (own,), S)
    np.testing.assert_allclose(one(found), a[[0, 1, 2], 0, [3, 0, 1]])
    for by in (-5, -1, 0, 2):
        expected = np.zeros_like(a)
        for p in range(4):
            if 0 <= p - by < 4:
                expected[..., p] = a[..., p - by]
        np.testing.assert_allclose(one(b.shift(j_k, k, by, S)), expected)
    np.testing.assert_allclose(one(b.stack((b.constant(2, S), b.position(k, S)), t, S)), [[2] * 4, [1, 2, 3, 4]])
    np.testing.assert_allclose(one(b.reduce("max", j_k, j, S)), a.max(1))
    np.testing.assert_allclose(one(b.reduce("prod", j_k, i, S)), a.prod(0))
    big = b.map("add", (j_k, b.constant(1000.0, S)), S)
    np.testing.assert_allclose(one(b.reduce("logsumexp", big, k, S)), 1000 + np.log(np.exp(a).sum(2)))
    u = ket(b, "u", (k,))
    picked = b.reindex(u, (ir.Gather(1),), (own,), S)
    np.testing.assert_allclose(one(b.average(picked, S)), drawn_ket("u", n, 4)[[3, 0, 1]].mean(1))


def test_gather_out_of_range() -> None:
    b = Builder()
    (k,), (t,) = indices(4, "k"), indices(2, "t")
    u = ket(b, "u", (k,))
    for bad in ([0, 1], [1, 5], [1.5, 1]):
        x = b.reindex(u, (ir.Gather(1),), (b.array("t", np.array(bad), (t,), True, S),), S)
        assert failure(b.average(x, S)).code == "NX424"


def test_finite_matrices() -> None:
    b = Builder()
    (i, j) = indices(3, "i", "j")
    k = np.array([[2.0, 1, 0], [1, 3, 1], [0, 1, 4]])
    node, y = b.array("k", k, (i, j), False, S), b.array("y", np.array([1.0, 2, 3]), (j,), False, S)
    np.testing.assert_allclose(one(b.linalg("inv", i, j, (node,), "", S)), np.linalg.inv(k))
    np.testing.assert_allclose(one(b.linalg("solve", i, j, (node, y), "", S)), np.linalg.solve(k, [1, 2, 3]))
    root = one(b.linalg("pow", i, j, (node, b.constant(0.5, S)), "", S))
    np.testing.assert_allclose(root @ root, k, atol=1e-12)
    lower = one(b.linalg("cholesky", i, j, (node,), "", S))
    np.testing.assert_allclose(lower @ lower.T, k, atol=1e-12)
    assert one(b.linalg("logdet", i, j, (node,), "", S)) == pytest.approx(np.log(np.linalg.det(k)))
    log = b.linalg("matfun", i, j, (b.linalg("matfun", i, j, (node,), "log", S),), "exp", S)
    np.testing.assert_allclose(one(log), k, atol=1e-12)
    flat = b.array("o", np.ones((3, 3)), (i, j), False, S)
    for op in ("inv", "cholesky", "logdet"):
        assert failure(b.linalg(op, i, j, (flat,), "", span(3))).code == "NX414"
    assert failure(b.linalg("pow", i, j, (flat, b.constant(-0.5, S)), "", S)).code == "NX414"
    skew = b.array("s", np.triu(k), (i, j), False, S)
    assert "not symmetric" in failure(b.linalg("matfun", i, j, (skew,), "exp", S)).message


def test_clt_and_covariance() -> None:
    b = Builder()
    (i,) = indices(2, "i")
    v, x = ket(b, "v"), ket(b, "x", (i,))
    f = b.clt(v, x, S)
    run = simulate(program(f=f, g=b.map("square", (f,), S)), width=n, seeds=5)
    drawn = np.stack([drawn_ket("x", n, 2, 0, s) @ drawn_ket("v", n, 1, 0, s)[0] for s in range(5)]) / np.sqrt(n)
    np.testing.assert_allclose(run["f"], drawn.mean(0))
    np.testing.assert_allclose(run.outputs["f"].covariance, np.cov(drawn.T))
    np.testing.assert_allclose(run.outputs["f"].stderr, drawn.std(0, ddof=1) / np.sqrt(5))
    assert (run.outputs["f"].law, run.outputs["g"].law) == ("gaussian", "sampled")
    assert run.outputs["f"].covariance_stderr.shape == (2, 2)


def test_output_broadcasts_over_indices_its_node_lacks() -> None:
    b = Builder()
    (i, j) = indices(2, "i", "j")
    node = b.position(j, S)
    run = simulate(Program(SOURCE, (Output("f", (i, j), node, S),)), width=4, seeds=2)
    assert run["f"].tolist() == [[1, 2], [1, 2]] and not run.outputs["f"].stderr.any()
    assert run.outputs["f"].axes == ("i", "j") and run.settings["width"] == 4


def test_one_seed_warns_and_float32_stays() -> None:
    b = Builder()
    x = ket(b, "x")
    run = simulate(program(f=b.average(b.map("gelu", (x,), S), S)), width=n, seeds=1, dtype="float32")
    assert [w.code for w in run.warnings] == ["NX910"] and run.outputs["f"].stderr == 0
    assert samples(program(f=b.average(x, S)), n, 2, dtype="float32").values["f"].dtype == np.float32


def test_values_do_not_depend_on_what_else_is_computed() -> None:
    b = Builder()
    x, w = ket(b, "x"), matrix(b, "W")
    f = b.average(b.map("relu", (b.matmul(w, (), False, x, S),), S), S)
    both = program(g=b.average(b.matmul(w, (), True, x, S), S), f=f)
    ticks: list[tuple[int, int]] = []
    only = samples(both, n, 2, only={"f"}, progress=lambda *a: ticks.append(a)).values
    assert list(only) == ["f"] and ticks == [(1, 2), (2, 2)]
    np.testing.assert_array_equal(only["f"], samples(both, n, 2).values["f"])


def test_a_failure_poisons_only_its_dependents() -> None:
    b = Builder()
    x = ket(b, "x")
    lost = b.unavailable("`svd`", (x,), (), None, span(2))
    run = simulate(program(a=b.add(lost, b.average(x, S), S), c=b.average(x, S)), width=n, seeds=2)
    assert list(run.outputs) == ["c"] and run.failed["a"].code == "NX500"
    assert run.failed["a"].message == "`svd` is not supported by any evaluator in this version" and run.failed[
        "a"
    ].span == span(2)


def test_blame_for_values_that_are_not_finite() -> None:
    b = Builder()
    x = ket(b, "x")
    zero = b.map("add", (x, b.neg(x, S)), S)
    cases = {
        "NX411": b.map("div", (x, zero), span(4)),
        "NX413": b.map("log", (b.map("add", (zero, b.constant(-1, S)), S),), span(5)),
        "NX412": b.map("exp", (b.map("mul", (b.map("square", (x,), S), b.constant(1e6, S)), S),), span(6)),
    }
    s = b.slot()
    for code, bad in cases.items():
        late = b.average(b.map("tanh", (b.matmul(matrix(b, "W"), (), False, b.map("sin", (bad,), S), S),), S), S)
        tiled = b.contract((b.map("cos", (b.mul(bad, b.copy(x, s, S), S),), S), x), (), (0, s), S)
        for node in (late, tiled):
            found = failure(node)
            assert (found.code, found.span) == (code, bad.span)
    inside = b.map("sqrt", (b.mul(x, b.copy(x, s, S), S),), span(7))
    found = failure(b.contract((b.map("sin", (inside,), S), x), (), (0, s), S))
    assert (found.code, found.span) == ("NX413", span(7))


def test_undefined_parameters_are_blamed_on_their_origin() -> None:
    b = Builder()
    (i, j) = indices(2, "i", "j")
    x = ket(b, "x")
    bad = b.map("log", (b.map("mul", (b.position(i, S), b.constant(-1, S)), S),), span(8))
    total = b.contract((bad,), (i,), (), S)
    drawn = b.initial_ket(ir.KetSymbol("y", (), x.type.width, S), b.constant(0, S), total, S)
    w = ir.MatrixSymbol("W", (), x.type.width, x.type.width, "normal", total, S)
    inverse = b.linalg("inv", i, j, (b.map("add", (bad, b.position(j, S)), S),), "", S)
    gathered = b.reindex(b.position(j, S), (ir.Gather(1),), (bad,), S)
    for node in (b.average(drawn, S), b.average(b.matmul(w, (), False, x, S), S), inverse, gathered):
        assert (failure(node).code, failure(node).span) == ("NX413", span(8))


def test_unselected_branches_may_be_undefined() -> None:
    b = Builder()
    x = ket(b, "x")
    safe = b.map("where", (x, b.map("log", (x,), S), b.constant(0, S)), S)
    xs = drawn_ket("x", n)[0]
    assert one(b.average(safe, S)) == pytest.approx(np.log(xs[xs > 0]).sum() / n)


def test_refusals_before_allocating() -> None:
    b = Builder()
    f = b.average(b.matmul(matrix(b, "W"), (), False, ket(b, "x"), S), S)
    for width, code in ((10**8, "NX431"), (0, "NX430")):
        with pytest.raises(ProgramError) as error:
            simulate(program(f=f), width=width)
        assert error.value.diagnostics[0].code == code
    with pytest.raises(ProgramError):
        simulate(program(f=f), width=1000, max_memory=1e6)
    simulate(program(f=f), width=300, max_memory=1e6, seeds=2)
