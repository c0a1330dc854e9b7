"""Completion in shells: every command and option is offered, and bash completes what a person types."""

from __future__ import annotations

import argparse
import shutil
import subprocess

import pytest

from tp_compiler import cli
from tp_compiler.arguments import SHELLS, STARTERS, parser
from tp_compiler.completion import script
from tp_compiler.explanation import codes


def offered(line: str, folder: str = ".") -> set[str]:
    """What bash offers for the last word of a line."""
    words = line.split(" ")
    quoted = " ".join(f"'{w}'" for w in words)
    read = script(parser(), "bash", {"CODE": codes()})
    code = f"{read}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _tpc; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    found = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert not found.stderr
    return set(found.stdout.split())


bash = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


@bash
def test_commands_options_and_values(tmp_path: object) -> None:
    assert offered("tpc li") == {"limit"} and offered("tpc s") == {"show", "simulate", "scale"}
    assert offered("tpc limit --max-s") == {"--max-samples"}
    assert offered("tpc limit --method q") == {"quadrature", "qmc"}
    assert offered("tpc limit --samples ") == set()
    assert offered("tpc new ") == set(STARTERS)
    assert offered("tpc completion z") == {"zsh"}
    assert offered("tpc explain NX22") == {c for c in codes() if c.startswith("NX22")}


@bash
def test_files(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    (folder / "mlp.nexort").touch()
    assert offered("tpc limit m", str(folder)) == {"mlp.nexort"}
    assert offered("tpc limit mlp.nexort --save m", str(folder)) == {"mlp.nexort"}


@pytest.mark.parametrize("shell", SHELLS)
def test_nothing_is_left_out(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    text = capsys.readouterr().out
    (commands,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    for name, sub in commands.choices.items():
        assert name in text
        for flag in (f for action in sub._actions for f in action.option_strings):
            assert flag.lstrip("-") in text, flag


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_reads_it(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    subprocess.run([shell, "-n", "-c", script(parser(), shell, {"CODE": codes()})], check=True)
