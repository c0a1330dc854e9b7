"""Networks in the time allowed, by a clock of the test's own: it advances with every network."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler import driver
from tp_compiler.finite import run as networks
from tp_compiler.finite.batch import Networks

TEXT = "ket |x> ~ N(0, 1)\noutput m = <x|tanh(x)>"


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each network takes a second."""
    now = [0.0]
    compute = Networks.__call__

    def counted(self: Networks, numbers):
        now[0] += len(numbers)
        return compute(self, numbers)

    clock = SimpleNamespace(monotonic=lambda: now[0], perf_counter=lambda: now[0])
    monkeypatch.setattr(Networks, "__call__", counted)
    monkeypatch.setattr(networks, "time", clock)
    monkeypatch.setattr(driver, "time", clock)


@pytest.mark.parametrize(("seconds", "done"), [(0, 2), (3, 2), (4, 4), (10, 8), (16, 16), (1000, 16)])
def test_networks_that_would_be_late_are_not_begun(second: None, seconds: float, done: int) -> None:
    """Items of 1, 1, 2, 4, 8 networks: none is begun that would end after the time, after the first two."""
    run = tpc.simulate(TEXT, 32, seeds=16, max_time=seconds)
    assert run.settings["seeds"] == done
    same = tpc.simulate(TEXT, 32, seeds=done)
    assert run["m"] == same["m"] and run.outputs["m"].stderr == same.outputs["m"].stderr
    assert [w.code for w in run.warnings] == (["NX911"] if done < 16 else [])
    if done < 16:
        assert f"averages over {done} of 16 networks" in run.warnings[0].message


def test_without_a_time_limit_no_clock_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "time", SimpleNamespace(monotonic=lambda: 1e9, perf_counter=lambda: 0.0))
    assert tpc.simulate(TEXT, 32, seeds=4).settings["seeds"] == 4


def test_a_verification_divides_the_time_among_its_widths(second: None) -> None:
    """The limit is exact and takes none: 24 s are 8 for the first width, which is 8 networks; and so on."""
    found = tpc.verify(TEXT, widths=(16, 32, 64), seeds=16, max_time=24)
    messages = [w.message for w in found.warnings]
    assert messages == [f"stopped at the time limit: averages over 8 of 16 networks of width {n}" for n in (16, 32, 64)]
    assert found.passed
    assert not tpc.verify(TEXT, widths=(16, 32), seeds=4).warnings


def test_one_seed_is_one_network_whatever_the_time(second: None) -> None:
    assert tpc.simulate(TEXT, 32, seeds=1, max_time=0).settings["seeds"] == 1


def test_workers_stop_at_the_time_limit_too() -> None:
    run = tpc.simulate(TEXT, 32, seeds=64, max_time=0, workers=2)
    assert 2 <= run.settings["seeds"] <= 64
    assert np.isfinite(run["m"])


@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize(("seeds", "together"), [(1, 1), (7, 3), (20, 4), (21, 5), (64, 64), (5, 19)])
def test_every_network_is_in_one_item(seeds: int, together: int, growing: bool) -> None:
    items = networks._Items(seeds, together, growing)
    sizes = [len(item) for item in items]
    assert [k for item in items for k in item] == list(range(seeds)) and len(items) == len(sizes)
    for k, size in enumerate(sizes[:-1]):
        assert size == (min(together, max(1, sum(sizes[:k]))) if growing else together)
    with pytest.raises(IndexError):
        items[len(sizes)]


def test_networks_that_are_never_begun_take_no_memory(second: None) -> None:
    run = tpc.simulate(TEXT, 8, seeds=10**12, max_time=3.5, max_memory=1e15)
    assert 2 <= run.settings["seeds"] <= 4
