"""The pipeline: read → parse → check → classify → train → equations, limit, or simulate → compare. Each stage is one call.

Rooms are imported when a stage is reached, since SciPy alone takes most of a second to load. Nothing is printed here.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from tp_compiler.diagnostics import Diagnostic, Diagnostics, ProgramError, Source
from tp_compiler.ir.model import Compiled, Model, Network, WidthPowers
from tp_compiler.ir.program import Program
from tp_compiler.log import LOGGER, stage, told
from tp_compiler.signatures import SIZE, LimitOptions, Progress, Replaced, SimulateOptions, Workplace, memory_size
from tp_compiler.signatures import seed_at as seed_at

if TYPE_CHECKING:
    from tp_compiler.check.names import Seen
    from tp_compiler.equations.system import System
    from tp_compiler.evaluate.record import Record
    from tp_compiler.finite.converge import Verification
    from tp_compiler.frontend.syntax import File
    from tp_compiler.results import Run
    from tp_compiler.scale.given_alignments import Given
    from tp_compiler.scale.result import Scaling

MAX_SOURCE = 64 * 2**20


def read(path: str, *, allow_outside: bool = False) -> Source:
    """The program text of a file, or of standard input for `-`.

    Raises ProgramError NX001 (unreadable), NX002 (not UTF-8 text), NX003 (larger than 64 MiB).
    """
    try:
        raw = _standard_input() if path == "-" else _bytes(Path(path))
    except (OSError, ValueError) as problem:  # a null byte in a path, a closed standard input
        reason = getattr(problem, "strerror", None) or "cannot be read"
        raise ProgramError([Diagnostic("NX001", f"cannot read `{path}`: {reason}", None, _near(Path(path)))]) from None
    if len(raw) > MAX_SOURCE:
        raise ProgramError(
            [Diagnostic("NX003", f"`{path}` is larger than 64 MiB", None, "keep data in `.npy` or `.csv` files")]
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        place = f"byte {problem.start}"
        raise ProgramError(
            [
                Diagnostic(
                    "NX002", f"`{path}` is not valid UTF-8 text ({place})", None, "check that it is a `.nexort` program"
                )
            ]
        ) from None
    return Source(path, text, allow_outside)


def _near(path: Path) -> str:
    """The remedy for a path that cannot be read: a file with a similar name in the same folder, if there is one."""
    try:
        names = [p.name for p in path.parent.iterdir()] if not path.exists() else []
    except (OSError, ValueError):
        names = []
    near = get_close_matches(path.name, names, n=1)
    if near:
        return f"did you mean `{path.parent / near[0]}`?"
    if path.is_dir():
        return "name a program in this folder"
    return "check the path, or start with `tpc new mlp --output mlp.nexort`"


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise ValueError("closed")
    return sys.stdin.buffer.read(MAX_SOURCE + 1)


def _bytes(path: Path) -> bytes:
    with open(path, "rb") as handle:
        return handle.read(MAX_SOURCE + 1)


@contextmanager
def _nesting() -> Iterator[None]:
    """Programs that are nested too deeply are refused, whatever stage meets them."""
    try:
        yield
    except RecursionError:
        message = "the program is nested too deeply for this stage"
        raise ProgramError(
            [Diagnostic("NX136", message, None, "give names to inner parts, or write a `for` loop")]
        ) from None


def parse(source: Source) -> File:
    """The abstract syntax of a program. Raises ProgramError with every error of spelling and syntax."""
    from tp_compiler.frontend.parse import parse as parse_text

    found = Diagnostics()
    with _nesting():
        file = parse_text(source, found)
    found.raise_if_errors()
    return file


def scalars(source: Source) -> list[str]:
    """The names of the scalars that a program declares."""
    from tp_compiler.frontend.syntax import ScalarDecl

    return [s.target.ident for s in parse(source).statements if isinstance(s, ScalarDecl)]


def without_values(source: Source) -> list[str]:
    """The data that a program declares without values: the caller gives them."""
    from tp_compiler.frontend.syntax import DataDecl

    return [s.target.ident for s in parse(source).statements if isinstance(s, DataDecl) and s.source is None]


def diagnose(source: Source, *, seen: Seen | None = None, **replaced: Unpack[Replaced]) -> list[Diagnostic]:
    """All errors and warnings of a program. `seen` is filled with what its names mean."""
    found = Diagnostics()
    model = _checked(source, found, seen, **replaced)
    if model is None:
        return found.found
    powers = classify(model)
    try:
        with _nesting():
            _trained(model, powers, found)
    except ProgramError as problem:
        for diagnostic in problem.diagnostics:
            found.add(diagnostic)
    return list(dict.fromkeys((*found, *powers.warnings)))


def check(source: Source, **replaced: Unpack[Replaced]) -> Model:
    """The model of a program. Raises ProgramError with every error in its text."""
    found = Diagnostics()
    model = _checked(source, found, **replaced)
    found.raise_if_errors()
    assert model is not None
    return replace(model, warnings=tuple(found.warnings))


def classify(model: Model) -> WidthPowers:
    """What becomes of training at the parametrization that the program asks for, in powers of n; see `scale.regime`."""
    if model.network.natural and not model.network.trains:
        return WidthPowers(natural=True)
    from tp_compiler.scale.regime import classify as classified

    with _nesting():
        return classified(model.network)


def compile(source: Source, **replaced: Unpack[Replaced]) -> Compiled:
    """The programs of the limit and of networks of finite width. Raises ProgramError with all diagnostics.

    Outputs of a parametrization without a limit are refused with the inequality that decides so.
    """
    found = Diagnostics()
    with stage(f"compile {source.name}"):
        model = _checked(source, found, **replaced)
        found.raise_if_errors()
        assert model is not None
        with _nesting():
            program = _trained(model, classify(model), found)
    return replace(program, settings=dict(replaced.get("settings") or {}), given=model.given)


def _checked(
    source: Source, found: Diagnostics, seen: Seen | None = None, **replaced: Unpack[Replaced]
) -> Model | None:
    from tp_compiler.check.statements import check as read
    from tp_compiler.frontend.parse import parse as parse_text

    with _nesting():
        return read(parse_text(source, found), found, seen=seen, **replaced)


def _trained(model: Model, powers: WidthPowers, found: Diagnostics) -> Compiled:
    from tp_compiler.ir.wellformed import verify as wellformed
    from tp_compiler.train.assemble import train

    program = train(model, powers, found)
    found.raise_if_errors()
    wellformed(program)
    return program


def format(source: Source, *, style: str = "keep") -> str:
    """The program in canonical layout; `style` keep, unicode or ascii spells bras, kets and transposes."""
    from tp_compiler.frontend.format import format_file

    with _nesting():
        return format_file(parse(source), style)


def expand(source: Source, **replaced: Unpack[Replaced]) -> str:
    """The program with gradients and training written out: a program again, see `expand.program`."""
    from tp_compiler.expand.program import expand as write

    def read(source: Source) -> tuple[File, Model]:
        return parse(source), check(source)

    with _nesting():
        return write(parse(source), check(source, **replaced), read)


def show(source: Source, *, stage: str, **replaced: Unpack[Replaced]) -> str:
    """The program after a stage, as text: `ast`, `ir`, `grad` (written out), `limit` (the equations) or `plan`."""
    if stage == "ast":
        from tp_compiler.frontend.format import show_ast

        return show_ast(parse(source))
    if stage == "grad":
        return expand(source, **replaced)
    program = compile(source, **replaced)
    if stage == "ir":
        from tp_compiler.ir.show import show as show_ir

        return show_ir(program)
    if stage == "limit":
        return equations(program).unicode()
    from tp_compiler.evaluate.sampling.describe import described

    return described(program)


def equations(program: Program, *, simplify: bool = True) -> System:
    """The limit equations of a program; see `equations.derive`."""
    from tp_compiler.equations.derive import derive
    from tp_compiler.evaluate.exact.symbolic import closed_form

    if program.loop is not None and program.loop.times:
        remedy = "write `train steps`, whose updates are the rates of change of the flow"
        raise ProgramError(
            [Diagnostic("NX180", "gradient flow cannot be written as equations", program.loop.span, remedy)]
        )
    with _nesting():
        return derive(program, simplify=simplify, closed_form=closed_form)


def load_page() -> None:
    """Loads what `page` needs, so that a missing library is known before the limit is computed. Raises ImportError."""
    from tp_compiler.pages import writer

    writer("Run", "page")


def page(run: Run, program: Program) -> str:
    """A run of `limit` as an HTML page, with the equations of the limit or the reason why it has none."""
    from tp_compiler.pages import written

    found: System | ProgramError
    try:
        found = equations(program)
    except ProgramError as problem:
        found = problem
    return str(written(run, "page", program, found))


def scale(network: Network, *, optimizer: str | None = None, alignment: Given | None = None) -> Scaling:
    """The width exponents of parameters, and the class of a parametrization; see `scale.result`."""
    from tp_compiler.scale.result import Scaling

    with _nesting():
        return Scaling(network, optimizer, alignment)


def share_plans(program: Program, other: Program | None) -> None:
    """How the kernels of another program are computed serves this one too, if they differ in their data alone."""
    from tp_compiler.evaluate.exact.kernel_blocks import share

    if other is not None:
        share(program, other)


def accept(**options: Unpack[LimitOptions]) -> None:
    """Raises ProgramError NX432 for options of a limit that are wrong whatever the program is."""
    from tp_compiler.evaluate.options import Options, validate

    known = {name: value for name, value in _sized(options).items() if name in Options.__dataclass_fields__}
    validate(Options(**known))


def limit(program: Program, **options: Unpack[LimitOptions]) -> Run:
    """The infinite-width limit of every output; options as in `evaluate.limit.limit`."""
    with _workplace(options) as chosen:
        return _limit(program, chosen)


@contextmanager
def _workplace(options: Any) -> Iterator[dict[str, Any]]:
    """The options, with the workers where they were only named, and the memory in bytes."""
    options = _sized(options)
    places = Workplace.__annotations__
    if all(options.get(name) is None for name in places):
        yield {name: value for name, value in options.items() if name not in places}
        return
    from tp_compiler.executors import crew

    with crew(**{name: options.get(name) for name in places}) as found:
        yield {name: value for name, value in options.items() if name not in places} | {"crew": found}


def _limit(program: Program, options: Any) -> Run:
    from tp_compiler.evaluate.limit import limit as evaluate

    chosen: Any = {**options, "progress": _listener("limit", options.get("progress"))}
    with stage(f"limit of {program.source.name}"), _nesting():
        run = _reported(evaluate(program, **chosen), program)
    for name, estimate in run.outputs.items():
        LOGGER.info("%s: %s%s", name, estimate.method, f" ({estimate.note})" if estimate.note else "")
    for name, problem in run.failed.items():
        LOGGER.info("%s: not computed, %s", name, problem.message)
    return run


def _sized(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with the memory in bytes, which may be given as the text of `--max-memory`. Raises ProgramError NX432."""
    most = options.get("max_memory")
    try:
        return {**options, "max_memory": None if most is None else memory_size(most)}
    except ValueError:
        message = f"max_memory must be {SIZE}; found {most!r}"
        raise ProgramError([Diagnostic("NX432", message, None, 'write "4G" for four gigabytes')]) from None


def stored(folder: str | os.PathLike[str]) -> tuple[Record, Compiled]:
    """The run whose replicates are stored in a folder, and its program.

    Raises ProgramError NX434 if there is none, or if files that the program reads have changed.
    """
    from tp_compiler.evaluate.record import read
    from tp_compiler.evaluate.sampling.storage.stored import run_key

    record = read(Path(folder))
    program = compile(record.source, settings=record.settings, data=record.given)
    if run_key(program, record.chosen) != record.key:
        message = f"the program of `{record.path}` reads files that have changed since"
        raise ProgramError([Diagnostic("NX434", message, None, "restore them, or compute the replicates again")])
    return record, program


def merge(record: Record, program: Compiled, *, progress: Progress | bool | None = None) -> Run:
    """The result of a run from its stored replicates, with the digits that one process would have.

    Raises ProgramError NX438 if some are missing, with the commands that compute them.
    """
    from tp_compiler.evaluate.sampling.storage.folder import MissingReplicates

    options = {**record.options, "checkpoint": record.path, "stored": True, "progress": progress}
    try:
        run = _limit(program, options)
    except MissingReplicates as missing:
        raise ProgramError([_missing(record, missing.numbers)]) from None
    return replace(run, program=record.name)


def _missing(record: Record, numbers: list[int]) -> Diagnostic:
    if record.options["samples"] is None:
        message = f"the run of `{record.path}` is not finished"
        return Diagnostic("NX438", message, None, f"finish it: `{record.command()}`")
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number:
            ranges[-1][1] = number + 1
        else:
            ranges.append([number, number + 1])
    shown = ", ".join(f"{a}" if b == a + 1 else f"{a} to {b - 1}" for a, b in ranges)
    message = f"`{record.path}` lacks some of its {record.options['replicates']} replicates, or parts of them: {shown}"
    commands = "; ".join(f"`{record.command(a, b)}`" for a, b in ranges)
    return Diagnostic("NX438", message, None, f"compute them: {commands}")


def _listener(name: str, progress: Progress | bool | None) -> Progress | None:
    """What is told of an evaluation; a bar for True is the caller's (api.py)."""
    return told(name, None if isinstance(progress, bool) else progress)


def _reported(run: Run, program: Program) -> Run:
    """A run with its numbers as they are reported, and what positions along the axes of its outputs stand for."""
    from tp_compiler.ir.coordinates import coordinates
    from tp_compiler.results import settled

    return replace(settled(run), coordinates=coordinates(program))


def simulate(program: Compiled, *, width: int, seeds: int = 8, **options: Unpack[SimulateOptions]) -> Run:
    """The same program at finite width; see `finite.run.simulate`."""
    from tp_compiler.finite.run import simulate as run

    with _workplace(options) as chosen, stage(f"{seeds} networks of width {width}"):
        chosen["progress"] = _listener(f"width {width}", options.get("progress"))
        found = run(program.finite, width=width, seeds=seeds, **chosen)
    return _reported(found, program)


def verify(
    program: Compiled,
    *,
    widths: Collection[int] = (256, 512, 1024),
    seeds: int = 16,
    predicted: bool = False,
    **options: Unpack[LimitOptions],
) -> Verification:
    """Compares the limit with networks of increasing width: z-scores, and the slope of the deviation in log n.

    `predicted`: means and variances over networks are compared with those that the limit predicts, f + b/n and Σ/n.
    `options` are those of `limit`. Outputs that one side cannot compute are not checked. The limit has half of `max_time`, the
    networks the rest, in equal parts for every width that is left.
    """
    from tp_compiler.finite.converge import verify as compare

    if options.get("width") is not None:
        remedy = "give the widths of the networks: `--widths 256,512` (in Python `widths=(256, 512)`)"
        raise ProgramError([Diagnostic("NX432", "a verification has no width of its own", None, remedy)])
    if options.get("replicate_range") is not None:
        remedy = "compute the ranges by `limit`, and verify the program by itself"
        raise ProgramError([Diagnostic("NX432", "part of the replicates cannot be verified", None, remedy)])
    if not widths:
        raise ProgramError([Diagnostic("NX430", "there are no widths to verify at", None, "give at least one width")])
    with _workplace(options) as chosen:
        start, most = time.monotonic(), chosen.get("max_time")
        chosen |= {"width": int(max(widths))} if predicted else {}
        run = _limit(program, chosen if most is None else chosen | {"max_time": most / 2})
        warnings, networks = list(run.warnings), {}
        for k, width in enumerate(sorted(widths)):
            left = None if most is None else max(0.0, most - (time.monotonic() - start)) / (len(widths) - k)
            networks[width] = _drawn(program, width, seeds, run, chosen | {"max_time": left}, warnings)
    compared = compare(dict(run.outputs), networks, dof=run.settings["replicates"] - 1)
    return replace(compared, warnings=tuple(dict.fromkeys(warnings)))


def _drawn(
    program: Compiled, width: int, seeds: int, run: Run, options: Mapping[str, Any], warnings: list[Diagnostic]
) -> Mapping[str, Any]:
    """Samples of the outputs that have a limit, in networks of one width; options as for `limit`. `warnings` gets those of
    the time limit."""
    from tp_compiler.finite.run import cut, samples

    with stage(f"{seeds} networks of width {width}"):
        found = samples(
            program.finite,
            width,
            seeds,
            seed=seed_at(options.get("seed", 0), width),
            only=set(run.outputs),
            max_memory=options.get("max_memory"),
            progress=_listener(f"width {width}", options.get("progress")),
            max_time=options.get("max_time"),
            crew=options.get("crew"),
        )
    if found.out_of_time:
        warnings.append(cut(found, seeds, width))
    return found.values
