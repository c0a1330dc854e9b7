"""An index that leaves its axis is an error; what `step` reads is the entry of that step."""

from __future__ import annotations

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler.diagnostics import ProgramError

STEPS = 3
PROGRAM = """
axis j : 3
data c[step] = [0.5, 1.0, -1.5, 2.0]
data k[step] = [3, 1, 2, 3]
data y[j] = [10.0, 20.0, 30.0]
ket |v> ~ N(0, 1)
train steps = 3 {
    minimize <v|v> * READ
    update |v> with SGD(lr = 0.1)
}
output f[step] = <v|v>
output last = READ
"""


def norms(read: str) -> np.ndarray:
    program = PROGRAM.replace("READ", read, 1).replace("output last = READ", "")
    return np.asarray(tpc.limit(program)["f"])


@pytest.mark.parametrize(
    ("read", "values"),
    [
        ("c[step]", (0.5, 1.0, -1.5)),
        ("c[step+1]", (1.0, -1.5, 2.0)),
        ("c[step-1]", (0.0, 0.5, 1.0)),
        ("c[step-2]", (0.0, 0.0, 0.5)),
        ("y[step]", (10.0, 20.0, 30.0)),
        ("y[k[step]]", (30.0, 10.0, 20.0)),
        ("y[k[step+1]]", (10.0, 20.0, 30.0)),
    ],
)
def test_a_step_reads_its_own_entry(read: str, values: tuple[float, ...]) -> None:
    """v ← (1 - 0.2 c) v: every factor of the norm says what was read."""
    found = norms(read)
    wanted = np.cumprod([1.0, *[(1 - 0.2 * c) ** 2 for c in values]])
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("read", ["c[step+2]", "y[step+1]", "y[k[step+2]]", "c[step+1/2]"])
def test_beyond_the_end_is_an_error(read: str) -> None:
    with pytest.raises(ProgramError) as problem:
        norms(read)
    assert problem.value.diagnostics[0].code in ("NX224", "NX225")


@pytest.mark.parametrize(
    "output",
    ["f[step+1] - f[step]", "c[step+1] * f[step]", "y[step]", "y[k[step]] + y[step] * f[step]", "f[5]", "f[step,1]"],
)
def test_outputs_over_the_steps_do_not_leave_them(output: str) -> None:
    """An output reads `step` once more than the loop."""
    program = PROGRAM.replace("READ", "c[step]", 1).replace("last = READ", f"d[step] = {output}")
    with pytest.raises(ProgramError):
        tpc.compile(program)


def test_what_the_loop_binds_is_read_once_more_by_an_output() -> None:
    program = PROGRAM.replace("minimize <v|v> * READ", "loss = <v|v> * y[step]\n    minimize loss")
    with pytest.raises(ProgramError, match=r"NX164.*`y` has 3 entries over `j`"):
        tpc.compile(program.replace("last = READ", "l[step] = loss[step]"))
    tpc.compile(program.replace("output last = READ", ""))


def test_gathers_that_have_no_name() -> None:
    found = tpc.limit("axis i : 2\naxis j : 3\ndata k[i] = [3, 1]\ndata y[j] = [10, 20, 30]\noutput y[k[i]]")
    np.testing.assert_array_equal(found["y[k[i]]"], [30, 10])


def test_step_as_a_number_counts_from_0_everywhere() -> None:
    """Under a sum over `step`, before the loop, in deltas, as in the loop and in outputs over it; likewise when expanded."""
    text = """
    axis i : 2
    data x[i] = [1.0, -0.5]
    ket |v> ~ N(0, 1)
    ket |u> ~ N(0, 1)
    early[step] = 0.5^step
    train steps = 2 {
        f[i] = <v|x[i] * u>
        loss = mean[i]((f[i] - 1)^2)
        minimize loss
        update all with SGD(lr = 0.3)
    }
    output loss[step]
    output early[step]
    output each[step] = step * loss
    output total = sum[step](step * loss[step])
    output last = sum[step](delta[step,2] * loss[step])
    output three = sum[step]((step + 3) * loss[step] / (1 + step))
    """
    for program in (text, tpc.expand(text)):
        run = tpc.limit(program)
        loss = np.asarray(run["loss"])
        np.testing.assert_allclose(run["early"], [1, 0.5, 0.25])
        np.testing.assert_allclose(run["each"], [0, loss[1], 2 * loss[2]], rtol=1e-12)
        assert run["total"] == pytest.approx(loss[1] + 2 * loss[2], rel=1e-9)
        assert run["last"] == pytest.approx(loss[2], rel=1e-9)
        assert run["three"] == pytest.approx(3 * loss[0] + 2 * loss[1] + 5 / 3 * loss[2], rel=1e-9)
