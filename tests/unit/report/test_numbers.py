"""Values rounded to their error's second digit."""

from __future__ import annotations

import math

import pytest

from tp_compiler.report.numbers import titled, write


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.3794012, 0.00012, "0.37940(12)"),
        (0.3794012, 0.0000996, "0.37940(10)"),  # 0.0000996 rounds to two digits as 0.00010
        (12.345, 4.5, "12.3(4.5)"),
        (1234.5, 45.0, "1234(45)"),
        (12345.0, 450.0, "12340(450)"),
        (-0.00001, 0.01, "0.000(10)"),
        (1.2341e-8, 3.4e-10, "1.234(34)e-08"),
        (0.0, 1e-6, "0.0(1.0)e-06"),
        (2.5e12, 1e10, "2.500(10)e+12"),
        (0.5, 1e-19, "0.50000000000000(1)"),  # no more digits than a float64 has
        (0.25, 0.0, "0.25"),
        (1 / 3, 0.0, "0.3333333333"),
        (-0.0, 0.0, "0"),
        (1e-20, 0.0, "1e-20"),
        (math.nan, 0.1, "nan(0.1)"),
        (5e-324, 5e-324, "0.00000000000000(1)e-300"),
    ],
)
def test_write(value: float, error: float, text: str) -> None:
    assert str(write(value, error)) == text


def test_an_output_named_by_its_text_shows_its_indices_once() -> None:
    assert titled("f", ("i", "j")) == "f[i, j]"
    assert titled("<h[i]>", ("i",)) == "<h[i]>"
    assert titled("<h[tok[i]]>", ("step", "i")) == "<h[tok[i]]>[step, i]"
    assert titled("i", ("i",)) == "i[i]"
