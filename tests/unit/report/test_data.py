"""Results for other programs: files that are read back equal, xarray, pandas, and JSON against its schema."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc
from tests.unit.report.fabricate import estimate
from tp_compiler import cli
from tp_compiler.diagnostics import Diagnostic, Source, Span
from tp_compiler.pages import written
from tp_compiler.report import datasets, save
from tp_compiler.results import Replicates, Run

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
PROGRAM = """axis i, j : 2
axis ξ : 3
data x[i] = [1, 2]
ket |u> ~ N(0, 1); ket |v> ~ N(0, 1); ket |w[ξ]> ~ N(0, 1)
|h[i]> = x[i] * |u>
output k[i,j] = <relu(h[i])|relu(h[j])>
output f[i] = clt <v|h[i]>
output λ[ξ] = <w[ξ]|w[ξ]>
output bad = <exp(exp(exp(h[1])))>
output <u|relu(u)>
"""


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    return {
        "limit": tpc.limit(PROGRAM, samples=64),
        "sampled": tpc.limit(PROGRAM, method="qmc", samples=64, seed=2**40),
        "simulation": tpc.simulate(PROGRAM, 8, seeds=3),
    }


@pytest.fixture
def odd(run: Run) -> Run:
    """Names, sizes and settings that files may not like."""
    source = Source("p.nexort", "output a = b\n")
    outputs = {
        **run.outputs,
        "file": estimate([1.0, 2.0], 0.1, ("i",)),
        "i": estimate(np.arange(3.0), 0.1, ("i",)),
        "f_stderr": estimate(1.0),
        "none": estimate(np.zeros((0, 2)), 0.0, ("q", "i")),
        "loss": estimate(np.arange(4.0), 0.1, ("step",)),
        "x": estimate(np.arange(10.0).reshape(5, 2), 0.1, ("step", "i")),
        "twice": estimate(np.eye(2), 0.1, ("i", "i")),
        "a b": estimate(1.0),
        "a_b": estimate(
            np.ones(2),
            0.5,
            ("i",),
            replicates=Replicates((np.ones((4, 2)), np.zeros((4, 2))), (1.0, 2.0), np.ones((2, 2))),
        ),
    }
    failed = {"z": Diagnostic("NX810", "no \x1b[31m value", Span(source, 7, 8), "remove it"), **run.failed}
    settings = {**run.settings, "seed": 2**40, "f0": None, "flag": True}
    return dataclasses.replace(run, outputs=outputs, failed=failed, settings=settings)


# -- files -----------------------------------------------------------------------------------------------------------
def identical(one: Run, other: Run) -> None:
    """Equal without the help of `==`."""
    for name in ("program", "command", "settings", "seconds", "version"):
        assert getattr(one, name) == getattr(other, name)
    for index, data in one.coordinates.items():
        for name, values in data.items():
            np.testing.assert_array_equal(other.coordinates[index][name], values)
    assert [d.render() for d in one.warnings] == [d.render() for d in other.warnings]
    assert {n: d.render() for n, d in one.failed.items()} == {n: d.render() for n, d in other.failed.items()}
    assert list(one) == list(other)
    for name, mine in one.outputs.items():
        found = other.outputs[name]
        assert [mine.axes, mine.method, mine.law, mine.note] == [found.axes, found.method, found.law, found.note]
        for part in ("value", "stderr", "covariance", "covariance_stderr"):
            assert (getattr(mine, part) is None) == (getattr(found, part) is None)
            if getattr(mine, part) is not None:
                np.testing.assert_array_equal(getattr(mine, part), getattr(found, part), strict=True)
        assert (mine.replicates is None) == (found.replicates is None)
        if mine.replicates is not None and found.replicates is not None:
            assert mine.replicates.sizes == found.replicates.sizes
            for a, b in zip(mine.replicates.levels, found.replicates.levels, strict=True):
                np.testing.assert_array_equal(a, b, strict=True)
    assert str(one) == str(other) and written(one, "json") == written(other, "json")


SUFFIXES = [".npz", pytest.param(".nc", marks=pytest.mark.slow)]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["limit", "sampled", "simulation"])
def test_what_is_saved_is_loaded(runs: dict[str, Run], kind: str, suffix: str, tmp_path: Path) -> None:
    run, path = runs[kind], tmp_path / f"run{suffix}"
    run.save(path)
    found = tpc.load(str(path))
    identical(run, found)
    assert found == run and all(d.span is not None for d in found.failed.values())
    if kind != "limit":
        assert found.map(lambda k: k.sum()).stderr == run.map(lambda k: k.sum()).stderr


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_odd_names_and_sizes_are_kept(odd: Run, suffix: str, tmp_path: Path) -> None:
    odd.save(tmp_path / f"odd{suffix}")
    identical(odd, tpc.load(tmp_path / f"odd{suffix}"))


def test_equality_sees_every_part(runs: dict[str, Run]) -> None:
    run = runs["sampled"]
    assert run == tpc.limit(PROGRAM, method="qmc", samples=64, seed=2**40)  # though it took another time
    k = run.outputs["k"]
    assert k.replicates is not None
    levels = (*k.replicates.levels[:-1], k.replicates.levels[-1] + 1e-16 + 1e-15 * k.value)
    changes: list[dict[str, Any]] = [
        {"program": "q"}, {"coordinates": {"i": {"lr": [1, 2]}}},
        {"command": "simulate"}, {"version": "9"}, {"settings": {}}, {"warnings": (Diagnostic("NX901", "x"),)},
        {"failed": {}}, {"outputs": {}}, {"outputs": {**run.outputs, "k": dataclasses.replace(k, value=k.value + 1e-15)}},
        {"outputs": {**run.outputs, "k": dataclasses.replace(k, note="other")}},
        {"outputs": {**run.outputs, "k": dataclasses.replace(k, axes=("j", "i"))}},
        {"outputs": {**run.outputs, "k": dataclasses.replace(k, replicates=Replicates(levels, k.replicates.sizes))}},
    ]  # fmt: skip
    for change in changes:
        assert dataclasses.replace(run, **change) != run, change
    assert run != 3


def test_numpy_reads_the_arrays(odd: Run, tmp_path: Path) -> None:
    odd.save(tmp_path / "odd.npz")
    with np.load(tmp_path / "odd.npz") as data:
        np.testing.assert_array_equal(data["file.stderr"], [0.1, 0.1])
        np.testing.assert_array_equal(data["g.covariance"], odd.outputs["g"].covariance)
        np.testing.assert_array_equal(data["<x|y> & $a_b$"], 1e-9)


def test_files_that_are_not_results(runs: dict[str, Run], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.npz or \.nc, and '.*run.txt' is neither"):
        runs["limit"].save(tmp_path / "run.txt")
    with pytest.raises(ValueError, match="is neither"):
        tpc.load(tmp_path / "run.txt")
    with pytest.raises(FileNotFoundError):
        tpc.load(tmp_path / "nothing.npz")
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 nothing")
    (tmp_path / "broken.nc").write_bytes(b"CDF nothing")
    (tmp_path / "hdf.nc").write_bytes(b"\x89HDF\r\n\x1a\n")
    for name in ("other.npz", "broken.npz", "broken.nc", "hdf.nc"):
        with pytest.raises(ValueError, match=f"{name} is not a result that was saved"):
            tpc.load(tmp_path / name)


def test_no_file_is_obeyed(runs: dict[str, Run], tmp_path: Path) -> None:
    """Arrays of objects would run code when they are read; a record of another layout is refused by its version."""

    class Harm:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "harm"),)

    runs["limit"].save(tmp_path / "run.npz")
    with zipfile.ZipFile(tmp_path / "run.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([Harm()], dtype=object))
    later = json.loads(members[save.RECORD]) | {"layout": 99, "version": "9.0"}
    for change, message in (
        ({"k.npy": buffer.getvalue()}, "Object arrays cannot be loaded"),
        ({save.RECORD: json.dumps(later)}, r"written by version 9\.0"),
    ):
        with zipfile.ZipFile(tmp_path / "changed.npz", "w") as archive:
            for name, content in (members | change).items():
                archive.writestr(name, content)
        with pytest.raises(ValueError, match=message):
            tpc.load(tmp_path / "changed.npz")
    assert not (tmp_path / "harm").exists()


# -- xarray and pandas -------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_xarray(runs: dict[str, Run]) -> None:
    pytest.importorskip("xarray")
    run = runs["sampled"]
    found = run.to_xarray()
    assert found["k"].dims == ("i", "j") and found["f_covariance"].dims == ("i", "i_other")
    np.testing.assert_array_equal(found["k"], run["k"])
    np.testing.assert_array_equal(found["k_stderr"], run.outputs["k"].stderr)
    np.testing.assert_array_equal(found["f_covariance"], run.outputs["f"].covariance)
    assert found["k"].sel(i=2, j=1) == run["k"][1, 0] and found["i"].values.tolist() == [1, 2]
    assert found.attrs["seed"] == 2**40 and found.attrs["method"] == "qmc" and found.attrs["program"] == "<text>"
    assert found.attrs["version"] == tpc.__version__ and "bad" in found.attrs["failed"]
    assert found["k"].attrs["method"] == "qmc" and found["k"].attrs["ancillary_variables"] == "k_stderr"
    assert found["<u|relu(u)>"].shape == ()


@pytest.mark.slow
def test_xarray_of_a_training() -> None:
    pytest.importorskip("xarray")
    loop = "train steps = 2 { loss = (<u|v> - 1)^2; minimize loss; update |u> with SGD(lr = 0.1) }"
    run = tpc.limit(f"ket |u> ~ N(0, 1); ket |v> ~ N(0, 1)\n{loop}\noutput loss[step]")
    found = run.to_xarray()
    assert found["step"].values.tolist() == [0, 1, 2] and found["loss"].sel(step=2) == run["loss"][-1]


@pytest.mark.slow
def test_data_over_one_axis_are_coordinates(tmp_path: Path) -> None:
    pytest.importorskip("xarray")
    head = "axis l : 3\ndata rate[l] = [0.1, 0.2, 0.4]\nket |u> ~ N(0, 1)\n"
    run = tpc.limit(f"{head}output k[l] = <sin(rate[l]*u)|u>")
    found = run.to_xarray()
    assert found["rate"].dims == ("l",) and found["k"].coords["rate"].values.tolist() == [0.1, 0.2, 0.4]
    run.save(tmp_path / "run.nc")
    assert tpc.load(tmp_path / "run.nc") == run
    flow = tpc.limit(str(EXAMPLES / "gradient_flow.nexort"), only="test").to_xarray()
    assert flow["test"].coords["time"].values.tolist() == [0.0, 1.0, 4.0, 16.0]


@pytest.mark.slow
def test_xarray_of_odd_names(odd: Run) -> None:
    pytest.importorskip("xarray")
    found = odd.to_xarray()
    for name in odd:
        np.testing.assert_array_equal(found[name], odd[name])
        stderr = found[found[name].attrs["ancillary_variables"]]
        np.testing.assert_array_equal(stderr, np.broadcast_to(odd.outputs[name].stderr, odd[name].shape))
    assert found["loss"].dims == ("step_4",) and found["x"].dims[0] == "step"
    assert "i" not in found.dims and found["step_4"].values.tolist() == [0, 1, 2, 3]


@pytest.mark.slow
def test_netcdf_for_other_readers(odd: Run, tmp_path: Path) -> None:
    xr = pytest.importorskip("xarray")
    odd.save(tmp_path / "odd.nc")
    with xr.open_dataset(tmp_path / "odd.nc", engine="scipy") as found:
        named = {v.attrs.get("long_name"): v for v in found.variables.values()}
        for name in odd:
            np.testing.assert_array_equal(named[name], odd[name])
        assert all(re.fullmatch(r"\w+", str(name), re.ASCII) for name in found.variables)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["limit", "sampled", "simulation"])
def test_a_data_frame_is_the_table_of_csv(runs: dict[str, Run], kind: str) -> None:
    pd = pytest.importorskip("pandas")
    frame = runs[kind].to_dataframe()
    table = pd.read_csv(io.StringIO(written(runs[kind], "csv")))
    assert list(frame) == list(table) and len(frame) == len(table)
    for column in table:
        if table[column].dtype == float:
            values = frame[column].astype("Float64").to_numpy(float, na_value=np.nan)
            np.testing.assert_allclose(values, table[column], rtol=1e-14)  # pandas reads the last digits as it likes
        else:
            assert frame[column].astype(str).tolist() == table[column].astype(str).tolist()
    one = runs[kind].to_dataframe("k")
    assert one.loc[(2, 1), "value"] == runs[kind]["k"][1, 0] and one.index.names == ["i", "j"]
    assert runs[kind].to_dataframe("<u|relu(u)>").shape == (1, 2)
    if "bad" in runs[kind].failed:
        with pytest.raises(KeyError, match="could not be computed"):
            runs[kind].to_dataframe("bad")
    empty = dataclasses.replace(runs[kind], outputs={})
    assert empty.to_dataframe().empty


@pytest.mark.parametrize("library, call", [("xarray", "to_xarray"), ("pandas", "to_dataframe")])
def test_a_missing_library_names_the_extra(run: Run, library: str, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(
        ImportError, match=rf"{call} needs {library}: pip install {library} \(it is in the extra `data`"
    ):
        getattr(run, call)()
    if library == "xarray":
        with pytest.raises(ImportError, match="a NetCDF file needs xarray"):
            run.save("run.nc")


def test_the_command_refuses_netcdf_before_it_computes(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert cli.main(["limit", "nothing.nexort", "--save", "run.nc"]) == 2
    assert "a NetCDF file needs xarray" in capsys.readouterr().err


def test_libraries_are_loaded_when_they_are_asked_for() -> None:
    assert datasets.library("json", "data", "this") is json
