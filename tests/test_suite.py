"""The suite as a user meets it: nothing in it hangs on how busy the machine is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).resolve().parent
CLOCKS = {"time", "perf_counter", "monotonic", "process_time", "thread_time"}
#: Measurements that are run by hand, and those that `timed` tests call.
MEASUREMENTS = {
    "benchmarks/accelerator.py", "benchmarks/activations.py", "benchmarks/beside_neural_tangents.py",
    "benchmarks/conditioning.py", "benchmarks/convolutions.py", "benchmarks/equal_time.py", "benchmarks/finite_width.py",
    "benchmarks/growth.py", "benchmarks/kernels.py",
    "benchmarks/measure.py", "benchmarks/simulation.py", "benchmarks/training.py",
    "torch/limits_table.py",
}  # fmt: skip


def _calls_a_clock(tree: ast.AST) -> bool:
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in CLOCKS
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "time"
        for node in ast.walk(tree)
    )


def _is_timed(tree: ast.AST) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr == "timed" for node in ast.walk(tree))


def _clocks(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if any(isinstance(node, ast.Assign) and _is_timed(node) for node in tree.body):
        return  # pytestmark = pytest.mark.timed
    for node in tree.body:
        if _calls_a_clock(node) and not (
            isinstance(node, ast.FunctionDef) and any(map(_is_timed, node.decorator_list))
        ):
            yield f"{path.relative_to(TESTS)}:{node.lineno}"


def test_only_timed_tests_read_a_clock() -> None:
    files = [p for p in sorted(TESTS.rglob("*.py")) if p.relative_to(TESTS).as_posix() not in MEASUREMENTS]
    assert [found for path in files for found in _clocks(path)] == []


def test_hypothesis_has_no_deadline(request: pytest.FixtureRequest) -> None:
    assert settings.default.deadline is None
    assert HealthCheck.too_slow in settings.default.suppress_health_check
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "deadline":
                assert isinstance(node.value, ast.Constant) and node.value.value is None, path
    assert float(request.config.getini("timeout")) == 900, "a guard against tests that hang, not a limit on time"


def test_no_test_has_a_time_limit_of_its_own() -> None:
    """`pytest.mark.timeout(60)` and `subprocess.run(..., timeout=60)` break on a busy machine."""
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                own = isinstance(node.func, ast.Attribute) and node.func.attr == "timeout"
                given = [k.value for k in node.keywords if k.arg == "timeout"]
                assert not own and all(isinstance(v, ast.Constant) and v.value is None for v in given), path
