"""Files and programs that ask for too much are refused before anything is read or built."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler.check import data, imports
from tp_compiler.check.imports import MAX_DEPTH
from tp_compiler.frontend import parse


def refused(program: Path | str) -> tpc.Diagnostic:
    """The first error, which has a place and a remedy, and which took no more than some MB to find."""
    tracemalloc.start()
    try:
        found = [d for d in tpc.check(program) if not d.is_warning]
        assert tracemalloc.get_traced_memory()[1] < 150e6
    finally:
        tracemalloc.stop()
    assert found and found[0].span is not None and found[0].remedy and "^" in found[0].render()
    assert max(len(d.render()) for d in found) < 6000
    return found[0]


def reading(folder: Path, name: str, axes: str = "axis i : 2\n", index: str = "i", key: str = "") -> Path:
    file = folder / "p.nexort"
    file.write_text(f'{axes}data x[{index}] from "{name}"{key}\noutput q = sum[i](x[{index}])\n')
    return file


def header(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": kind, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def bomb(path: Path, head: bytes, zeros: int) -> None:
    """An .npz file whose array is `zeros` zeros, a thousandth of that on disk."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as file,
    ):
        file.write(head)
        for _ in range(zeros // 2**20):
            file.write(bytes(2**20))


def test_the_shape_of_an_array_is_checked_before_its_numbers_are_read(tmp_path: Path) -> None:
    bomb(tmp_path / "x.npz", header((2**25,)), 2**28)
    assert (tmp_path / "x.npz").stat().st_size < 2**20
    assert refused(reading(tmp_path, "x.npz")).code == "NX304"
    (tmp_path / "x.npy").write_bytes(header((2**40, 2**20)))
    assert refused(reading(tmp_path, "x.npy")).code == "NX304"


@pytest.mark.parametrize("shape", [(2**30,), (2**31 - 1,), (10**6,)])
def test_an_array_that_says_it_is_larger_than_its_file(tmp_path: Path, shape: tuple[int, ...]) -> None:
    (tmp_path / "x.npy").write_bytes(header(shape) + bytes(64))
    found = refused(reading(tmp_path, "x.npy", f"axis i : {shape[0]}\n"))
    assert found.code == "NX314" and "fewer numbers" in found.message
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", header(shape) + bytes(64))
    assert refused(reading(tmp_path, "x.npz", f"axis i : {shape[0]}\n")).code == "NX314"


def test_an_archive_of_many_members(tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", header((2,)) + struct.pack("<2d", 1, 2))
    assert [d.code for d in tpc.check(reading(tmp_path, "x.npz"))] == []
    raw = bytearray(file.read_bytes())
    at = raw.rfind(b"PK\x05\x06")
    raw[at + 12 : at + 16] = (data.MAX_DIRECTORY + 1).to_bytes(4, "little")
    file.write_bytes(raw)
    assert refused(reading(tmp_path, "x.npz")).code == "NX312"


def test_large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x.csv", "x.npy", "x.npz"):
        with open(tmp_path / name, "wb") as file:
            file.truncate(data.MAX_BYTES + 1)  # a hole: no byte is on disk
        assert refused(reading(tmp_path, name)).code == "NX312"
    (tmp_path / "x.csv").write_text("1\n" * 10**5)
    assert refused(reading(tmp_path, "x.csv")).code == "NX304"
    monkeypatch.setattr(data, "MAX_LINE", 2**10)
    (tmp_path / "x.csv").write_text("1," * 2**10 + "\n")
    assert refused(reading(tmp_path, "x.csv")).code == "NX314"


@pytest.mark.parametrize(
    "content", ["1\n2\n", "# numbers\n1\n2\n", "x\n1\n2\n", "\ufeff1\n\n# two\n2 # last\n", "1\r\n2\r\n"]
)
def test_columns_of_numbers(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.csv").write_text(content, encoding="utf-8", newline="")
    assert float(tpc.limit(reading(tmp_path, "x.csv"))["q"]) == 3


@pytest.mark.parametrize("content", ["1,2\n3,4\n", "a,b\n1,2\n3,4\n", "1,2\n\n3,4"])
def test_tables_of_numbers(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.csv").write_text(content)
    file = tmp_path / "p.nexort"
    file.write_text('axis i, j : 2\ndata x[i,j] from "x.csv"\noutput q = sum[i,j](x[i,j] * (i + 10 * j))\n')
    file.write_text('axis i, j : 2\ndata x[i,j] from "x.csv"\noutput q = x[2,1]\n')
    assert float(tpc.limit(file)["q"]) == 3


# --------------------------------------------------------------------------------------------------------- imports
def test_chains_of_imports(tmp_path: Path) -> None:
    def chain(depth: int) -> Path:
        for k in range(depth):
            (tmp_path / f"f{k}.nexort").write_text(f'import "f{k + 1}.nexort"\nc{k} = c{k + 1}\n')
        (tmp_path / f"f{depth}.nexort").write_text(f"c{depth} = 1\n")
        file = tmp_path / "p.nexort"
        file.write_text('import "f0.nexort"\noutput q = c0\n')
        return file

    assert tpc.check(chain(MAX_DEPTH - 1)) == []
    assert refused(chain(MAX_DEPTH + 500)).code == "NX144"


def test_circles_of_imports(tmp_path: Path) -> None:
    for k in range(5):
        (tmp_path / f"f{k}.nexort").write_text(f'import "f{(k + 1) % 5}.nexort"\nimport "f{k}.nexort"\na{k} = {k}\n')
    file = tmp_path / "p.nexort"
    file.write_text('import "f0.nexort"\noutput q = a0 + a4\n')
    assert float(tpc.limit(file)["q"]) == 4


def test_the_size_and_the_number_of_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "p.nexort"
    with open(tmp_path / "large.nexort", "wb") as large:
        large.truncate(2**40)
    file.write_text('import "large.nexort"\noutput q = 1\n')
    monkeypatch.setattr(imports, "MAX_BYTES", 2**16)
    assert refused(file).code == "NX144"
    for k in range(20):
        (tmp_path / f"f{k}.nexort").write_text("#" * 2**12 + f"\na{k} = 1\n")
    file.write_text("".join(f'import "f{k}.nexort"\n' for k in range(20)) + "output q = 1\n")
    assert refused(file).code == "NX144"
    monkeypatch.setattr(imports, "MAX_BYTES", 2**20)
    assert tpc.check(file) == []
    monkeypatch.setattr(imports, "MAX_FILES", 10)
    assert refused(file).code == "NX144"


# -------------------------------------------------------------------------------------------------------- programs
LONG: dict[str, Callable[[], tuple[str, str]]] = {
    "a name": lambda: ("output q = " + "x" * 10**7 + "\n", "NX017"),
    "a number": lambda: ("output q = " + "1" * 10**6 + "\n", "NX017"),
    "a path": lambda: ('import "' + "x" * 10**6 + '"\n', "NX017"),
    "primes": lambda: ("ket |x> ~ N(0, 1)\noutput q = <tanh" + "'" * 10**6 + "(x)>\n", "NX017"),
    "a tower": lambda: ("output q = 2" + "^2" * 20_000 + "\n", "NX013"),
    "an axis": lambda: ("axis i : 1e300\noutput q = 1\n", "NX105"),
    "a loop": lambda: ("c = 0\nfor l in 1..1e300 { c = c + 1 }\noutput q = c\n", "NX122"),
    "drawn data": lambda: ("axis i : 2000000000\ndata x[i] ~ N(0, 1)\noutput q = x[1]\n", "NX305"),
    "a small tower": lambda: ("output q = 2^2^2^2^2^2\n", "NX412"),
    "an operator": lambda: ("matrix W ~ N(0, 1)\nket |x> ~ N(0, 1)\noutput q = <x|W^1000000|x>\n", "NX238"),
}


@pytest.mark.parametrize("kind", LONG)
def test_long_programs(kind: str) -> None:
    text, code = LONG[kind]()
    assert refused(text).code == code


def test_too_many_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse, "MAX_TOKENS", 1000)
    assert refused("a = 1\n" * 1000).code == "NX018"
