"""Data over `step` with an entry for each update: what reads them ends with the last update.

The same program with one more entry computes the same values, and one more; and a dense network in NumPy trains on the
same batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc

X, Y = np.random.default_rng(0).normal(size=(4, 2, 2)), np.random.default_rng(1).normal(size=(4, 2))
LAST = 3  # the number of updates
PROGRAM = """
PARAMETRIZATION
axis i
axis d
data x[step,i,d]
data y[step,i]
ket |u[d]> ~ N(0, 1)
ket |v> ~ N(0, 1)
scalar c = 0.3
def net(x[d]) { return CLT <v|PHI(sum[d](x[d] |u[d]>))> + c }
twice[step,i] = 2 * y[step,i]
train EXTENT {
    f[i] = net(x[step,i,d])
    loss = mean[i]((f[i] - twice[step,i] / 2)^2) / 2
    minimize loss
    update |u>, |v>, c with OPTIMIZER
}
output loss[step]
output f[step,i]
output y[step,i]
output now[step,i] = net(x[step,i,d])
output g[step,i] = net(x[1,i,d])
output lag[step] = loss[step-1]
output ratio[step] = loss * net(x[1,1,d]) + loss[0]
output cut[step] = net(x[1,1,d]) * loss[0] + loss
output average = mean[step](loss[step])
output first = loss[0]
output difference = mean[step](g[step,1]) - mean[step](loss[step])
output last[i] = net(x[1,i,d])
"""
#: Functions of random numbers, which are not those of their averages.
NONLINEAR = """
output largest = max[step](loss[step])
output mixed = sum[step](y[step,1] * g[step,1])
output weighted = sum[step](softmax[step](g[step,1]) * loss[step] * step)
"""
#: Outputs over the steps that have a value after the last update.
WHOLE = ("g", "lag")
CASES = {
    "sampled": ("", "", "tanh", "steps = 3", "Adam(lr = 0.1, eps = 0.01)"),
    "linear": ("", "", "", "steps = 3", "SGD(lr = 0.1)"),
    "tangent": ("parametrization ntk", "clt", "tanh", "steps = 3", "SGD(lr = 0.3)"),
    "flow": ("parametrization ntk", "clt", "tanh", "time = [0.5, 1, 2]", "SGD(lr = 0.3)"),
}


def text(case: str, more: str = "") -> str:
    found = PROGRAM + more
    for word, chosen in zip(("PARAMETRIZATION", "CLT", "PHI", "EXTENT", "OPTIMIZER"), CASES[case], strict=True):
        found = found.replace(word, chosen)
    return found


def data(entries: int) -> dict[str, Any]:
    return {"x": X[:entries], "y": Y[:entries]}


def run(engine: str, program: Any, **more: Any) -> tpc.Run:
    if engine == "simulate":
        return tpc.simulate(program, 16, seeds=2, **more)
    return tpc.limit(program, samples=32, replicates=2, f0="zero", **more)


def compared(short: tpc.Run, long: tpc.Run, tolerance: float) -> None:
    assert not short.failed and not long.failed
    for name in short:
        one, other = short[name], long[name]
        if short.outputs[name].axes[:1] == ("step",):
            assert len(other) == LAST + 1 and len(one) == LAST + (name in WHOLE), name
            np.testing.assert_allclose(one, other[: len(one)], rtol=1e-9, atol=1e-12, err_msg=name)
    loss, g = short["loss"], short["g"][:, 0]
    np.testing.assert_allclose(short["average"], loss.mean(), atol=tolerance)
    np.testing.assert_allclose(short["difference"], g.mean() - loss.mean(), atol=tolerance)
    np.testing.assert_allclose(short["first"], loss[0], atol=1e-12)
    np.testing.assert_array_equal(short["y"], Y[:LAST])
    np.testing.assert_allclose(short["last"], short["g"][-1], atol=1e-12)


SLOW = [pytest.param(case, "limit", marks=pytest.mark.slow) for case in ("sampled", "tangent", "flow")]


@pytest.mark.parametrize(("case", "engine"), [*((case, "simulate") for case in CASES), ("linear", "limit"), *SLOW])
def test_one_entry_more_changes_nothing_else(case: str, engine: str) -> None:
    short, long = (run(engine, text(case), data=data(entries)) for entries in (LAST, LAST + 1))
    # averages have their own bias: half a standard error
    compared(short, long, 1e-2 if (case, engine) == ("sampled", "limit") else 1e-9)


def test_sampled_trajectories() -> None:
    program = text("sampled").split("output ratio")[0]
    short, long = (run("limit", program, data=data(entries)) for entries in (LAST, LAST + 1))
    assert short["loss"].shape == (LAST,) and short["lag"].shape == (LAST + 1,)
    for name in short:
        np.testing.assert_allclose(short[name], long[name][: len(short[name])], rtol=1e-9, atol=1e-12)


def test_functions_of_the_steps_end_with_the_last_update() -> None:
    """In a linear network, whose limit is exact."""
    found = run("limit", text("linear", NONLINEAR), data=data(LAST))
    loss, g = found["loss"], found["g"][:LAST, 0]
    np.testing.assert_allclose(found["largest"], loss.max(), rtol=1e-12)
    np.testing.assert_allclose(found["mixed"], (Y[:LAST, 0] * g).sum(), rtol=1e-12)
    weights = np.exp(g) / np.exp(g).sum()
    np.testing.assert_allclose(found["weighted"], (weights * loss * np.arange(LAST)).sum(), rtol=1e-12)


def test_a_network_in_numpy() -> None:
    """The linear network as the 2 x 2 covariances of its kets, trained by hand."""
    found = run("limit", text("linear"), data=data(LAST))
    u, v, c = np.eye(3)[:2], np.eye(3)[2], 0.3  # coordinates of |u[d]> and |v>
    losses = []
    for x, y in zip(X[:LAST], Y[:LAST], strict=True):
        error = x @ u @ v + c - y
        losses.append((error**2).mean() / 2)
        u, v, c = u - 0.1 * np.outer(x.T @ error, v) / 2, v - 0.1 * error @ x @ u / 2, c - 0.1 * error.mean()
    np.testing.assert_allclose(found["loss"], losses, rtol=1e-12)
    np.testing.assert_allclose(found["last"], X[1] @ u @ v + c, rtol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_written_out_it_is_the_same_program(case: str) -> None:
    more = NONLINEAR if case == "linear" else ""
    program = tpc.compile(text(case, more), data=data(LAST))
    again = tpc.expand(text(case, more), data=data(LAST))
    one, other = run("simulate", program), run("simulate", again)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_shorter_sum_of_which_nothing_says_so_is_not_written() -> None:
    vanishing = text("linear", "output z = sum[step](0 * y[step,1] + g[step,1])\n")
    with pytest.raises(tpc.ProgramError, match="NX502"):
        tpc.expand(vanishing, data=data(LAST))


def test_equations_have_a_time_that_ends_with_the_last_update() -> None:
    wanted = ("loss", "f", "lag", "average", "largest")
    lines = [s for s in text("linear", NONLINEAR).splitlines() if not s.startswith("output ")]
    program = "\n".join(lines + [s for s in text("linear", NONLINEAR).splitlines() if s[7:].startswith(wanted)])
    page = tpc.derive(program, data=data(LAST)).unicode()
    for line in (
        "τ = 0, 1, 2",
        "t = 0, 1, …, 3 counts the updates made",
        "loss_τ = Σ_i (f_{τ,i} − twice_{τ,i}/2)²/4",
        "average = Σ_τ loss_τ/3",
        "largest = max_τ(loss_τ)",
        "lag_t = step(t − 1/2) loss_{max(t,1)−1}",
    ):
        assert line in page, line
    assert "τ" not in tpc.derive(program, data=data(LAST + 1)).unicode()


def test_verification() -> None:
    found = tpc.verify(text("linear"), data=data(LAST), widths=(64, 128), seeds=8)
    assert {check.name for check in found.checks} >= {"loss", "now", "average"}


@pytest.mark.parametrize(
    "output, code",
    [
        ("z = loss", "NX164"),
        ("z[i] = f[i]", "NX164"),
        ("z = loss[3]", "NX225"),
        ("z[step] = loss[step+1]", "NX225"),
        ("z[step] = y[step+1,1]", "NX225"),
        ("z = loss[step]", "NX201"),
    ],
)
def test_what_comes_after_the_last_update_needs_an_entry(output: str, code: str) -> None:
    with pytest.raises(tpc.ProgramError, match=code):
        tpc.compile(text("linear", f"output {output}\n"), data=data(LAST))


def test_other_numbers_of_entries() -> None:
    with pytest.raises(tpc.ProgramError, match=r"`x` has 2 entries over `step`, but training has 3 steps"):
        tpc.compile(text("linear"), data=data(2))


@pytest.mark.parametrize("value", ["<u|u>", "step * <u|u>", "loss", "loss[step] * g", "loss[step] * <u|u>"])
def test_values_of_every_step_within_sums_are_named_over_step(value: str) -> None:
    """Never a value of another step, and no crash."""
    text = """
    data x[step] = [1, 0.5]
    ket |u> ~ uniform(1)
    train steps = 2 {
        g = <u|u>
        loss = (x[step] * g - 1)^2
        minimize loss
        update |u> with SGD(lr = 0.1)
    }
    """
    with pytest.raises(tpc.ProgramError, match=r"NX201.*value of every step"):
        tpc.compile(f"{text}output s = sum[step]({value})\n")
    run = tpc.limit(f"{text}output s = sum[step](loss[step] * g[step])\noutput loss[step]\noutput g[step]\n")
    assert run["s"] == pytest.approx(run["loss"] @ run["g"][:2], abs=1e-12)


def test_mean_squares_over_the_steps() -> None:
    run = tpc.limit("""
    data y[step] = [1, 2, 3]
    ket |u> ~ N(0, 1)
    ket |w> ~ N(0, 1)
    train steps = 3 {
        f = <u|w>
        minimize (f - 1)^2
        update |w> with SGD(lr = 0.1)
    }
    output f[step]
    output s = mse[step](f[step], y[step])
    """)
    assert run["s"] == pytest.approx(np.mean((run["f"][:3] - [1, 2, 3]) ** 2), abs=1e-12)
