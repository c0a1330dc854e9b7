"""Work on other processes: equal digits whoever does it, and nothing is lost with a worker."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc
from tests.examples.programs import PROGRAMS
from tp_compiler.executors import PATIENCE, Crew, Task, crew

TRAINED = """
axis i : 2
data x[i] = [1.0, -0.5]
ket |u> ~ N(0, 1)
matrix W ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 3 {
    f[i] = <v|tanh(W tanh(x[i] * |u>))>
    minimize mean[i]((f[i] - 1)^2)
    update all with Adam(lr = 0.1, eps = 0.1)
}
output f[step,i]
"""
#: The later `s` sees draws of the `clt` scalar; `g` is Gaussian.
DRAWN = """
ket |u> ~ N(0, 1)
ket |w> ~ N(0, 1)
c = clt <w|tanh(u)>
output f = <tanh(u)|relu(w)>
output s = tanh(c)^2
output g = c
"""
OPTIONS: dict[str, Any] = {"samples": 256, "replicates": 3, "method": "qmc"}


def digits(run: tpc.Run) -> dict[str, Any]:
    return {
        name: [np.asarray(a) for a in (x.value, x.stderr, x.covariance) if a is not None]
        for name, x in run.outputs.items()
    }


def assert_same(one: tpc.Run, other: tpc.Run) -> None:
    assert not one.failed and one.outputs.keys() == other.outputs.keys() and one.outputs
    np.testing.assert_equal(digits(one), digits(other))


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("text", [TRAINED, DRAWN])
def test_limits_have_the_digits_of_one_process(text: str, processes: Executor) -> None:
    here = tpc.limit(text, **OPTIONS)
    assert_same(tpc.limit(text, **OPTIONS, executor=processes), here)
    with ThreadPoolExecutor(2) as threads:
        assert_same(tpc.limit(text, **OPTIONS, executor=threads), here)


def test_the_ladder_stops_where_it_does_in_one_process(processes: Executor) -> None:
    options: dict[str, Any] = {"method": "qmc", "rtol": 3e-3, "atol": 3e-3, "max_samples": 4096}
    here, there = tpc.limit(TRAINED, **options), tpc.limit(TRAINED, **options, executor=processes)
    assert_same(there, here)
    assert there.settings == here.settings and there.warnings == here.warnings


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_number_of_workers(workers: int) -> None:
    assert_same(tpc.limit(TRAINED, **OPTIONS, workers=workers), tpc.limit(TRAINED, **OPTIONS))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_networks_have_the_digits_of_one_process(dtype: str, processes: Executor) -> None:
    here = tpc.simulate(TRAINED, 16, seeds=5, seed=3, dtype=dtype)
    assert_same(tpc.simulate(TRAINED, 16, seeds=5, seed=3, dtype=dtype, executor=processes), here)
    weights = {"|u>": np.arange(16.0)}
    given = tpc.simulate(TRAINED, 16, seeds=3, weights=weights)
    assert_same(tpc.simulate(TRAINED, 16, seeds=3, weights=weights, executor=processes), given)


def test_verifications_have_the_digits_of_one_process(processes: Executor) -> None:
    options: dict[str, Any] = {**OPTIONS, "widths": (8, 16), "seeds": 4}
    here, there = tpc.verify(TRAINED, **options), tpc.verify(TRAINED, **options, executor=processes)
    assert there.checks == here.checks and here.checks


def test_what_has_no_value_elsewhere_says_so_here(processes: Executor) -> None:
    text = "ket |u> ~ N(0, 1)\noutput f = <log(u)|u>\noutput g = <u|u>\n"
    here = tpc.simulate(text, 16, seeds=3)
    there = tpc.simulate(text, 16, seeds=3, executor=processes)
    assert [d.render() for d in there.failed.values()] == [d.render() for d in here.failed.values()] != []
    assert there["g"] == here["g"]


# -- the crew itself -----------------------------------------------------------------------------------------------------
def square(x: int) -> int:
    return x * x


class KillsOnce:
    """Ends its process the first time that it is given one of the numbers."""

    def __init__(self, folder: Path, numbers: tuple[int, ...], always: bool = False):
        self.folder, self.numbers, self.always = folder, numbers, always

    def __call__(self, x: int) -> int:
        mark = self.folder / str(x)
        if x in self.numbers and (self.always or not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return x * x


def refuses(x: int) -> int:
    if x == 2:
        raise tpc.ProgramError([tpc.Diagnostic("NX441", "infinite", None, "look")])
    return x


def test_results_come_in_the_order_of_the_items() -> None:
    arrived: list[tuple[int, int]] = []
    with crew(executor=_Backwards()) as found:
        assert found is not None
        assert found.results(square, [3, 1, 2], lambda k, x: arrived.append((k, x))) == [9, 1, 4]
    assert sorted(arrived) == [(0, 9), (1, 1), (2, 4)]


class _Backwards(Executor):
    """Finishes in the reverse order of what it was given."""

    def __init__(self) -> None:
        self.given: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.given.append((future, lambda: fn(*args, **kwargs)))
        if len(self.given) == 3:
            for one, work in reversed(self.given):
                one.set_result(work())
        return future


@pytest.mark.slow
def test_lost_workers_are_replaced(tmp_path: Path) -> None:
    with crew(workers=2) as found:
        assert found is not None
        assert found.results(KillsOnce(tmp_path, (1, 4)), range(6)) == [0, 1, 4, 9, 16, 25]
    assert {p.name for p in tmp_path.iterdir()} == {"1", "4"}


@pytest.mark.slow
def test_work_that_kills_its_workers_ends_the_run(tmp_path: Path) -> None:
    with crew(workers=2) as found, pytest.raises(tpc.ProgramError, match=r"NX437.*5 of 6"):
        assert found is not None
        found.results(KillsOnce(tmp_path, (3,), always=True), range(6))


class Broken(Executor):
    """Breaks with every item."""

    def __init__(self) -> None:
        self.count = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.count += 1
        raise BrokenExecutor("a process ended abruptly")


def test_an_executor_of_the_caller_is_not_replaced() -> None:
    with pytest.raises(tpc.ProgramError, match="NX437"):
        tpc.limit(TRAINED, **OPTIONS, executor=Broken())


def test_patience_ends() -> None:
    broken = Broken()
    with pytest.raises(tpc.ProgramError, match="0 of 1"):
        Crew(lambda: broken, lambda _: None, 1, again=True).results(square, [1])
    assert broken.count == PATIENCE


def test_errors_of_the_program_come_back(processes: Executor) -> None:
    with crew(executor=processes) as found, pytest.raises(tpc.ProgramError, match="NX441") as caught:
        assert found is not None
        found.results(refuses, range(4))
    assert caught.value.diagnostics == [tpc.Diagnostic("NX441", "infinite", None, "look")]


def test_a_pause_stops(processes: Executor) -> None:
    def pause() -> None:
        raise KeyboardInterrupt

    with crew(executor=processes) as found, pytest.raises(KeyboardInterrupt):
        assert found is not None
        found.results(square, range(3), pause=pause)


def test_another_version_is_refused() -> None:
    other = pickle.loads(pickle.dumps(Task("0.0.9", pickle.dumps(square))))
    with pytest.raises(tpc.ProgramError, match=r"NX439.*0\.0\.9"):
        other(1)


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"workers": 1.5},
        {"workers": float("nan")},
        {"workers": "2"},
        {"executor": 3},
        {"executor": ProcessPoolExecutor},
        {"workers": 2, "cluster": "tcp://localhost:1"},
    ],
)
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(tpc.ProgramError, match="NX432"):
        tpc.limit("ket |x> ~ N(0, 1)\noutput <x|x>", **options)


def test_the_time_limit_holds_elsewhere(processes: Executor) -> None:
    with pytest.raises(tpc.ProgramError, match="NX433"):
        tpc.limit(TRAINED, method="qmc", samples=2**16, max_time=0.01, executor=processes)


@pytest.mark.slow
def test_every_example_in_another_process(processes: Executor) -> None:
    for path in PROGRAMS:
        program = tpc.compile(path)
        there = processes.submit(_both, pickle.dumps(program))
        np.testing.assert_equal(there.result(), _both(program), err_msg=path.name)


def _both(program: Any) -> dict[str, Any]:
    """Limits by samples and by formulas, and networks."""
    program = pickle.loads(program) if isinstance(program, bytes) else program
    found: dict[str, Any] = {}
    for method in ("auto", "qmc"):
        run = tpc.limit(program, method=method, samples=64, replicates=2, threads=1)
        found |= {f"{method} {name}": x for name, x in digits(run).items()}
        found |= {f"{method} {name}": problem.code for name, problem in run.failed.items()}
    networks = tpc.simulate(program, 8, seeds=2)
    return found | {f"network {name}": x for name, x in digits(networks).items()}
