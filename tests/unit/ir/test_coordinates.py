"""What the positions along an axis stand for."""

from __future__ import annotations

import numpy as np

import tp_compiler as tpc
from tp_compiler.ir.coordinates import coordinates

NETWORK = "ket |u> ~ N(0, 1)\nket |v> ~ N(0, 1)\n"


def test_data_over_an_axis_alone_are_its_numbers() -> None:
    program = tpc.compile(
        f"axis r, s : 3\ndata lr[r] = [0.1, 0.2, 0.4]\n{NETWORK}output f[s] = lr[s] * <u|v>\noutput g[r] = lr[r]\n"
    )
    found = coordinates(program)
    assert coordinates(
        tpc.compile(f"axis r : 2\ndata k[r] = [1, 8]\n{NETWORK}output f[r] = k[r] * <u|v>\n")
    ).keys() == {"r"}
    assert {index: list(data) for index, data in found.items()} == {"r": ["lr"], "s": ["lr"]}
    np.testing.assert_array_equal(tpc.limit(program).coordinates["s"]["lr"], [0.1, 0.2, 0.4])
    np.testing.assert_array_equal(tpc.simulate(program, 8, seeds=2).coordinates["r"]["lr"], [0.1, 0.2, 0.4])


def test_points_of_several_coordinates_have_no_order() -> None:
    program = tpc.compile(
        "axis i : 2\naxis d : 2\ndata x[i,d] = [[1, 2], [3, 4]]\ndata y[i] = [1, -1]\nket |u[d]> ~ N(0, 1)\n"
        "output f[i] = y[i] * <tanh(sum[d](x[i,d] |u[d]>))>\n"
    )
    assert coordinates(program) == {}


def test_labels_are_no_numbers() -> None:
    program = tpc.compile(
        "axis w : 5\naxis i : 2\ndata tok[i] = [1, 4]\nket |e[w]> ~ N(0, 1)\noutput f[i] = <e[tok[i]]>\n"
    )
    assert coordinates(program) == {}


def test_data_that_only_training_reads() -> None:
    program = tpc.compile(
        f"axis r : 2\ndata lr[r] = [0.1, 1]\nket |w[r]> ~ N(0, 1)\n{NETWORK}"
        "train steps = 2 { f[r] = <w[r]|u>; minimize sum[r](lr[r] * (f[r] - 1)^2); update |w> with SGD(lr = 1) }\n"
        "output f[step,r]\n"
    )
    assert list(coordinates(program)) == ["r"] and list(coordinates(program)["r"]) == ["lr"]


def test_schedules_are_not_what_steps_stand_for() -> None:
    program = tpc.compile(
        f"data lr[step] = [0.5, 0.1]\n{NETWORK}"
        "train steps = 2 { f = <v|u>; minimize (f - 1)^2; update all with SGD(lr = lr[step]) }\noutput f[step]\n"
    )
    assert coordinates(program) == {}


def test_a_flow_has_times() -> None:
    program = tpc.compile(
        f"parametrization ntk\n{NETWORK}"
        "train time = [0.5, 2] { f = clt <v|u>; minimize (f - 1)^2; update all with SGD(lr = 1) }\noutput f[step]\n"
    )
    assert coordinates(program) == {"step": {"time": (0.0, 0.5, 2.0)}}
