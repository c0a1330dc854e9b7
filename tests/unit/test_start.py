"""What a fresh process loads: commands load only what they need, and the tables of the parser are made once."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tp_compiler import driver, process
from tp_compiler.cli import main

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"scipy", "sympy", "mpmath", "rich", "matplotlib", "threadpoolctl", "torch", "pandas", "xarray"}


def loaded(command: str, **environment: str) -> set[str]:
    """The modules of a process after a command, which must succeed."""
    code = (
        f"import sys; from tp_compiler.cli import main; code = main({command.split()!r}); "
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        ("check examples/mlp.nexort", set()),
        ("check examples/train_mlp.nexort", set()),
        ("limit examples/mlp.nexort", set()),  # relu and tanh: quadrature of the table, without SciPy
        ("equations examples/mlp.nexort", {"sympy", "mpmath"}),
        ("simulate examples/mlp.nexort --width 8 --seeds 2", {"threadpoolctl"}),
        ("scale examples/train_mlp.nexort", set()),
    ],
)
def test_a_command_loads_no_library_that_it_does_not_need(command: str, allowed: set[str]) -> None:
    assert loaded(command) & (HEAVY - allowed) == set()


def test_a_program_that_trains_nothing_loads_no_training_and_no_classification() -> None:
    modules = loaded("check examples/mlp.nexort")
    for name in (
        "tp_compiler.train.updates",
        "tp_compiler.scale.analysis",
        "tp_compiler.evaluate",
        "tp_compiler.finite",
    ):
        assert name not in modules
    modules = loaded("check examples/train_mlp.nexort")
    assert {"tp_compiler.train.updates", "tp_compiler.scale.analysis"} <= modules


PARSED = """
import sys
from unittest import mock
from lark import lark
{before}
with mock.patch.object(lark, "load_grammar", side_effect=lark.load_grammar) as made:
    import tp_compiler as tpc
    tpc.parse("ket |x> ~ N(0, 1)\\noutput m = <x|x>")
print(made.call_count)
"""


def parsers_made(folder: Path, before: str = "", **environment: str) -> int:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", PARSED.format(before=before)],
        capture_output=True, text=True, cwd=ROOT, env={**env, "PYTHONPYCACHEPREFIX": str(folder), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_the_tables_of_the_parser_are_made_once(tmp_path: Path) -> None:
    assert parsers_made(tmp_path) == 1
    (kept,) = tmp_path.rglob("*.tables")
    assert parsers_made(tmp_path) == 0
    assert list(kept.parent.glob("*.tables")) == [kept] and not list(kept.parent.glob("nexort.*.[0-9]*[0-9]"))
    kept.write_bytes(kept.read_bytes()[:5000])  # a disk that was full: made again
    assert parsers_made(tmp_path) == 1
    assert parsers_made(tmp_path) == 0
    assert parsers_made(tmp_path, "import lark as package; package.__version__ = '99'; lark.__version__ = '99'") == 1


def test_nothing_is_written_where_python_writes_no_bytecode(tmp_path: Path) -> None:
    assert parsers_made(tmp_path, PYTHONDONTWRITEBYTECODE="1") == 1
    assert not list(tmp_path.rglob("*"))


def test_a_place_that_cannot_be_written_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert parsers_made(tmp_path / "file") == 1


def test_garbage_is_looked_for_rarely_until_numbers_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = gc.get_threshold(), {}
    for name in ("compile", "limit"):
        work = getattr(driver, name)

        def watched(
            *given: object, _name: str = name, _work: Callable[..., object] = work, **options: object
        ) -> object:
            seen[_name] = gc.get_threshold()
            return _work(*given, **options)

        monkeypatch.setattr(driver, name, watched)
    assert main(["limit", str(ROOT / "examples" / "mlp.nexort")]) == 0
    assert seen == {"compile": (process.RARELY, *before[1:]), "limit": process.USUALLY}
    assert gc.get_threshold() == before
