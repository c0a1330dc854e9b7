"""Programs written out, word for word. `--update-golden` rewrites them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tp_compiler import driver
from tp_compiler.diagnostics import Source

HERE = Path(__file__).parent / "expand"
NAMES = sorted(path.name.removesuffix(".in.nexort") for path in HERE.glob("*.in.nexort"))


@pytest.mark.parametrize("name", NAMES)
def test_expand(name: str, update_golden: bool) -> None:
    expected = HERE / f"{name}.out.nexort"
    actual = driver.expand(driver.read(str(HERE / f"{name}.in.nexort")))
    if update_golden:
        expected.write_text(actual, encoding="utf-8")
    assert actual == expected.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_written_out_in_canonical_layout(name: str) -> None:
    text = (HERE / f"{name}.out.nexort").read_text(encoding="utf-8")
    assert driver.format(Source("p.nexort", text)) == text
    assert max(map(len, text.splitlines())) <= 120
