"""The library in several threads of one process: no text, limit or setting of one reaches another."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import tp_compiler as tpc
from tests.benchmarks.training import OPTIMIZERS, tanh_network
from tp_compiler.evaluate.blas import one_blas_thread
from tp_compiler.evaluate.options import Options
from tp_compiler.evaluate.sampling.qmc import Sampling
from tp_compiler.process import Held

THREADS = 4


def at_once(work: Callable[[int], Any], turns: int = 1) -> list[Any]:
    """work(k) in THREADS threads that start each turn together."""
    start = Barrier(THREADS)

    def repeated(k: int) -> list[Any]:
        found = []
        for _ in range(turns):
            start.wait()
            found.append(work(k))
        return found

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            return [x for found in pool.map(repeated, range(THREADS)) for x in found]
    finally:
        sys.setswitchinterval(before)


def program(k: int) -> str:
    """A program with an error at a place, and in words, that no other program has."""
    return (
        "\n" * k
        + f"ket |u{k}> ~ N(0, 1)\n"
        + "".join(f"|x{j}> = tanh(|u{k}>)\n" for j in range(30))
        + f"a = wrong{k}\n"
    )


def test_texts_of_programs_are_not_mixed() -> None:
    def work(k: int) -> tuple[int, list[tuple[str, tuple[int, int]]]]:
        found = tpc.check(tpc.Source(f"program {k}", program(k)))
        return k, [
            (d.render(), d.span.source.position(d.span.start)) for d in found if d.span is not None and not d.is_warning
        ]

    for k, found in at_once(work, turns=8):
        assert len(found) == 1, found
        text, place = found[0]
        assert f"program {k}" in text and f"there is no scalar, operator or function `wrong{k}`" in text
        assert place == (k + 32, 5)


def test_limits_are_the_same_as_one_by_one() -> None:
    text = "ket |u> ~ N(0, 1)\nmatrix W ~ N(0, {})\n|x> = tanh(W tanh(W |u>))\noutput k = <x|tanh(W^T |x>)>\n"
    texts = [text.format(k + 1) for k in range(THREADS)]
    options: dict[str, Any] = {"samples": 256, "method": "qmc", "threads": 1}
    alone = [float(tpc.limit(t, **options)["k"]) for t in texts]
    assert at_once(lambda k: float(tpc.limit(texts[k], **options)["k"])) == alone


def test_formatting_and_networks_at_once() -> None:
    text = "ket |u> ~ N(0, {})\noutput k = <u|u>\n"
    alone = [float(tpc.simulate(text.format(k + 1), 16, seeds=2)["k"]) for k in range(THREADS)]
    assert at_once(lambda k: float(tpc.simulate(text.format(k + 1), 16, seeds=2)["k"])) == alone
    assert at_once(lambda k: tpc.format(text.format(k + 1))) == [text.format(k + 1) for k in range(THREADS)]


@pytest.mark.parametrize("order", ["first in, first out", "last in, first out"])
def test_a_setting_is_restored_by_the_last_to_leave(order: str) -> None:
    log: list[str] = []

    def set() -> Callable[[], None]:
        log.append("set")
        return lambda: log.append("restored")

    held = Held(set)
    one, two = held(), held()
    one.__enter__()
    two.__enter__()
    left = (one, two) if order == "first in, first out" else (two, one)
    left[0].__exit__(None, None, None)
    assert log == ["set"]
    left[1].__exit__(None, None, None)
    assert log == ["set", "restored"]
    with held():
        pass
    assert log == ["set", "restored"] * 2


def test_the_recursion_limit_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "setrecursionlimit", lambda limit: pytest.fail("the limit is the process's own"))
    text = "a = " + "(" * 90 + "1" + ")" * 90 + "\noutput b = a\n"
    at_once(lambda k: tpc.compile(text), turns=4)


def test_blas_has_its_threads_back() -> None:
    np.linalg.norm(np.ones((2, 2)) @ np.ones((2, 2)))

    def pools() -> list[int]:
        """OpenMP, which PyTorch brings, counts its threads separately for each thread."""
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before = pools()

    def work(k: int) -> list[int]:
        with one_blas_thread():
            return pools()

    for inside in at_once(work, turns=5):
        assert set(inside) <= {1}
    assert pools() == before


def nested(parentheses: int, defs: int) -> str:
    lines = ["def f0(x) { return x }"]
    for k in range(1, defs):
        lines.append(f"def f{k}(x) {{ return {'tanh(' * parentheses}f{k - 1}(x){')' * parentheses} }}")
    return "\n".join([*lines, f"output a = f{defs - 1}(0.5)"])


def test_nesting_through_calls_of_defs_is_bounded() -> None:
    """In a thread, too: no RecursionError and no overflow of the stack."""
    assert tpc.check(nested(20, 190)) == []
    for found in at_once(lambda k: tpc.check(nested(95, 195))):
        assert {d.code for d in found} == {"NX136"}
        assert "^" in found[0].render()


def test_a_thread_of_its_own_has_enough_to_compute() -> None:
    """Few numbers at once stay in one array, whose Python is done once; processes do not wait for each other."""
    program = tpc.compile(tanh_network(OPTIMIZERS["Adam"], 2))

    def batches(samples: int, **options: Any) -> list[int]:
        sampling = Sampling(program, Options(method="qmc", **options), {"f"}, {})
        return [len(batch.numbers) for batch in sampling._batches(samples, range(8))]

    assert batches(1024, threads=2) == [8] and batches(2048, threads=2) == [4, 4]
    assert batches(16384, threads=2) == [2, 2, 2, 2] == batches(16384, threads=1)
    assert batches(256, threads=2, crew=SimpleNamespace(workers=2)) == [4, 4]
