"""Data from the caller: arrays of every kind and files, in every command, and the mistakes made with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc
from tp_compiler import cli

X = np.array([[1.0, 0.5], [-0.3, 0.8], [0.2, -1.1]])
Y = [1, -1, 2]
#: Without values, and with those of X and Y.
PROGRAM = """\
axis i, j
axis d
data xi[i,d]
data y[i] = [0, 0, 0]
ket |u[d]> ~ N(0, 1)
output k[i,j] = <sum[d](xi[i,d] |u[d]>)|tanh(sum[d](xi[j,d] |u[d]>))>
output s[i] = y[i] * <u[1]|u[1]>
"""
LITERAL = (
    PROGRAM.replace("axis i, j", "axis i, j : 3")
    .replace("axis d", "axis d : 2")
    .replace("data xi[i,d]", f"data xi[i,d] = {X.tolist()}")
    .replace("[0, 0, 0]", str(Y))
)
DATA: dict[str, Any] = {"xi": X, "y": Y}


class Held:
    """Anything with `__array__`."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return X.astype(dtype or float)


class Tensor:
    """Like a tensor of PyTorch on a GPU, with a gradient: readable once detached and moved."""

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> np.ndarray:
        return X


class Labelled(Held):
    """Like an array of xarray: its dimensions have names."""

    def __init__(self, dims: tuple[str, ...]):
        self.dims = dims

    def transpose(self, *dims: str) -> np.ndarray:
        assert sorted(dims) == sorted(self.dims)
        return X


def mistake(text: str = PROGRAM, settings: Any = None, **data: Any) -> tuple[str, str]:
    """The code, and the whole page, of the only error."""
    with pytest.raises(tpc.ProgramError) as caught:
        tpc.compile(text, settings, data=data)
    (found,) = caught.value.diagnostics
    return found.code, found.render()


@pytest.mark.parametrize(
    "given",
    [
        X,
        X.tolist(),
        Held(),
        Tensor(),
        Labelled(("d", "i")),
        np.asfortranarray(X),
        X.astype(">f8"),
    ],
    ids=lambda x: type(x).__name__,
)
def test_arrays_of_every_kind(given: Any) -> None:
    run = tpc.limit(PROGRAM, data={"xi": given, "y": Y})
    literal = tpc.limit(LITERAL)
    np.testing.assert_array_equal(run["k"], literal["k"])
    np.testing.assert_array_equal(run["s"], literal["s"])


@pytest.mark.torch
def test_arrays_of_libraries() -> None:
    torch, pandas, xarray = map(pytest.importorskip, ("torch", "pandas", "xarray"))
    tensor = torch.tensor(X, requires_grad=True)
    expected = tpc.limit(LITERAL)["k"]
    for given in (
        tensor,
        pandas.DataFrame(X, columns=["a", "b"]),
        xarray.DataArray(X.T, dims=("d", "i")),
        xarray.DataArray(X, dims=("sample", "feature")),
    ):
        np.testing.assert_array_equal(tpc.limit(PROGRAM, data={"xi": given})["k"], expected)
    assert mistake(xi=tensor.bfloat16())[0] == "NX314"


def test_every_function_takes_data() -> None:
    """Each gives what it gives of the literal program."""
    literal, program = tpc.compile(LITERAL), tpc.compile(PROGRAM, data=DATA)
    same: list[Callable[..., Any]] = [
        lambda p, **more: tpc.limit(p, **more)["k"].tolist(),
        lambda p, **more: tpc.simulate(p, 16, seeds=2, **more)["k"].tolist(),
        lambda p, **more: repr(tpc.verify(p, widths=(16, 32), seeds=4, **more).checks),
        lambda p, **more: tpc.derive(p, **more).unicode(),
        lambda p, **more: str(tpc.scale(p, **more)),
    ]
    for function in same:
        assert function(PROGRAM, data=DATA) == function(literal) == function(program)
    assert tpc.check(PROGRAM, data=DATA) == []
    assert tpc.limit(tpc.expand(PROGRAM, data=DATA))["k"].tolist() == tpc.limit(literal)["k"].tolist()


def test_what_is_compiled_is_not_changed() -> None:
    given = X.copy()
    program = tpc.compile(PROGRAM, data={"xi": given})
    before = tpc.limit(program)["k"]
    given[:] = 0
    np.testing.assert_array_equal(tpc.limit(program)["k"], before)
    with pytest.raises(TypeError, match=r"compiled already; pass data to compile"):
        tpc.limit(program, data=DATA)
    with pytest.raises(TypeError, match=r"compiled already; pass settings to compile"):
        tpc.scale(program, settings={"d": 3})


@pytest.mark.parametrize("source", ['from "absent.npy"', "~ N(0, 1) seed 3", "= [[1, 2]]"])
def test_given_data_replace_every_source(source: str) -> None:
    """Large ones too, which `expand` would otherwise write as in the source."""
    text = PROGRAM.replace("axis i, j", "axis i, j : 80").replace("axis d", "axis d : 2")
    text = text.replace("data xi[i,d]", f"data xi[i,d] {source}").replace("data y[i] = [0, 0, 0]", "data y[i]")
    given = np.random.default_rng(0).normal(size=(80, 2))
    data = {"xi": given, "y": np.arange(80)}
    expected = tpc.limit(text, data=data, only=["s"])["s"]
    np.testing.assert_array_equal(expected, np.arange(80))
    np.testing.assert_array_equal(tpc.compile(tpc.expand(text, data=data)).outputs[0].node.type.shape, (80, 80))
    assert repr(float(given[-1, -1])) in tpc.expand(text, data=data)


def test_integers_may_index() -> None:
    text = "axis i, j\naxis w : 3\ndata tok[i]\nket |e[w]> ~ N(0, 1)\noutput k[i,j] = <e[tok[i]]|e[tok[j]]>\n"
    ids = np.array([2, 1, 2], dtype=np.uint8)
    np.testing.assert_array_equal(tpc.limit(text, data={"tok": ids})["k"], ids[:, None] == ids)
    code, page = mistake(text, tok=ids - 1)
    assert code == "NX225" and "add 1 to those that count from 0" in page
    code, page = mistake(text, tok=ids / 2)
    assert code == "NX223" and "`tok[i]` is not an index, since its data are not all integers" in page


# sizes ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("source", ["= [1, 2, 3]", 'from "y.npy"', 'from "y.npz"', 'from "two.npz"', 'from "y.csv"'])
def test_data_of_the_program_give_sizes_too(source: str, tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", [1, 2, 3])
    np.savez(tmp_path / "y.npz", other=[1, 2, 3])
    np.savez(tmp_path / "two.npz", x=[0], y=[1, 2, 3])
    (tmp_path / "y.csv").write_text("1\n2\n3\n")
    (tmp_path / "p.nexort").write_text(f"axis i\ndata y[i] {source}\noutput f[i] = y[i]\n")
    assert tpc.limit(tmp_path / "p.nexort")["f"].tolist() == [1, 2, 3]


def test_data_of_an_imported_file_give_sizes(tmp_path: Path) -> None:
    (tmp_path / "data.nexort").write_text("axis i\ndata y[i]\n")
    (tmp_path / "p.nexort").write_text('import "data.nexort"\noutput f[i] = y[i]\n')
    assert tpc.limit(tmp_path / "p.nexort", data={"y": [3, 4]})["f"].tolist() == [3, 4]


def test_a_setting_gives_a_size() -> None:
    text = "axis i\nket |u[i]> ~ N(0, 1)\noutput f[i] = <u[i]|u[i]>\n"
    assert tpc.limit(text, settings={"i": 4})["f"].tolist() == [1] * 4
    assert mistake(text)[0] == "NX307"
    assert "`--set i=4` was given" in mistake("axis i\ndata y[i]\noutput y[i]\n", {"i": 4}, y=[1, 2])[1]


def test_sizes_are_compared() -> None:
    """The array, the axis, both sizes, and the declaration."""
    code, page = mistake(xi=X[:2])
    assert code == "NX304" and "4 | data y[i]" in page
    assert "`y` has 3 entries over `i`, but `xi` has 2" in page
    code, page = mistake(PROGRAM.replace("axis d", "axis d : 5"), xi=X)
    assert code == "NX304" and "3 | data xi[i,d]" in page
    assert "`xi` has 2 entries over `d`, but `axis d : 5` has 5" in page


@pytest.mark.parametrize(
    "shape, message",
    [
        ((3,), "has 2 indices, [i,d], but its array has 1 dimension: 3"),
        ((3, 2, 1), "has 2 indices, [i,d], but its array has 3 dimensions: 3 x 2 x 1"),
        ((), "has 2 indices, [i,d], but its array has no dimensions"),
    ],
)
def test_dimensions_are_compared(shape: tuple[int, ...], message: str) -> None:
    code, page = mistake(xi=np.zeros(shape))
    assert code == "NX304" and message in page


# mistakes ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "given, code, message",
    [
        (X * 1j, "NX315", "holds complex numbers, not real numbers"),
        ([["a", "b"]] * 3, "NX315", "holds text, not real numbers"),
        (np.array([[1, None]]), "NX315", "holds objects, not real numbers"),
        (None, "NX315", "holds one NoneType, not real numbers"),
        ({"a": 1}, "NX315", "holds one dict, not real numbers"),
        (np.array(["2020-01-01"], dtype="M8[D]"), "NX315", "holds dates, not real numbers"),
        ([[1, 2], [3]], "NX314", "cannot be read as an array: setting an array element with a sequence"),
        (np.where(X == 0.8, np.nan, X), "NX316", "`xi[2,2]` is NaN"),
        (np.where(X == 0.8, -np.inf, X), "NX316", "`xi[2,2]` is infinite"),
        (np.ma.masked_greater(X, 0.9), "NX316", "has masked entries"),
        ("absent.npy", "NX311", "there is no file `absent.npy`, which was given for `xi`"),
        (Path("/"), "NX311", "there is no file"),
    ],
)
def test_what_is_not_an_array_of_numbers(given: Any, code: str, message: str) -> None:
    found, page = mistake(xi=given)
    assert found == code and message in page and "data xi[i,d]" in page


@pytest.mark.parametrize(
    "name, remedy",
    [
        ("xii", "did you mean `xi`?"),
        ("qqq", "its data are xi, y"),
        ("u", "its data are xi, y"),
        ("d", "`--set d=...`, in Python `settings={...}`"),
        ("eta", "`--set eta=...`, in Python `settings={...}`"),
        ("k", "its data are xi, y"),
    ],
)
def test_names_that_are_not_data(name: str, remedy: str) -> None:
    code, page = mistake(PROGRAM + "eta = 2\n", **DATA, **{name: [1.0]})
    assert code == "NX308" and page.endswith(remedy)
    assert "`--data xi=FILE`" in mistake(LITERAL, {"xi": 1})[1]


def test_missing_data_are_the_only_error() -> None:
    assert mistake()[0] == "NX306"


# the command line ----------------------------------------------------------------------------------------------
@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.nexort").write_text(PROGRAM)
    np.save("x.npy", X)
    np.savez("all.npz", xi=X, other=X[:2])
    np.savetxt("x.csv", X, delimiter=",", header="a,b", comments="")
    return tmp_path


@pytest.mark.parametrize("file", ["x.npy", "x.csv", "all.npz", "all.npz:xi"])
def test_files(folder: Path, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["limit", "p.nexort", "--json", "--data", f"xi={file}"]) == 0
    found = json.loads(capsys.readouterr().out)["outputs"]["k"]["value"]
    np.testing.assert_array_equal(found, tpc.limit(LITERAL)["k"])
    np.testing.assert_array_equal(found, tpc.limit(PROGRAM, data={"xi": file})["k"])


@pytest.mark.parametrize(
    "command",
    ["check", "limit", "equations", "simulate --width 8", "verify --widths 8,16", "scale", "expand", "show --stage ir"],
)
def test_every_command_takes_data(folder: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, *options = command.split()
    assert cli.main([name, "p.nexort", *options]) == 1
    assert "NX306" in capsys.readouterr().err
    assert cli.main([name, "p.nexort", *options, "--data", "xi=x.npy", "--data", "y=y.npy"]) == 1
    assert "NX311" in capsys.readouterr().err
    np.save("y.npy", Y)
    assert cli.main([name, "p.nexort", *options, "--data", "xi=x.npy", "--data", "y=y.npy"]) == 0


@pytest.mark.parametrize("wrong", ["xi", "=x.npy", "xi="])
def test_data_on_the_command_line_are_pairs(folder: Path, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["limit", "p.nexort", "--data", wrong]) == 2
    assert "expected NAME=FILE" in capsys.readouterr().err


def test_members_that_are_not_there(folder: Path) -> None:
    code, page = mistake(xi="all.npz:missing")
    assert code == "NX317" and "xi, other" in page
    assert mistake(xi="all.npz:other")[0] == "NX304"


def test_a_checkpoint_belongs_to_its_data(folder: Path) -> None:
    """The same numbers in another shape are another run."""
    text = "axis i\naxis d\ndata x[i,d]\nket |u> ~ N(0, 1)\noutput f = sum[i](sum[d](x[i,d])^2) * <exp(sin(u))>\n"
    options: dict[str, Any] = {"method": "qmc", "samples": 64, "checkpoint": "run.npz"}
    tpc.limit(text, data={"x": X}, **options)
    tpc.limit(text, data={"x": X}, **options)
    with pytest.raises(tpc.ProgramError, match="NX434"):
        tpc.limit(text, data={"x": X.reshape(2, 3)}, **options)
