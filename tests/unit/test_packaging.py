"""The installed files are those on disk."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    folders = (path.parent.relative_to(ROOT) for path in (ROOT / "tp_compiler").rglob("__init__.py"))
    assert sorted(listed) == sorted([".".join(folder.parts) for folder in folders] + ["tp_compiler.grammar"])


@pytest.mark.slow
def test_the_wheel_holds_the_data_files(tmp_path: Path) -> None:
    copy = tmp_path / "source"
    for folder in ("tp_compiler", "grammar"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(copy)]
    subprocess.run(command, check=True, capture_output=True)
    held = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    wanted = {f"tp_compiler/grammar/{path.name}" for path in (ROOT / "grammar").glob("*.*") if path.is_file()}
    for pattern in ("library/*.nexort", "starters/*.nexort", "schemas/*.json", "**/*.py"):
        wanted |= {str(path.relative_to(ROOT)) for path in (ROOT / "tp_compiler").glob(pattern)}
    assert not wanted - held


@pytest.mark.slow
def test_the_source_distribution_is_complete_and_runs(tmp_path: Path) -> None:
    """Whoever has it can read the documentation, run the examples and run the tests."""
    folders = ("tp_compiler", "grammar", "tests", "docs", "examples", ".ci")
    copy = tmp_path / "source"
    for folder in folders:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file() and path.suffix in (".toml", ".md", ".in", ".py", "") and path.name != ".git":
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
