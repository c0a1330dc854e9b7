"""The command `tpc`: arguments in, text and exit codes out. No mathematics.

NumPy, SymPy and the stages are imported only when a command reaches them, so that `tpc --help` is immediate and
`--threads` is set before NumPy starts its threads.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tp_compiler import arguments, terminal
from tp_compiler._version import __version__
from tp_compiler.arguments import UsageError
from tp_compiler.diagnostics import Diagnostic, ProgramError, printable
from tp_compiler.process import RARELY, USUALLY, collected
from tp_compiler.signatures import overlaid
from tp_compiler.user_functions import called, imported

if TYPE_CHECKING:
    from tp_compiler.finite.converge import Verification
    from tp_compiler.ir.model import Compiled
    from tp_compiler.ir.program import Program
    from tp_compiler.results import Run

DONE, PROGRAM_ERRORS, USAGE, INCOMPLETE, INTERNAL, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 70, 130, 143

#: Codes that say that there are fewer networks than asked for.
_CUT = ("NX911", "NX914")
#: Options that say where the work is done.
_WORKPLACE = ("workers", "cluster")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class _Incomplete(Exception):
    """The evaluation as a whole was refused; `diagnostics` say why."""

    def __init__(self, diagnostics: list[Diagnostic]):
        self.diagnostics = diagnostics
        super().__init__(*(diagnostic.message for diagnostic in diagnostics))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code and raises nothing."""
    debug = "--debug" in (sys.argv[1:] if argv is None else argv)
    terminal.prepare_streams()
    try:
        with terminal.signals(), collected(RARELY):
            code = _main(argv)
            terminal.flush()
            return TERMINATED if code == INTERRUPTED and terminal.terminated() else code
    except BrokenPipeError:
        return terminal.silence()
    except terminal.Unwritable as error:
        terminal.silence()
        terminal.say(f"tpc: cannot write to standard output: {error}")
        return USAGE
    except terminal.Terminated:
        terminal.say("tpc: terminated")
        return TERMINATED
    except KeyboardInterrupt:
        terminal.say("tpc: interrupted")
        return INTERRUPTED
    except MemoryError:
        terminal.say("tpc: out of memory; reduce --samples or --width, or set a limit with --max-memory")
        return INCOMPLETE
    except Exception as error:
        if debug:
            traceback.print_exc()
        else:
            terminal.say(
                f"tpc: internal error ({type(error).__name__}: {error}); please report this bug; run with --debug for details"
            )
        return INTERNAL


def _main(argv: Sequence[str] | None) -> int:
    try:
        args = arguments.parser().parse_args(argv)
    except SystemExit as stop:  # --help, --version, usage errors
        return stop.code if isinstance(stop.code, int) else USAGE
    if getattr(args, "shards", None) and os.environ.get("RANK", "0") != "0":
        return _follow(args)
    return _run(args)


def _follow(args: Namespace) -> int:
    """Of several processes that share the particles, the first one says and writes what all have found."""
    args.plot = args.save = args.html = None
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        return _run(args)


def _run(args: Namespace) -> int:
    with terminal.more(quiet=args.quiet):
        try:
            return _COMMANDS[args.command](args)
        except ProgramError as error:
            terminal.print_diagnostics(error.diagnostics)
            return INCOMPLETE if all(d.code == "NX434" for d in error.diagnostics) else PROGRAM_ERRORS
        except _Incomplete as error:
            terminal.print_diagnostics(error.diagnostics)
            return USAGE if all(d.code == "NX432" for d in error.diagnostics) else INCOMPLETE
        except UsageError as error:
            terminal.say(f"tpc {args.command}: error: {error}")
            return USAGE


# ---------------------------------------------------------------------------------------------------------- commands


def _check(args: Namespace) -> int:
    from tp_compiler import driver

    found: list[Diagnostic] = []
    records: list[dict[str, object]] = []
    for file in args.files:
        try:
            diagnostics = driver.diagnose(driver.read(file, allow_outside=args.allow_outside), **_replaced(args))
        except ProgramError as error:
            diagnostics = error.diagnostics
        found += diagnostics
        records += [{"file": file} | diagnostic.to_json() for diagnostic in diagnostics]
        if not args.json and not args.quiet and not any(not d.is_warning for d in diagnostics):
            terminal.show(printable(f"{file}: no errors"))
    if args.json:
        _print_json({"version": __version__, "command": "check", "diagnostics": records})
    else:
        terminal.print_diagnostics(found)
    return PROGRAM_ERRORS if any(not diagnostic.is_warning for diagnostic in found) else DONE


def _fmt(args: Namespace) -> int:
    code = DONE
    for file in args.files:
        try:
            changed = _format_file(file, args)
        except ProgramError as error:
            terminal.print_diagnostics(error.diagnostics)
            code = PROGRAM_ERRORS
            continue
        if changed and args.check:
            code = PROGRAM_ERRORS
    return code


def _format_file(file: str, args: Namespace) -> bool:
    from tp_compiler import driver

    source = driver.read(file)
    text = driver.format(source, style=args.style)
    changed = text != source.text
    if file == "-" and not args.check:
        terminal.write(text)
    elif changed:
        if not args.check:
            with terminal.writing(file):
                terminal.replace(Path(file), text)
        if not args.quiet:
            terminal.say(f"{'would format' if args.check else 'formatted'} {file}")
    return changed


def _show(args: Namespace) -> int:
    from tp_compiler import driver

    text = driver.show(driver.read(args.file, allow_outside=args.allow_outside), stage=args.stage, **_replaced(args))
    terminal.show(text.removesuffix("\n"))
    return DONE


def _expand(args: Namespace) -> int:
    from tp_compiler import driver

    terminal.write(driver.expand(driver.read(args.file, allow_outside=args.allow_outside), **_replaced(args)))
    return DONE


def _equations(args: Namespace) -> int:
    _drawable(args.plot)
    from tp_compiler import driver

    program = _compile(args)
    terminal.print_diagnostics(program.warnings)
    system = driver.equations(program)
    drawn = not args.plot or _drawn(args, system.graph())
    terminal.show(system.latex() if args.latex else system.graph().dot() if args.dot else system.unicode())
    return DONE if drawn else USAGE


def _scale(args: Namespace) -> int:
    _drawable(args.plot)
    from tp_compiler import driver

    model = driver.check(driver.read(args.file, allow_outside=args.allow_outside), **_replaced(args))
    terminal.print_diagnostics(model.warnings)
    scaling = driver.scale(model.network, optimizer=args.optimizer, alignment=args.alignment)
    terminal.print_diagnostics(scaling.warnings)
    drawn = _drawn(args, scaling)
    if args.json:
        _print_json({"version": __version__, **scaling.as_json()})
    else:
        terminal.show(scaling.torch() if args.emit else scaling.text(args.equivalent))
    return DONE if drawn else USAGE


def _limit(args: Namespace) -> int:
    _prepare(args)
    _check_together(args)
    options = _limit_options(args)
    from tp_compiler import driver

    program = _compile(args)
    options["only"] = _only(args, program)
    _check_abscissa(args, program)
    start = time.monotonic()
    with _evaluating(args) as progress:
        run = driver.limit(program, **options, progress=progress)
        left = None if args.max_time is None else args.max_time - (time.monotonic() - start)
        networks = [] if _interrupted(run) else _overlay(args, program, run, left, progress)
    terminal.print_diagnostics([w for n in networks for w in n.warnings if w.code in _CUT])
    return _settled(_deliver(run, program, args, networks), run, *networks)


def _overlay(
    args: Namespace, program: Compiled, run: Run, left: float | None, progress: Callable[..., None] | None
) -> list[Run]:
    """The networks that are drawn over a limit, in the time that is left."""
    from tp_compiler import driver

    asked = overlaid(args.networks or (), args.width, seeds=8)
    networks: list[Run] = []
    for k, (n, seeds) in enumerate(asked):
        start = time.monotonic()
        one = driver.simulate(
            program,
            width=n,
            seeds=seeds,
            seed=driver.seed_at(args.seed, n),
            only=list(run.outputs),
            progress=progress,
            max_time=None if left is None else max(0.0, left) / (len(asked) - k),
            max_memory=args.max_memory,
            workers=args.workers,
            cluster=args.cluster,
        )
        left = None if left is None else left - (time.monotonic() - start)
        networks.append(one)
        if _interrupted(one):
            break
    return networks


def _merge(args: Namespace) -> int:
    _drawable(args.plot, args.save, args.html)
    _check_together(args)
    from tp_compiler import driver

    record, program = driver.stored(args.folder)
    args.rtol, args.atol = record.options["rtol"], record.options["atol"]
    _check_abscissa(args, program)
    with _evaluating(args) as progress:
        run = driver.merge(record, program, progress=progress)
    return _settled(_deliver(run, program, args), run)


def _simulate(args: Namespace) -> int:
    _prepare(args)
    _check_together(args)
    from tp_compiler import driver

    program = _compile(args)
    keys = ("width", "seeds", "seed", "dtype", "max_memory", "max_time", *_WORKPLACE)
    options = {key: getattr(args, key) for key in keys} | {"only": _only(args, program)}
    _check_abscissa(args, program)
    with _evaluating(args) as progress:
        run = driver.simulate(program, **options, progress=progress)
    return _settled(_deliver(run, program, args), run)


def _settled(code: int, *runs: Run) -> int:
    """The exit code of runs; an interrupted run counts as incomplete."""
    return INTERRUPTED if any(map(_interrupted, runs)) else code


def _interrupted(run: Run) -> bool:
    return any(w.code == "NX914" for w in run.warnings)


def _verify(args: Namespace) -> int:
    _prepare(args)
    from tp_compiler import driver
    from tp_compiler.report import json

    options = _limit_options(args)
    program = _compile(args)
    terminal.print_diagnostics(program.warnings)
    options["only"] = _only(args, program)
    with _evaluating(args) as progress:
        given = {"widths": args.widths, "seeds": args.seeds, "predicted": args.predicted}
        outcome = driver.verify(program, **given, **options, progress=progress)
    terminal.print_diagnostics([w for w in outcome.warnings if w not in program.warnings])
    missing = _missing(options["only"] or [output.name for output in program.outputs], outcome)
    code = PROGRAM_ERRORS if outcome.checks and not outcome.passed else INCOMPLETE if missing else DONE
    if not _drawn(args, outcome):
        code = USAGE
    if args.json:
        _print_json(json.verification_document(outcome, program.source.name))
    else:
        terminal.show(str(outcome))
    return code


def _missing(names: list[str], outcome: Verification) -> list[str]:
    """Outputs that were not compared, because their limit or their simulation could not be computed."""
    compared = {check.name for check in outcome.checks}
    missing = [name for name in names if name not in compared]
    if missing:
        terminal.say(f"tpc verify: could not be computed, and was not compared: {', '.join(missing)}")
    return missing


def _trace(args: Namespace) -> int:
    _require("tracing needs PyTorch", "'tp_compiler[torch]'", "torch")
    from tp_compiler.torch import trace
    from tp_compiler.torch.examples import example_inputs, example_targets

    trains = _trains(args)
    inputs = example_inputs(args.inputs)
    traced = trace(imported(*args.factory), inputs, args.widths, base_width=args.base_width, training=args.training)
    if trains:
        targets = example_targets(args.targets, args.loss, traced.shapes)
        traced = traced.train(args.loss, targets, optimizer=args.optimizer, steps=args.steps)
    if not args.quiet:
        for note in traced.report:
            terminal.say(f"note: {note}")
    if args.output in (None, "-"):
        terminal.write(traced.text)
        return DONE
    with terminal.writing(args.output):
        files = traced.save(args.output)
    _say_written(" and ".join(map(str, files)), args)
    return DONE


def _trains(args: Namespace) -> bool:
    """Is a training loop asked for, and completely?"""
    given = {name: getattr(args, name) is not None for name in ("loss", "optimizer", "steps")}
    missing = [f"--{name}" for name, is_given in given.items() if not is_given]
    if missing and (args.targets is not None or any(given.values())):
        raise UsageError(f"training needs {' and '.join(missing)}, too")
    return not missing


def _coord(args: Namespace) -> int:
    _drawable(args.plot)
    _require("a coordinate check needs PyTorch", "'tp_compiler[torch]'", "torch")
    from tp_compiler.torch import CoordCheck

    name = ":".join(args.check)
    check = called(name, imported(*args.check), args.widths)
    if not isinstance(check, CoordCheck):
        raise UsageError(
            f"{name} returned {type(check).__name__}, not a CoordCheck; end it with `return tpt.coord_check(..., widths=widths)`"
        )
    code = DONE if check.passed else PROGRAM_ERRORS
    if not _drawn(args, check):
        code = USAGE
    if args.json:
        _print_json({"version": __version__, **check.as_json()})
    else:
        terminal.show(str(check))
    return code


def _say_written(files: str, args: Namespace) -> None:
    if not args.quiet:
        terminal.say(f"wrote {files}; try: tpc limit {args.output}")


def _explain(args: Namespace) -> int:
    from tp_compiler.explanation import catalogue, explain
    from tp_compiler.pages import writer, written

    if not args.codes:
        terminal.show(written(catalogue(), "json" if args.json else "text"))
        return DONE
    try:
        found = [explain(code) for code in args.codes]
    except ValueError as problem:
        raise UsageError(str(problem)) from None
    if args.json:
        terminal.show(writer("Explanation", "json")(found))
    elif terminal.on_screen():
        terminal.styled("\n\n".join(written(e, "terminal") for e in found))
    else:
        terminal.show("\n\n".join(map(str, found)))
    return DONE


def _new(args: Namespace) -> int:
    from importlib.resources import files

    text = (files("tp_compiler") / "starters" / f"{args.kind}.nexort").read_text(encoding="utf-8")
    if args.output in (None, "-"):
        terminal.write(text)
        return DONE
    with terminal.writing(args.output), open(args.output, "x", encoding="utf-8", newline="\n") as file:
        file.write(text)
    _say_written(args.output, args)
    return DONE


def _completion(args: Namespace) -> int:
    from tp_compiler.completion import script
    from tp_compiler.explanation import codes

    terminal.write(script(arguments.parser(), args.shell, {"CODE": codes()}))
    return DONE


def _lsp(args: Namespace) -> int:
    _require("the language server needs pygls", "'tp_compiler[lsp]'", "pygls", "lsprotocol")
    from tp_compiler.editor.server import run

    run()
    return DONE


_COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "check": _check,
    "fmt": _fmt,
    "show": _show,
    "expand": _expand,
    "limit": _limit,
    "merge": _merge,
    "equations": _equations,
    "simulate": _simulate,
    "verify": _verify,
    "scale": _scale,
    "trace": _trace,
    "explain": _explain,
    "coord": _coord,
    "new": _new,
    "completion": _completion,
    "lsp": _lsp,
}


# ------------------------------------------------------------------------------------------------ before the evaluation


def _compile(args: Namespace) -> Compiled:
    from tp_compiler import driver

    return driver.compile(driver.read(args.file, allow_outside=args.allow_outside), **_replaced(args))


def _replaced(args: Namespace) -> dict[str, Any]:
    """What `--set` and `--data` replace in the text."""
    return {"settings": dict(args.settings), "data": dict(args.data)}


def _prepare(args: Namespace) -> None:
    """What can be refused before minutes of computing is refused now; threads are set before NumPy is loaded."""
    if args.threads is not None:
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(args.threads)))
    if args.cluster is not None:
        _require("--cluster needs dask.distributed", "'tp_compiler[cluster]'", "distributed")
    _drawable(args.plot, getattr(args, "save", None), getattr(args, "html", None))


def _drawable(plot: str | None, save: str | None = None, html: str | None = None) -> None:
    if plot:
        _require("--plot needs matplotlib", "matplotlib", "matplotlib")
    if save and save.lower().endswith(".nc"):
        _require("a NetCDF file needs xarray", "xarray", "xarray")
    if html:
        pair = ("matplotlib", "latex2mathml")
        _require(f"--html needs {' and '.join(pair)}", " ".join(pair), *pair)
    for target in (plot, save, html):
        if target and not Path(target).parent.is_dir():
            raise UsageError(f"cannot write {target}: the folder {Path(target).parent} does not exist")


def _require(why: str, install: str, *libraries: str) -> None:
    if not all(map(find_spec, libraries)):
        raise UsageError(f"{why}: pip install {install}")


def _check_together(args: Namespace) -> None:
    """What options need of one another, whatever the program."""
    if getattr(args, "replicate_range", None) and (args.plot or getattr(args, "html", None) or args.save):
        raise UsageError("part of the replicates is not a result yet: give --plot, --html and --save to tpc merge")
    for option in ("networks", "x"):
        if getattr(args, option, None) and not args.plot:
            raise UsageError(f"--{option} needs --plot")
    if getattr(args, "within", None) is not None:
        if args.width is None:
            raise UsageError("--within needs --width: without it, no fluctuations are computed")
        if args.format != "text":
            raise UsageError("--within is for the format text; in Python, run.width_for() has the numbers")
    if getattr(args, "networks", None) and args.width is not None and len(args.networks) > 1:
        raise UsageError("with --width, --networks is the number of networks of that width, such as 32")
    if getattr(args, "networks", None) and args.width is not None and args.networks[0] > arguments.MOST_NETWORKS:
        most = arguments.MOST_NETWORKS
        raise UsageError(
            f"--networks draws {most} networks at most; `tpc simulate --seeds {args.networks[0]}` averages more"
        )


def _check_abscissa(args: Namespace, program: Program) -> None:
    """`--x` is an index, or data over one."""
    if args.x is None:
        return
    from tp_compiler.ir.coordinates import coordinates
    from tp_compiler.report.plots.across import known as known_of

    indices = tuple(dict.fromkeys(index.name for output in program.outputs for index in output.indices))
    known = list(dict.fromkeys(known_of(indices, coordinates(program))))
    if args.x not in known:
        raise UsageError(
            f"--x: no output has an index {args.x!r}, or data of this name along one; {_hint(args.x, known, 'there are')}"
        )


def _hint(name: str, known: list[str], otherwise: str) -> str:
    """The nearest known name, or all of them."""
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"{otherwise} {', '.join(known) or 'none'}"


def _limit_options(args: Namespace) -> dict[str, Any]:
    """The options of the limit, but for the outputs, which the program knows. Raises _Incomplete for values that no limit has."""
    from tp_compiler import driver

    keys = ("samples", "max_samples", "replicates", "seed", "method", "rtol", "atol", "f0")
    limits = ("max_memory", "max_time", "threads", "checkpoint", "backend", "device", "dtype", "shards", *_WORKPLACE)
    options = (
        {key: getattr(args, key) for key in keys + limits}
        | {"width": getattr(args, "width", None)}
        | {"replicate_range": getattr(args, "replicate_range", None)}
        | _streamed(args)
    )
    try:
        driver.accept(**options)
    except ProgramError as error:
        raise _Incomplete(error.diagnostics) from None
    return options


def _streamed(args: Namespace) -> dict[str, str]:
    """A `.npy` file is written while the kernel is computed."""
    save = getattr(args, "save", None)
    return {"save": save} if save and save.lower().endswith(".npy") else {}


def _only(args: Namespace, program: Program) -> list[str] | None:
    """The outputs of `--only`, each known; None for all."""
    known = [output.name for output in program.outputs]
    # An unnamed output is called by its text, which may hold commas: try the whole before its parts.
    names = [part.strip() for text in args.only for part in ([text] if text in known else text.split(","))]
    for name in names:
        if name not in known:
            hint = _hint(name, known, "the outputs are")
            raise UsageError(f"--only: the program has no output {name!r}; {hint}")
    return names or None


# ------------------------------------------------------------------------------------------------- after the evaluation


def _deliver(run: Run, program: Program, args: Namespace, networks: Sequence[Run] = ()) -> int:
    """Files first, because standard output may be a closed pipe; then the result; then the exit code."""
    from tp_compiler.pages import SHORTENED, written
    from tp_compiler.report import acceptance as finite

    extra = tuple(warning for warning in program.warnings if warning not in run.warnings)
    run = dataclasses.replace(run, warnings=extra + tuple(run.warnings))
    terminal.print_diagnostics([*run.warnings, *run.failed.values()])
    missed = finite.unmet(run, rtol=getattr(args, "rtol", None), atol=getattr(args, "atol", None))
    if missed:
        terminal.say(f"tpc {args.command}: the tolerance is not met by {', '.join(missed)}")
    code = INCOMPLETE if run.failed or missed else DONE
    if args.save and not _streamed(args) and not terminal.written(args.save, lambda: run.save(args.save)):
        code = USAGE
    width = run.width if run.command == "limit" else None
    if not _drawn(args, run, networks=networks, x=args.x, width=width):
        code = USAGE
    if getattr(args, "html", None) and not terminal.written(args.html, lambda: _write_page(run, program, args.html)):
        code = USAGE
    form = "reasons" if args.format == "text" and getattr(args, "verbose", False) else args.format
    full = {"full": True} if args.full and form in SHORTENED else {}
    terminal.show(written(run, form, **full))
    if getattr(args, "within", None) is not None:
        terminal.show(written(run, "within", args.within))
    return code


def _drawn(args: Namespace, record: Any, **options: Any) -> bool:
    """Writes the picture of `--plot`, if it is given; False if that fails."""
    path = args.plot
    return not path or terminal.written(path, lambda: record.plot(path, theme=args.theme, **options))


def _write_page(run: Run, program: Program, path: str) -> None:
    from tp_compiler import driver

    Path(path).write_text(driver.page(run, program), encoding="utf-8", newline="\n")


# -------------------------------------------------------------------------------------------------------------- streams


def _print_json(document: dict[str, Any]) -> None:
    from tp_compiler.report import json

    terminal.show(json.dumps(document))


@contextmanager
def _evaluating(args: Namespace) -> Iterator[Callable[..., None] | None]:
    """The progress callback; a program that compiled but is refused now (memory, time) is incomplete, not wrong."""
    try:
        with _progress(args) as progress, collected(*USUALLY):
            yield progress
    except ProgramError as error:
        raise _Incomplete(error.diagnostics) from error


@contextmanager
def _progress(args: Namespace) -> Iterator[Callable[..., None] | None]:
    """A progress bar on a terminal; None elsewhere and under --quiet."""
    if args.quiet or not sys.stderr.isatty():
        yield None
        return
    from tp_compiler.report.progress import progress_bar

    with progress_bar(args.command) as update:
        yield update
