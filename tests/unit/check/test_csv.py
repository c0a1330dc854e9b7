"""CSV files: a header is a line without numbers; a row with a mistake is never taken for one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tp_compiler as tpc

PROGRAM = 'axis i, j : 2\ndata x[i,j] from "x.csv"\noutput a[i,j] = x[i,j]\n'


def limit(folder: Path, text: str) -> np.ndarray:
    (folder / "x.csv").write_text(text)
    (folder / "p.nexort").write_text(PROGRAM)
    return tpc.limit(folder / "p.nexort")["a"]


@pytest.mark.parametrize("head", ["", "left,right\n", "# a comment\n", '"a","b"\n'])
def test_a_header_has_no_numbers(tmp_path: Path, head: str) -> None:
    assert limit(tmp_path, head + "1,2\n3,4\n").tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("first", ["1.0,2.O", "1,", ",2", "1,x"])
def test_a_row_with_a_mistake_is_not_a_header(tmp_path: Path, first: str) -> None:
    with pytest.raises(tpc.ProgramError, match=r"NX314|NX304"):
        limit(tmp_path, first + "\n3,4\n5,6\n")


@pytest.mark.parametrize("text", ["1;2\n3;4\n", "1 2\n3 4\n", "1\t2\n3\t4\n"])
def test_other_separators_are_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(tpc.ProgramError, match="not separated by commas"):
        limit(tmp_path, text)
