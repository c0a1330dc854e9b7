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


#: Pictures of each notebook.
NOTEBOOKS = {"tour.md": 5, "adam.py": 5, "width.py": 1, "own_optimizer.py": 3, "figures.py": 6, "from_pytorch.py": 2}


@pytest.mark.parametrize(
    ("name", "pictures"),
    [
        pytest.param(name, pictures, marks=pytest.mark.torch if name == "from_pytorch.py" else pytest.mark.slow)
        for name, pictures in NOTEBOOKS.items()
    ],
)
def test_notebooks_run(name, pictures):
    jupytext = pytest.importorskip("jupytext")
    nbclient = pytest.importorskip("nbclient")
    for package in ("ipykernel", "matplotlib"):
        pytest.importorskip(package)
    notebook = jupytext.read(EXAMPLES / "notebooks" / name)
    there = {"metadata": {"path": str(EXAMPLES / "notebooks")}}
    nbclient.NotebookClient(notebook, timeout=None, kernel_name="python3", resources=there).execute()
    shown = [o.get("data", {}) for c in notebook.cells for o in c.get("outputs", [])]
    assert sum("image/svg+xml" in data for data in shown) == pictures
    assert any("text/html" in data for data in shown) or name == "figures.py"  # tables beside the pictures


def test_every_notebook_is_run_and_listed():
    names = {path.name for path in (EXAMPLES / "notebooks").iterdir() if path.suffix in (".py", ".md")}
    assert names == set(NOTEBOOKS)
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"notebooks/{name}" in readme for name in names)


@pytest.mark.slow
@programs
def test_verifies(path, capsys):
    assert main(["verify", str(path), "--quiet", *verify_options(path)]) == 0, capsys.readouterr().out
