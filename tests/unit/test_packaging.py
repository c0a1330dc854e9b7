"""The installed files are those on disk."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tp_compiler import __version__

ROOT = Path(__file__).resolve().parents[2]


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    folders = (path.parent.relative_to(ROOT) for path in (ROOT / "tp_compiler").rglob("__init__.py"))
    assert sorted(listed) == sorted([".".join(folder.parts) for folder in folders] + ["tp_compiler.grammar"])


def test_the_version_and_the_dependencies_are_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    recipe = (ROOT / ".ci" / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    assert f'version: "{__version__}"' in recipe
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    listed = re.findall(r"^    - ([\w-]+) (>=[\d.]+)$", recipe.partition("  run:\n")[2], re.MULTILINE)
    assert {name + version for name, version in listed} == {
        *project["dependencies"],
        "python" + project["requires-python"],
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    for name in ("tp_compiler", "grammar"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "tpc_start.py"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(copy)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


CLIENT = """from fractions import Fraction

import numpy as np
import tp_compiler as tpc

run = tpc.limit("ket |x> ~ N(0, 1)\\noutput q = <x|x>", samples=64)
value: float = run.outputs["q"].value.item()
rate: Fraction = tpc.scale("ket |x> ~ N(0, 1)\\noutput q = <x|x>")["x"]["lr"]
reveal_type(tpc.verify)
tpc.limit("output q = 1", sample=64)
"""


@pytest.mark.slow
def test_the_wheel_works_outside_of_the_repository(wheel: Path, tmp_path: Path) -> None:
    """Installed in an empty environment: the command, and the types that a client's mypy sees (`py.typed`)."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", str(wheel)], check=True, capture_output=True)
    shutil.copy(ROOT / "examples" / "mlp.nexort", tmp_path)
    command = [tmp_path / "venv" / "bin" / "tpc", "limit", "mlp.nexort"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0 and "nngp" in ran.stdout, ran.stderr
    (tmp_path / "client.py").write_text(CLIENT, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), "client.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    errors = [line for line in ran.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 1 and "sample" in errors[0] and "-> Verification" not in errors[0], ran.stdout
    assert "Verification" in ran.stdout


@pytest.mark.slow
def test_the_wheel_holds_the_data_files(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {f"tp_compiler/grammar/{path.name}" for path in (ROOT / "grammar").glob("*.*") if path.is_file()}
    for pattern in ("library/*.nexort", "starters/*.nexort", "schemas/*.json", "explanations/*.toml", "**/*.py"):
        wanted |= {str(path.relative_to(ROOT)) for path in (ROOT / "tp_compiler").glob(pattern)}
    assert not wanted - held


@pytest.mark.slow
def test_the_source_distribution_is_complete_and_runs(tmp_path: Path) -> None:
    """Whoever has it can read the documentation, run the examples and run the tests."""
    folders = ("tp_compiler", "grammar", "tests", "docs", "examples", ".ci")
    copy = tmp_path / "source"
    for folder in folders:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "_build", "gallery"))
    for path in ROOT.iterdir():
        if path.is_file() and path.suffix in (".toml", ".md", ".in", ".py", ".cff", "") and path.name != ".git":
            shutil.copy(path, copy)
    wanted = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    command = [sys.executable, "-m", "build", "--sdist", "--outdir", str(tmp_path), str(copy)]
    subprocess.run(command, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path / "out", filter="data")
    assert wanted - held - {".gitignore"} == set()
    (unpacked,) = (tmp_path / "out").iterdir()
    quick = ["tests/test_rooms.py", "tests/unit/test_packaging.py", "tests/unit/ir"]
    ran = subprocess.run([sys.executable, "-m", "pytest", "-q", *quick], cwd=unpacked, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-2000:]
