"""Particles in shards: the digits of a run without shards, up to rounding, and the same ones for any number of processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tp_compiler as tpc
from tests.benchmarks.training import OPTIMIZERS, tanh_network
from tp_compiler.evaluate.process_group import TorchProcesses

EXAMPLES = Path(__file__).parents[2] / "examples"
KETS = "ket |x> ~ N(0, 1)\nket |y> ~ N(0, 1)\nmatrix W ~ N(0, 1)\n"
#: Programs without entries of trained matrices and averages over copies, whose pairs are within shards.
PROGRAMS = {
    "sgd": tanh_network(OPTIMIZERS["SGD"], 4),
    "both directions": f"{KETS}|h> = tanh(W |x> + W^T |y>)\n|g> = W |h>\noutput <g|h>\noutput <x|W^T|g>\n",
    "dependent kets": f"{KETS}|u> = W (|x> + |y>) - W |x> - W |y>\noutput <u|u>\noutput <x|y>\noutput <x|W|x>\n",
    "many coordinates": f"axis i : 150\nket |z[i]> ~ N(0, 1)\n{KETS}|s> = sum[i](|z[i]>)\n"
    "output <tanh(s / 10)|tanh(W |x> + |y>)>\noutput <relu(s / 10)>\n",
    "draws of clt scalars": f"{KETS}c = clt <x|tanh(y)>\n|u> = tanh(c * |x> + W |y>)\noutput <u|u>\noutput c\n",
    "two averages at once": f"{KETS}|a> = |x>^2\n|b> = tanh(|x>)^2\noutput <E[1,2](|a>@1 * |b>@2)>\n",
    "events": f"{KETS}output <step(x - 3)>\noutput <step(x - 9)>\noutput <exp(0.8 x)>\n",
}  # fmt: skip


def limits(text: str, samples: int = 512, **options: object) -> tuple[tpc.Run, tpc.Run]:
    """Without shards, and with four."""
    one, shared = (
        tpc.limit(text, method="qmc", samples=samples, **options, **more)  # type: ignore[arg-type]
        for more in ({}, {"shards": 4})
    )
    assert one.outputs.keys() == shared.outputs.keys() and one.failed.keys() == shared.failed.keys()
    return one, shared


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in ("many coordinates", "events")])
def test_shards_have_the_digits_of_one_array(name: str) -> None:
    one, shared = limits(PROGRAMS[name], seed=3)
    for output in one.outputs:
        assert shared[output] == pytest.approx(one[output], abs=1e-10, rel=1e-10)
        assert shared.outputs[output].stderr == pytest.approx(one.outputs[output].stderr, abs=1e-10, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "replicates"),
    [
        (tanh_network(OPTIMIZERS["Adam"], 4), 8),
        (f"{KETS}output <E[1,2](abs(|x>@1 - |x>@2))>\noutput <E[1](|x> * |x>@1 * |y> * |y>@1)>\n", 8),
        (f"{KETS}|r> = E[1](relu(|x> - |x>@1) * |y>@1^2)\noutput <r|r>\n", 8),
        (PROGRAMS["many coordinates"], 16),
        (PROGRAMS["events"], 16),
    ],
)
def test_other_pairs_and_points_agree_within_their_errors(text: str, replicates: int) -> None:
    one, shared = limits(text, samples=8192, replicates=replicates)
    for output in one.outputs:
        error = np.hypot(one.outputs[output].stderr, shared.outputs[output].stderr)
        assert np.all(np.abs(shared[output] - one[output]) <= 5 * error + 1e-12), output


def test_random_draws_in_shards_are_independent() -> None:
    """Were the draws of all shards the same, the spread would be that of a quarter of the particles."""
    text = f"{KETS}output <x|x>\n"
    spreads = [
        tpc.limit(text, method="mc", samples=512, replicates=32, **more).outputs["<x|x>"].stderr
        for more in ({}, {"shards": 4})
    ]
    expected = np.sqrt(2 / 512 / 32)
    assert spreads == pytest.approx([expected, expected], rel=0.4)


def test_training_that_diverges_says_so() -> None:
    text = tanh_network("SGD(lr = 1e80)", 6)
    one, shared = limits(text)
    assert one.failed and [d.code for d in one.failed.values()] == [d.code for d in shared.failed.values()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shards": 3}, "shards must be a power of two; found 3"),
        ({"shards": 0}, "shards must be a power of two; found 0"),
        ({"shards": 2.5}, "shards must be a whole number; found 2.5"),
        ({"shards": 16, "samples": 512}, "16 shards of the smallest run have fewer than 16 particles each"),
        ({"shards": 2, "checkpoint": "here"}, "shards cannot be combined with checkpoint"),
    ],
)
def test_shards_that_cannot_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(tpc.ProgramError) as caught:
        tpc.limit(f"{KETS}output <x|y>", method="qmc", **options)  # type: ignore[arg-type]
    assert [(d.code, d.message) for d in caught.value.diagnostics] == [("NX432", message)]


class Three:
    """A group of torch.distributed with three processes."""

    def get_rank(self) -> int:
        return 0

    def get_world_size(self) -> int:
        return 3


def test_shards_must_be_divided_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    for user in ("options", "sampling.shards"):
        monkeypatch.setattr(f"tp_compiler.evaluate.{user}.processes", lambda: TorchProcesses(Three()))
    with pytest.raises(tpc.ProgramError, match="8 shards cannot be divided among 3 processes"):
        tpc.limit(f"{KETS}output <x|y>", method="qmc", shards=8)
    with pytest.raises(tpc.ProgramError, match="shards cannot be combined with max_time"):
        tpc.limit(f"{KETS}output <x|y>", method="qmc", shards=8, max_time=60)


def launched(processes: int, file: Path, *options: str) -> dict[str, object]:
    """What `tpc limit` prints in several processes that torchrun starts."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    command = [sys.executable, *(torchrun if processes > 1 else ["-m"]), "tp_compiler", "limit", str(file), "--json"]
    found = subprocess.run(
        [*command, "--shards", "4", "--method", "qmc", "--samples", "512", "--replicates", "2", *options],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (line,) = found.stdout.splitlines()
    result = json.loads(line)
    del result["seconds"]
    return dict(result)


@pytest.mark.torch
def test_the_digits_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    """Under Adam, with values of `clt` scalars and events; the first process writes."""
    file = tmp_path / "program.nexort"
    more = "ket |a> ~ N(0, 1)\nket |b> ~ N(0, 1)\nc = clt <a|tanh(b)>\noutput <tanh(c * |a> + |b>)|a>\noutput <step(a - 3)>\n"
    file.write_text(tanh_network(OPTIMIZERS["Adam"], 2).replace("        ", "") + more)
    one = launched(1, file)
    assert one["outputs"]
    assert launched(2, file, "--save", str(tmp_path / "found.npz")) == one
    assert [x.name for x in tmp_path.glob("*.npz")] == ["found.npz"]
