"""The README is true: its Python runs, its program is the example, its commands are the two promised."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tp_compiler import cli

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


def test_the_python_block_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (block,) = _blocks("python")
    exec(compile(block, "README.md", "exec"), {})


def test_there_are_two_commands() -> None:
    first, second = _blocks("bash")
    assert "tpc limit examples/mlp.nexort" in first and "pytest" in second


def test_the_program_shown_is_the_example() -> None:
    shown = next(block for block in _blocks("") if "output nngp" in block)
    example = (ROOT / "examples" / "mlp.nexort").read_text(encoding="utf-8")
    lines = [line.split("#")[0].split() for line in shown.splitlines() if line.split("#")[0].strip()]
    wanted = [line.split("#")[0].split() for line in example.splitlines() if line.split("#")[0].strip()]
    assert lines == wanted


@pytest.mark.parametrize(
    "path",
    sorted(set(re.findall(r"\b(?:grammar|frontend|check|ir|scale|train|evaluate|finite|report)/[\w./]*", README))),
)
def test_the_paths_named_exist(path: str) -> None:
    assert (ROOT / path).exists() or (ROOT / "tp_compiler" / path).exists(), path


def _sessions() -> list[tuple[str, list[str]]]:
    """Commands of the tour, and the lines that are shown of what they print."""
    blocks = [block.splitlines() for block in _blocks("console")]
    return [(lines[0].removeprefix("$ tpc "), [line for line in lines[1:] if line != "..."]) for lines in blocks]


def _figures(line: str) -> tuple[list[float], list[float], list[str]]:
    """Values with their errors, and the words between: `0.36709(46)` is 0.36709 ± 0.00046."""
    values, errors = [], []
    for whole, digits, error, power in re.findall(r"(-?\d+\.?(\d*))\((\d+\.?\d*)\)(e[-+]\d+)?", line):
        unit = float(f"1{power}") if power else 1.0
        values.append(float(whole) * unit)
        errors.append((float(error) if "." in error else float(error) * 10.0 ** -len(digits)) * unit)
    return values, errors, re.sub(r"-?\d+\.?\d*\(\d+\.?\d*\)(e[-+]\d+)?", "#", line).split()


@pytest.mark.slow
@pytest.mark.parametrize(("command", "shown"), _sessions(), ids=lambda x: x if isinstance(x, str) else "")
def test_the_tour_is_what_happens(
    command: str, shown: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(ROOT)
    arguments = [str(tmp_path / part) if part == "adam.svg" else part for part in command.split()]
    assert cli.main(arguments) == 0
    printed = iter([_figures(line) for line in capsys.readouterr().out.splitlines()])
    for line in shown:
        values, errors, words = _figures(line)
        found = next((f for f in printed if f[2] == words and len(f[0]) == len(values)), None)
        assert found is not None, line
        assert all(abs(a - b) <= 3 * e for a, b, e in zip(found[0], values, errors, strict=True)), line
    if "adam.svg" in command:
        _same_picture((tmp_path / "adam.svg").read_text(encoding="utf-8"))


def _same_picture(drawn: str) -> None:
    """The picture in docs/ has the same words and curves, as far as another version of matplotlib sets them alike."""
    kept = (ROOT / "docs" / "pictures" / "adam.svg").read_text(encoding="utf-8")
    assert re.findall(r"<text[^>]*>([^<]*)<", drawn) == re.findall(r"<text[^>]*>([^<]*)<", kept)
    curves = [re.findall(r'<g id="[^"]*line2d_\d+">\s*<path d="([^"]*)"', page) for page in (drawn, kept)]
    assert len(curves[0]) == len(curves[1]) > 20
    if re.search("Matplotlib v[0-9.]*", drawn)[0] == re.search("Matplotlib v[0-9.]*", kept)[0]:  # type: ignore[index]
        for one, other in zip(*curves, strict=True):
            a, b = ([float(x) for x in re.findall(r"-?\d+\.\d+", path)] for path in (one, other))
            assert len(a) == len(b) and max((abs(x - y) for x, y in zip(a, b, strict=True)), default=0.0) < 1.5


def test_both_pictures_are_small() -> None:
    for name in ("adam.svg", "adam_dark.svg"):
        assert f"docs/pictures/{name}" in README
        assert (ROOT / "docs" / "pictures" / name).stat().st_size < 60_000
