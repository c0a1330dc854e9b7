"""Networks side by side: the digits of each do not depend on how many share its arrays."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler.finite import run
from tp_compiler.finite.batch import Networks
from tp_compiler.finite.tiles import TILE
from tp_compiler.finite.weights import NO_WEIGHTS

EXAMPLES = Path(__file__).parents[3] / "examples"
#: Training, optimizers of entries and of matrices, attention, averages over several neurons, positions, laws of kets.
SOME = {
    "train_mlp", "transformer", "shampoo", "outer_nonlin", "embedding", "attention_clt", "width_classes", "kfac",
    "correlated_kets", "nngp_posterior",
}  # fmt: skip
PROGRAMS = [
    pytest.param(path, id=path.stem, marks=() if path.stem in SOME else pytest.mark.slow)
    for path in sorted(EXAMPLES.rglob("*.nexort"))
    if path.stem not in ("maml", "word2vec")  # their data are not in the repository
]


def networks(program: tpc.Program, dtype: type[np.floating], width: int = 19, tile: int = TILE) -> Networks:
    return Networks(program, None, width, 5, np.dtype(dtype), tile, NO_WEIGHTS)


@pytest.mark.parametrize("path", PROGRAMS)
def test_digits_do_not_depend_on_how_many_share_an_array(path: Path) -> None:
    program = tpc.compile(path)
    if program.loop is not None and program.loop.times:
        return  # networks that flow are computed alone (below)
    for dtype in (np.float64, np.float32):
        compute = networks(program, dtype)
        eight = compute(range(8))
        for others in (compute([2, 5, 7]), compute([2])):
            for name, value in others[0][0].items():
                np.testing.assert_array_equal(value, eight[2][0][name], strict=True)
            assert others[0][0].keys() == eight[2][0].keys()
        if path.stem in SOME:
            assert any(np.ptp([values[name] for values, _ in eight], axis=0).any() for name in eight[0][0])


def test_digits_do_not_depend_on_tiles_of_networks() -> None:
    """Pieces of an average, and of the update of a matrix, that hold one network, a few, and all."""
    program = tpc.compile(EXAMPLES / "outer_nonlin.nexort")
    for tile in (300, 2500):
        compute = networks(program, np.float64, tile=tile)
        eight = compute(range(8))
        for number in (0, 4, 7):
            (alone,) = compute([number])
            for name, value in alone[0].items():
                np.testing.assert_array_equal(value, eight[number][0][name])


DIVERGES = """
    axis i : 2
    data x[i] = [1.0, -0.5]
    ket |u> ~ N(0, 1)
    ket |v> ~ N(0, 1)
    def f(a) { return <v|exp(a |u>)> }
    train steps = 2 {
        s = mean[i](f(x[i])^2)
        minimize s
        update |u>, |v> with SGD(lr = 2.6)
    }
    output f[i] = f(x[i])
    output g = <u|u>
    output start = <v|v>
"""


def test_a_network_that_fails_takes_no_value_from_the_others() -> None:
    """Some of these trainings diverge; each network has the outputs and the messages that it has alone."""
    compute = networks(tpc.compile(DIVERGES), np.float32, width=5)
    together = compute(range(16))
    alone = [compute([number])[0] for number in range(16)]
    kinds = {bool(lost) for _, lost in alone}
    assert kinds == {False, True}
    for (values, lost), (own, why) in zip(together, alone, strict=True):
        assert {k: str(v) for k, v in lost.items()} == {k: str(v) for k, v in why.items()}
        assert values.keys() == own.keys()
        for name, value in values.items():
            np.testing.assert_array_equal(value, own[name])


def test_an_output_without_a_value_leaves_the_others_side_by_side() -> None:
    """What no network can compute is named once for all; only the first is computed again."""
    program = tpc.compile(
        "ket |u> ~ N(0, 1)\nmatrix W ~ N(0, 1)\noutput bad = log(-<u|u>)\noutput good = <u|tanh(W |u>)>"
    )
    compute = networks(program, np.float64)
    with mock.patch.object(compute, "_networks", wraps=compute._networks) as each:
        found = compute(range(8))
    assert [len(call.args[0]) for call in each.call_args_list] == [8, 1]
    assert all(list(values) == ["good"] and list(lost) == ["bad"] for values, lost in found)
    assert len({float(values["good"]) for values, _ in found}) == 8


@pytest.mark.parametrize("name", ["train_mlp", pytest.param("gradient_flow", marks=pytest.mark.slow)])
def test_samples_are_those_of_single_networks(name: str) -> None:
    """However the cache and the memory cut the seeds into pieces."""
    program = tpc.compile(EXAMPLES / f"{name}.nexort")
    whole = run.samples(program, 5, 3)
    for cache in (1, 1 << 13):
        with mock.patch.object(run, "CACHE", cache):
            pieces = run.samples(program, 5, 3)
        for output, value in whole.values.items():
            np.testing.assert_array_equal(value, pieces.values[output])


def test_memory_for_one_network_is_enough() -> None:
    program = tpc.compile(EXAMPLES / "train_mlp.nexort")
    with pytest.raises(tpc.ProgramError, match="needs about") as refused:
        run.samples(program, 64, 4, max_memory=1000)
    assert refused.value.diagnostics[0].code == "NX431"
    most = run.peak(networks(program, np.float64).plan, lambda w: 64, TILE)
    run.samples(program, 64, 4, max_memory=8 * (most.entries + 1000))
