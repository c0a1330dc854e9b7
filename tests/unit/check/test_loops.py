"""`for l { .. }` and `size(l)`: the same programs as with bounds and numbers written out, at every size of the axis."""

from __future__ import annotations

import math

import pytest

import tp_compiler as tpc

RESNET = """
axis i : 2
axis l : {depth}
data xi[i] = [1, 2]
ket |u> ~ N(0, 1)
matrix A[l] ~ N(0, 2)
|x[i]> = xi[i] |u>
{loop} {{ |x[i]> = |x[i]> + A[l] relu(|x[i]>) / sqrt({size}) }}
output K[i] = <x[i]|x[i]>
"""


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_over_all_positions(depth: int) -> None:
    """x_{l+1} = x_l + A_l relu(x_l)/√L with A ~ N(0, 2): |x|² grows by (1 + 1/L) in each of L layers."""
    found = tpc.limit(RESNET.format(depth=3, loop="for l", size="size(l)"), settings={"l": depth})
    written = tpc.limit(RESNET.format(depth=depth, loop=f"for l in 1..{depth}", size=depth))
    assert found["K"].tolist() == written["K"].tolist()
    assert found["K"] == pytest.approx([(1 + 1 / depth) ** depth, 4 * (1 + 1 / depth) ** depth], rel=1e-10)


def value(program: str) -> float:
    return float(tpc.limit(program)["f"])


def test_sizes() -> None:
    assert value("axis i, j : 3\noutput f = size(i) + 10 * size(j)") == 33
    assert value("axis i : 3\nc = 0\nfor i { c = c + size(i) * i }\noutput f = c") == 18
    assert value("axis i : 3\ndata y[i] = [1, 2, 4]\noutput f = sum[i](y[i]) / size(i)") == pytest.approx(7 / 3)
    assert value("axis i : 3\ndef f1(c) { for i { c = c * i + size(i) }\nreturn c }\noutput f = f1(1)") == 36
    assert value("axis i : 4\nfor k in 1..size(i) - 1 { c = k }\noutput f = c") == 3


def test_an_axis_that_takes_its_size_from_data() -> None:
    program = "axis i\ndata y[i] = [1, 2, 4]\nc = 0\nfor i { c = c + y[i] / size(i) }\noutput f = c"
    assert value(program) == pytest.approx(7 / 3)


def test_loops_in_loops_and_in_training() -> None:
    assert value("axis i : 2\naxis j : 3\nc = 0\nfor i { for j { c = c + i * j } }\noutput f = c") == 18
    program = """
axis l : 2
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
matrix W[l] ~ N(0, 1)
train steps = 2 {
    |h> = |u>
    LOOP { |h> = |h> + W[l] tanh(|h>) / SIZE }
    f = <v|h>
    minimize (f - 1)^2
    update all with SGD(lr = 0.1)
}
output f[step]
"""
    one, other = (
        tpc.limit(program.replace("LOOP", loop).replace("SIZE", size), samples=256)["f"]
        for loop, size in (("for l", "size(l)"), ("for l in 1..2", "2"))
    )
    assert one.tolist() == other.tolist() and math.isfinite(one[-1])


def test_size_remains_a_name() -> None:
    assert value("size = 3\noutput f = 2 * size") == 6
    assert value("def size(c) { return 5 * c }\noutput f = size(2)") == 10
    assert value("axis size : 2\ndata y[size] = [1, 2]\noutput f = sum[size](y[size])") == 3
    assert value("axis i : 2\nscalar size = 1\noutput f = size + 1") == 2


def test_the_canonical_layout_keeps_them() -> None:
    program = RESNET.format(depth=3, loop="for l", size="size(l)")
    formatted = tpc.format(program)
    assert "for l { |x[i]> = |x[i]> + A[l] relu(|x[i]>) / sqrt(size(l)) }" in formatted
    assert tpc.format(formatted) == formatted
