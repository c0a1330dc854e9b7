"""What is on disk is what is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
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
    for pattern in ("library/*.nexort", "starters/*.nexort", "**/*.py"):
        wanted |= {str(path.relative_to(ROOT)) for path in (ROOT / "tp_compiler").glob(pattern)}
    assert not wanted - held
