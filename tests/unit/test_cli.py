"""The command line: exit codes, streams and options, with a driver that computes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tp_compiler
from tp_compiler import arguments, cli
from tp_compiler import driver as real_driver
from tp_compiler._version import __version__
from tp_compiler.diagnostics import Diagnostic, ProgramError, Source, Span
from tp_compiler.results import Estimate, Run

ROOT = Path(__file__).resolve().parents[2]
WARNING = Diagnostic("NX901", "careful")


class FakeDriver:
    """Compiles everything but `bad`; every output is 0.5 with standard error 0.01."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.failed: dict[str, Diagnostic] = {}
        self.value: float = 0.5
        self.passed = True
        self.error: BaseException | None = None
        self.warnings: dict[str, tuple[Diagnostic, ...]] = {}

    def read(self, path: str, *, allow_outside: bool = False) -> Source:
        if path == "-":
            return Source("-", sys.stdin.read())
        if not Path(path).is_file():
            raise ProgramError([Diagnostic("NX001", f"there is no file {path}")])
        return Source(path, Path(path).read_text(encoding="utf-8"))

    def diagnose(self, source: Source, *, settings: dict[str, float], data: Any = None) -> list[Diagnostic]:
        at = source.text.find("bad")
        return [Diagnostic("NX101", "bad is bad", Span(source, at, at + 3), "be good")] if at >= 0 else [WARNING]

    def compile(self, source: Source, *, settings: dict[str, float], data: Any = None) -> Any:
        self.calls.append(("compile", settings))
        errors = [d for d in self.diagnose(source, settings=settings) if not d.is_warning]
        if errors:
            raise ProgramError(errors)
        outputs = [SimpleNamespace(name=name) for name in ("nngp", "attention", "f(x, y)")]
        return SimpleNamespace(source=source, outputs=outputs, warnings=(WARNING,))

    def check(self, source: Source, *, settings: dict[str, float], data: Any = None) -> Any:
        return self.compile(source, settings=settings)

    def format(self, source: Source, *, style: str) -> str:
        self.compile(source, settings={})
        text = source.text.replace("  ", " ")
        return text.replace("|x>", "|x⟩") if style == "unicode" else text

    def expand(self, source: Source, *, settings: dict[str, float], data: Any = None) -> str:
        self.compile(source, settings=settings)
        return "|x> = 1\n"

    def show(self, source: Source, *, stage: str, settings: dict[str, float], data: Any = None) -> str:
        return f"{stage} of {source.name}"

    def _run(self, command: str, program: Any, options: dict[str, Any]) -> Run:
        self.calls.append((command, options))
        if self.error is not None:
            raise self.error
        names = [o.name for o in program.outputs if options["only"] is None or o.name in options["only"]]
        value, stderr = np.full(2, self.value), np.full(2, 0.01)
        outputs = {name: Estimate(value, stderr, ("i",), "qmc") for name in names if name not in self.failed}
        return Run(program.source.name, command, outputs, self.failed, self.warnings.get(command, ()), {"seed": 0}, 0.1)

    def accept(self, **options: Any) -> None:
        real_driver.accept(**options)

    def limit(self, program: Any, **options: Any) -> Run:
        return self._run("limit", program, options)

    def simulate(self, program: Any, **options: Any) -> Run:
        return self._run("simulate", program, options)

    def verify(self, program: Any, **options: Any) -> Any:
        from tp_compiler.finite.converge import OutputCheck, Verification

        run = self._run("verify", program, options)
        figures = (1.0, 1.0), 1.0, 0.0, 3.0, (0.02, 0.01), -0.5, (-0.6, -0.4), 2
        return Verification(
            tuple(OutputCheck(name, (256, 512), *figures, self.passed) for name in run), 1e-3, 4, self.passed
        )


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    fake = FakeDriver()
    monkeypatch.setitem(sys.modules, "tp_compiler.driver", fake)  # type: ignore[arg-type]
    monkeypatch.setattr(tp_compiler, "driver", fake, raising=False)
    return fake


@pytest.fixture
def good(tmp_path: Path) -> str:
    path = tmp_path / "good.nexort"
    path.write_text("output  nngp = <x|x>\n", encoding="utf-8")
    return str(path)


@pytest.fixture
def bad(tmp_path: Path) -> str:
    path = tmp_path / "bad.nexort"
    path.write_text("output bad\n", encoding="utf-8")
    return str(path)


def test_limit_prints_the_table_and_the_warning(driver: FakeDriver, good: str, capsys: Any) -> None:
    assert cli.main(["limit", good]) == 0
    out, err = capsys.readouterr()
    assert "nngp[i]" in out and "0.500(10)" in out
    assert "warning[NX901]" in err


def test_options_reach_the_driver(driver: FakeDriver, good: str) -> None:
    argv = ["limit", good, "--samples", "1024", "--max-memory", "1.5G", "--set", "d=3", "--set", "eta=1e-2", "--seed=7"]
    assert (
        cli.main([*argv, "--only", "nngp,attention", "--only", "f(x, y)", "--max-time", "2.5", "--method", "mc"]) == 0
    )
    assert driver.calls[0] == ("compile", {"d": 3.0, "eta": 0.01})
    options = driver.calls[1][1]
    assert options["samples"] == 1024 and options["max_samples"] is None and options["seed"] == 7
    assert options["max_memory"] == 3 * 2**29 and options["max_time"] == 2.5 and options["method"] == "mc"
    assert options["only"] == ["nngp", "attention", "f(x, y)"] and options["progress"] is None


def test_json_on_stdout_is_only_json(driver: FakeDriver, good: str, capsys: Any) -> None:
    assert cli.main(["limit", good, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "limit" and document["version"] == __version__
    assert document["outputs"]["nngp"]["value"] == [0.5, 0.5]
    assert document["warnings"] == [{"code": "NX901", "message": "careful"}]


def test_errors_go_to_stderr_with_a_caret(driver: FakeDriver, bad: str, capsys: Any) -> None:
    for command in ("limit", "verify", "expand", "equations", "scale"):
        assert cli.main([command, bad]) == 1
        out, err = capsys.readouterr()
        assert out == "" and "error[NX101]: bad is bad" in err and "^^^" in err


@pytest.mark.parametrize(
    "options",
    [
        ["--samples", "1000"],
        ["--samples", "0"],
        ["--replicates", "-1"],
        ["--replicates", "1"],
        ["--rtol", "nan"],
        ["--atol", "-1"],
        ["--max-memory", "lots"],
        ["--max-time", "0"],
        ["--set", "d"],
        ["--set", "d=many"],
        ["--set", "d=inf"],
        ["--method", "guess"],
        ["--json", "--latex"],
        ["--save", "out.csv"],
        ["--plot", "out.docx"],
        ["--plot", "no/such/folder/out.png"],
        ["--threads", "0"],
        ["--sample", "8"],
        ["--seed", "-1"],
    ],
)
def test_bad_options_are_usage_errors(driver: FakeDriver, good: str, options: list[str], capsys: Any) -> None:
    assert cli.main(["limit", good, *options]) == 2
    assert "error:" in capsys.readouterr().err


def test_unknown_output_suggests_the_nearest(driver: FakeDriver, good: str, capsys: Any) -> None:
    assert cli.main(["limit", good, "--only", "atention"]) == 2
    assert "did you mean attention?" in capsys.readouterr().err


def test_no_command_and_unknown_command(capsys: Any) -> None:
    assert cli.main([]) == 2
    assert cli.main(["limitt", "x"]) == 2
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"tpc {__version__}\n"
    assert cli.main(["mlp.nexort"]) == 2
    assert "a command comes first, such as: tpc limit mlp.nexort" in capsys.readouterr().err


def test_failed_output_does_not_stop_the_others(driver: FakeDriver, good: str, capsys: Any) -> None:
    driver.failed = {"attention": Diagnostic("NX810", "ntk is not evaluated")}
    assert cli.main(["limit", good, "--json"]) == 3
    out, err = capsys.readouterr()
    assert set(json.loads(out)["outputs"]) == {"nngp", "f(x, y)"}
    assert json.loads(out)["failed"]["attention"]["code"] == "NX810"
    assert "ntk is not evaluated" in err


def test_tolerance_asked_for_and_missed(driver: FakeDriver, good: str, capsys: Any) -> None:
    assert cli.main(["limit", good, "--atol", "1e-5", "--rtol", "0"]) == 3
    assert "the tolerance is not met by nngp" in capsys.readouterr().err
    assert cli.main(["limit", good, "--atol", "0.1"]) == 0


def test_refused_evaluation_is_incomplete(driver: FakeDriver, good: str, capsys: Any) -> None:
    driver.error = ProgramError([Diagnostic("NX431", "width 9 needs too much memory")])
    assert cli.main(["simulate", good, "--width", "9"]) == 3
    assert "NX431" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (MemoryError(), 3), (BrokenPipeError(), 0)])
def test_interruptions(driver: FakeDriver, good: str, error: BaseException, code: int, capsys: Any) -> None:
    driver.error = error
    assert cli.main(["limit", good]) == code
    assert "Traceback" not in capsys.readouterr().err


def test_internal_errors_have_a_traceback_only_with_debug(driver: FakeDriver, good: str, capsys: Any) -> None:
    driver.error = ZeroDivisionError("oops")
    assert cli.main(["limit", good]) == 70
    assert "internal error (ZeroDivisionError: oops)" in (err := capsys.readouterr().err) and "Traceback" not in err
    for argv in (["limit", good, "--debug"], ["--debug", "limit", good]):
        assert cli.main(argv) == 70
        assert "Traceback" in capsys.readouterr().err


def test_a_width_reaches_the_driver(driver: FakeDriver, good: str, capsys: Any) -> None:
    assert cli.main(["limit", good, "--width", "512"]) == 0
    assert driver.calls[-1][1]["width"] == 512
    assert cli.main(["limit", good]) == 0 and driver.calls[-1][1]["width"] is None
    assert cli.main(["verify", good, "--predicted", "--widths", "64"]) == 0
    assert driver.calls[-1][1]["predicted"] and driver.calls[-1][1]["width"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--width", "0"], "expected an integer of at least 1, got '0'"),
        (["--width", "1.5"], "expected an integer of at least 1"),
        (["--within", "0.01"], "--within needs --width"),
        (["--width", "64", "--within", "0"], "expected a positive fraction"),
        (["--width", "64", "--within", "0.01", "--json"], "--within is for the format text"),
        (["--width", "64", "--networks", "8,16", "--plot", "x.svg"], "is the number of networks of that width"),
        (["--width", "64", "--networks", "8"], "--networks needs --plot"),
        (["--width", "64", "--networks", "100000000", "--plot", "x.svg"], "--networks draws 10000 networks at most"),
        (["--width", "64", "--shards", "2"], "width cannot be combined with shards"),
        (["--width", "64", "--checkpoint", "parts"], "width cannot be combined with checkpoint"),
        (["--replicate-range", "0:2", "--checkpoint", "parts/"], "needs a number of samples"),
    ],
)
def test_options_of_a_width_that_do_not_fit(
    driver: FakeDriver, good: str, capsys: Any, options: list[str], message: str
) -> None:
    if "x.svg" in options:
        pytest.importorskip("matplotlib")
    assert cli.main(["limit", good, *options]) == 2
    assert message in capsys.readouterr().err
    assert driver.calls == []  # before the program is compiled


def test_an_alignment_that_there_is_not(driver: FakeDriver, good: str, capsys: Any) -> None:
    from tp_compiler.scale.given_alignments import WORDS

    assert tuple(WORDS) == arguments.ALIGNMENTS
    for wrong in ("foo", "measured=", "measured"):
        assert cli.main(["scale", good, "--alignment", wrong]) == 2
        assert "expected full, none, limit or measured=FILE" in capsys.readouterr().err
    assert driver.calls == []


def test_networks_have_the_time_that_is_left(driver: FakeDriver, good: str, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("matplotlib")
    driver.seed_at = lambda seed, width: seed + width  # type: ignore[attr-defined]
    driver.warnings["simulate"] = (Diagnostic("NX911", "stopped at the time limit: averages over 2 of 8 networks"),)
    cli.main(["limit", good, "--networks", "8,16", "--max-time", "9", "--plot", str(tmp_path / "x.svg")])
    first, second = [options["max_time"] for name, options in driver.calls if name == "simulate"]
    assert 0 < first < 4.6 and first < second < 9
    assert "averages over 2 of 8 networks" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "networks"), [("limit", 0), ("simulate", 1)])
def test_no_network_is_begun_after_an_interruption(
    driver: FakeDriver, good: str, tmp_path: Path, command: str, networks: int
) -> None:
    pytest.importorskip("matplotlib")
    driver.seed_at = lambda seed, width: seed + width  # type: ignore[attr-defined]
    driver.warnings[command] = (Diagnostic("NX914", "interrupted"),)
    assert cli.main(["limit", good, "--networks", "8,16", "--plot", str(tmp_path / "x.svg")]) == 130
    assert [name for name, _ in driver.calls].count("simulate") == networks


def test_networks_of_a_width_are_counted(driver: FakeDriver, good: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    driver.seed_at = lambda seed, width: seed + width  # type: ignore[attr-defined]
    cli.main(["limit", good, "--width", "64", "--networks", "32", "--plot", str(tmp_path / "x.svg")])
    (options,) = [options for name, options in driver.calls if name == "simulate"]
    assert (options["width"], options["seeds"]) == (64, 32)


def test_simulate(driver: FakeDriver, good: str, capsys: Any) -> None:
    assert cli.main(["simulate", good]) == 2
    assert cli.main(["simulate", good, "--width", "64", "--seeds", "4", "--dtype", "float32"]) == 0
    options = driver.calls[-1][1]
    assert options["width"] == 64 and options["seeds"] == 4 and options["dtype"] == "float32"


def test_verify(driver: FakeDriver, good: str, capsys: Any) -> None:
    assert cli.main(["verify", good, "--widths", "512,256"]) == 0
    assert driver.calls[-1][1]["widths"] == (256, 512)
    assert "verify: pass" in capsys.readouterr().out
    driver.passed = False
    assert cli.main(["verify", good, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["passed"] is False
    driver.passed, driver.failed = True, {"nngp": WARNING}
    assert cli.main(["verify", good]) == 3
    assert "could not be computed, and was not compared: nngp" in capsys.readouterr().err


def test_check(driver: FakeDriver, good: str, bad: str, capsys: Any) -> None:
    assert cli.main(["check", good]) == 0
    assert capsys.readouterr().out == f"{good}: no errors\n"
    assert cli.main(["check", good, bad, "missing.nexort"]) == 1
    err = capsys.readouterr().err
    assert "NX101" in err and "NX001" in err
    assert cli.main(["check", bad, "missing.nexort", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["diagnostics"]
    assert [d["code"] for d in found] == ["NX101", "NX001"]
    assert found[0]["line"] == 1 and found[0]["column"] == 8 and found[1]["file"] == "missing.nexort"


def test_fmt_rewrites_in_place(driver: FakeDriver, good: str, bad: str, capsys: Any) -> None:
    assert cli.main(["fmt", good, "--check"]) == 1
    assert Path(good).read_text() == "output  nngp = <x|x>\n"
    os.chmod(good, 0o640)
    assert cli.main(["fmt", bad, good]) == 1  # the error in one file does not stop the other
    assert Path(good).read_text() == "output nngp = <x|x>\n"
    assert os.stat(good).st_mode & 0o777 == 0o640
    assert cli.main(["fmt", good, "--check"]) == 0
    assert os.listdir(Path(good).parent) and not list(Path(good).parent.glob(".*"))


def test_fmt_of_stdin_prints(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO("|x>  = 1\n"))
    assert cli.main(["fmt", "-", "--unicode"]) == 0
    assert capsys.readouterr().out == "|x⟩ = 1\n"


def test_show_and_later_stages(driver: FakeDriver, good: str, capsys: Any) -> None:
    assert cli.main(["show", good, "--stage", "ir"]) == 0
    assert capsys.readouterr().out == f"ir of {good}\n"


def test_expand_prints_a_program(driver: FakeDriver, good: str, capsys: Any) -> None:
    assert cli.main(["expand", good, "--set", "d=3"]) == 0
    assert capsys.readouterr().out == "|x> = 1\n"
    assert driver.calls[0] == ("compile", {"d": 3.0})


def test_save_and_latex(driver: FakeDriver, good: str, tmp_path: Path, capsys: Any) -> None:
    assert cli.main(["limit", good, "--latex", "--save", str(tmp_path / "r.npz")]) == 0
    assert r"\begin{pmatrix}" in capsys.readouterr().out
    np.testing.assert_array_equal(np.load(tmp_path / "r.npz")["nngp"], [0.5, 0.5])


def test_unwritable_file_costs_the_exit_code_not_the_result(
    driver: FakeDriver, good: str, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "folder.npz").mkdir()
    assert cli.main(["limit", good, "--save", str(tmp_path / "folder.npz")]) == 2
    out, err = capsys.readouterr()
    assert "nngp" in out and "cannot write" in err


def test_plot_without_matplotlib(driver: FakeDriver, good: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert cli.main(["limit", good, "--plot", "out.png"]) == 2
    assert "pip install matplotlib" in capsys.readouterr().err and not driver.calls


def test_new_prints_and_never_overwrites(tmp_path: Path, capsys: Any) -> None:
    from tp_compiler.arguments import STARTERS

    for kind in STARTERS:
        assert cli.main(["new", kind]) == 0
        text = capsys.readouterr().out
        assert text.startswith("#") and ("output nngp[i,j]" in text or "output loss[step]" in text)
    target = tmp_path / "mine.nexort"
    assert cli.main(["new", "mlp", "--output", str(target)]) == 0
    target.write_text("precious")
    assert cli.main(["new", "mlp", "--output", str(target)]) == 2
    assert target.read_text() == "precious"
    assert cli.main(["new", "gan"]) == 2


def _tpc(*argv: str, code: str = "") -> subprocess.CompletedProcess[str]:
    program = code or "import sys; from tp_compiler.cli import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", program, *argv]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=environment)


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from tp_compiler.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    loaded = set(_tpc(code=code).stderr.split())
    assert not loaded & {"numpy", "scipy", "sympy", "lark", "rich", "matplotlib"}


def test_streams_are_utf8_whatever_the_locale() -> None:
    done = _tpc("new", "mlp")
    assert done.returncode == 0 and done.stderr == ""


def test_closed_pipe_is_silent() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tp_compiler", "new", "transformer"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=environment)
    os.close(write)
    assert done.returncode == 0 and done.stderr == b""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["limt", "x"], "did you mean limit?"),
        (["new", "mpl"], "did you mean mlp?"),
        (
            ["limit", "x", "--sampels", "64"],
            "tpc limit: error: unrecognized arguments: --sampels 64; did you mean --samples?",
        ),
        (["limit", "x", "--format", "jsn"], "did you mean json?"),
        (["verify", "x", "--widths", "64", "128"], "lists have commas and no spaces"),
        (["limit", "x", "--samples", "1000"], "expected a power of two, got '1000'\n  `tpc limit --help`"),
    ],
)
def test_slips_in_the_command_are_answered_in_two_lines(
    line: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(line) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 2
