"""Every example checks, runs, is listed, and (slow) is verified against finite networks."""

from __future__ import annotations

import runpy

import numpy as np
import pytest

import tp_compiler
from tests.examples.programs import EXAMPLES, PROGRAMS, verify_options
from tp_compiler.cli import main

programs = pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)


@programs
def test_checks_and_runs(path):
    assert [d.render() for d in tp_compiler.check(path)] == []
    run = tp_compiler.limit(path, samples=1024)
    assert not run.failed
    assert run.outputs
    for name, estimate in run.outputs.items():
        assert np.isfinite(estimate.value).all() and np.isfinite(estimate.stderr).all(), name


@programs
def test_says_what_it_teaches(path):
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ") and len(first) > 20
    assert f"`{path.name}`" in (EXAMPLES / "README.md").read_text(encoding="utf-8")


def test_there_are_enough():
    assert len(PROGRAMS) >= 12


def test_the_readme_shows_the_first_program():
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    body = (EXAMPLES / "mlp.nexort").read_text(encoding="utf-8").split("\n", 1)[1].strip()
    assert body in readme


def test_first_steps_runs_as_a_script(monkeypatch, capsys):
    monkeypatch.setenv("MPLBACKEND", "agg")
    names = runpy.run_path(str(EXAMPLES / "first_steps.py"))
    assert names["verification"].passed
    assert np.abs(names["z"]).max() < 6
    assert "did you mean `relu`?" in capsys.readouterr().out


@pytest.mark.slow
def test_first_steps_runs_as_a_notebook():
    jupytext = pytest.importorskip("jupytext")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = jupytext.read(EXAMPLES / "first_steps.py")
    nbclient.NotebookClient(notebook, timeout=None, kernel_name="python3").execute()
    printed = "".join(o.get("text", "") for c in notebook.cells for o in c.get("outputs", []))
    assert "verified: True" in printed


@pytest.mark.slow
@programs
def test_verifies(path, capsys):
    assert main(["verify", str(path), "--quiet", *verify_options(path)]) == 0, capsys.readouterr().out
