"""The Python interface: the pipeline of driver.py on program text, files or compiled programs.

`program` is always one of: the text of a program, the path of a file (a single line that names an existing file, or has a
separator or a suffix and none of the signs of a statement), or the result of `compile`.

A program can read only files below its own folder (below the working directory, if it is given as text), unless
`allow_outside=True`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Unpack, overload

# The rooms whose names functions below have: loaded before those, so that no later import puts a room in their place.
import tp_compiler.check
import tp_compiler.equations
import tp_compiler.expand
import tp_compiler.scale  # noqa: F401
from tp_compiler import driver
from tp_compiler.diagnostics import Diagnostic, Source, suggest
from tp_compiler.ir.model import Compiled
from tp_compiler.ir.program import Program
from tp_compiler.signatures import LimitOptions, Progress, Replaced, SimulateOptions

if TYPE_CHECKING:
    from tp_compiler.equations.system import System
    from tp_compiler.explanation import Catalogue, Explanation
    from tp_compiler.finite.converge import Verification
    from tp_compiler.frontend.syntax import File
    from tp_compiler.kernel_function import KernelFunction
    from tp_compiler.results import Run
    from tp_compiler.scale.given_alignments import Given
    from tp_compiler.scale.result import Scaling


class Sourced(Protocol):
    """A program that was made from something else: a traced PyTorch module."""

    @property
    def source(self) -> Source: ...


ProgramLike = str | Path | Source | Compiled | Sourced


def _source(program: ProgramLike, allow_outside: bool) -> Source:
    made = getattr(program, "source", None)
    program = made if isinstance(made, Source) else program
    if isinstance(program, Source):
        return replace(program, allow_outside=allow_outside or program.allow_outside)
    if isinstance(program, Path):
        return driver.read(str(program), allow_outside=allow_outside)
    if not isinstance(program, str):
        raise TypeError(f"expected a program (text, a path or the result of compile()), found {type(program).__name__}")
    return (
        driver.read(program, allow_outside=allow_outside)
        if _is_path(program)
        else Source("<text>", program, allow_outside)
    )


#: The text of a path: words with a suffix or a separator, or one word; nothing that a statement of one line has.
_PATH = re.compile(r"(?!(output|import|nexort|return) )[^\n|<>=;{}\[\]()#\"]*")


def _is_path(program: str) -> bool:
    """Is this the path of a program, of an existing file or not, rather than its text?"""
    if "\n" in program or not program.strip():
        return False
    if os.path.exists(program) or program.endswith(".nexort"):
        return True
    one = " " not in program.strip()
    named = one or re.search(r"[/\\]|\.[A-Za-z]\w*$", program) is not None
    return named and _PATH.fullmatch(program) is not None


def _known(options: Mapping[str, Any], kind: type) -> None:
    """Misspelt options raise TypeError."""
    own, replaced = kind.__annotations__, Replaced.__annotations__
    for name in options:
        if not (name in own or name in replaced or name == "allow_outside"):
            known = sorted({*own, *replaced, "allow_outside"})
            others = f"the options are {', '.join(known)}; numbers of the program go into settings={{...}}, arrays into data={{...}}"
            hint = suggest(name, known) or others
            raise TypeError(f"there is no option {name!r}; {hint}")


def _checked(options: Mapping[str, Any], kind: type, outputs: Program) -> Any:
    """Options of one kind. Misspelt options, and outputs that the program does not have, raise at once."""
    _known(options, kind)
    chosen = dict(options)
    if isinstance(chosen.get("only"), str):
        chosen["only"] = [chosen["only"]]
    names = [o.name for o in outputs.outputs]
    for name in chosen.get("only") or ():
        if name not in names:
            hint = suggest(name, names) or f"its outputs are {', '.join(names)}"
            raise ValueError(f"only: the program has no output {name!r}; {hint}")
    return chosen


def _width(width: Any) -> Any:
    """A width that is a number: text and lists raise TypeError."""
    if not isinstance(width, Real) or isinstance(width, bool):
        raise TypeError(f"a width is a whole number, such as 256, and {width!r} is not")
    return width


@contextmanager
def _watched(title: str, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The options, with a progress bar while the block runs if `progress` is True."""
    progress = options.get("progress")
    if not isinstance(progress, bool):
        yield options
    elif not progress:
        yield options | {"progress": None}
    else:
        from tp_compiler.report.progress import progress_bar

        with progress_bar(title) as update:
            yield options | {"progress": update}


def parse(program: str | Path | Source) -> File:
    """The abstract syntax tree of a program.

    Raises ProgramError with every error of spelling and syntax.
    """
    return driver.parse(_source(program, False))


def check(
    program: str | Path | Source,
    settings: Mapping[str, float] | None = None,
    *,
    data: Mapping[str, object] | None = None,
    allow_outside: bool = False,
) -> list[Diagnostic]:
    """All errors and warnings of a program; never raises, whatever the program contains."""
    return driver.diagnose(_source(program, allow_outside), settings=settings, data=data)


def compile(
    program: ProgramLike,
    settings: Mapping[str, float] | None = None,
    *,
    data: Mapping[str, object] | None = None,
    allow_outside: bool = False,
) -> Compiled:
    """The checked program, ready to run.

    settings        sizes of axes and values of top-level scalars that replace those in the text (`--set`)
    data            arrays that replace data of the program, by name: NumPy's, lists, anything with `__array__`; a string
                    is the path of a file, as for `--data`
    allow_outside   imports and data may lie outside of the folder of the program

    Raises ProgramError with every error; warnings are in `Program.warnings`.
    """
    if isinstance(program, Compiled):
        _as_compiled(settings, data)
        return program
    return driver.compile(_source(program, allow_outside), settings=settings, data=data)


def _as_compiled(settings: Mapping[str, float] | None, data: Mapping[str, object] | None) -> None:
    """Settings and data become part of a program when it is compiled; later ones are refused."""
    for name, value in (("settings", settings), ("data", data)):
        if value:
            raise TypeError(f"the program is compiled already; pass {name} to compile(), or pass the text instead")


def equations(
    program: ProgramLike,
    *,
    settings: Mapping[str, float] | None = None,
    data: Mapping[str, object] | None = None,
    simplify: bool = True,
    allow_outside: bool = False,
) -> System:
    """The infinite-width limit as a system of equations, symbolic (Tensor Programs IVb, Def 2.6.5).

    Every ket has its hat part with its covariance, its dot part with its coefficients, every scalar its expectation:
    `system["h2"].hat.covariance`, `.dot`, `.expression` are SymPy objects; `.latex()`, `.unicode()`, `.markdown()`
    print.
    """
    return driver.equations(compile(program, settings, data=data, allow_outside=allow_outside), simplify=simplify)


#: The name of `equations` in earlier versions.
derive = equations


def scale(
    program: ProgramLike,
    *,
    settings: Mapping[str, float] | None = None,
    data: Mapping[str, object] | None = None,
    optimizer: str | None = None,
    alignment: Given | None = None,
    allow_outside: bool = False,
) -> Scaling:
    """Width exponents for a raw implementation, and the abcd class of the program's parametrization.

    optimizer   the name of an optimizer to assume for every parameter, instead of the program's
    alignment   "full", "none", "limit" or "measured=FILE": learning rates become the largest stable ones for parameters that are so
                well aligned with what they multiply (Everett et al.); also a mapping of names to `tpc.scale.Alignment`

    `scaling["W"]["lr"]` is a Fraction, `scaling.verdict.regime` the class, `print(scaling)` the tables with reasons,
    `scaling.as_json()` what `tpc scale --json` prints; `.torch()` is a Python module, `.plot(file)` draws the classes.
    """
    if isinstance(program, Compiled):
        _as_compiled(settings, data)
        return driver.scale(program.network, optimizer=optimizer, alignment=alignment)
    model = driver.check(_source(program, allow_outside), settings=settings, data=data)
    return driver.scale(model.network, optimizer=optimizer, alignment=alignment)


def limit(
    program: ProgramLike,
    *,
    settings: Mapping[str, float] | None = None,
    data: Mapping[str, object] | None = None,
    allow_outside: bool = False,
    **options: Unpack[LimitOptions],
) -> Run:
    """The infinite-width limit of every output (Tensor Programs IVb, Thm 2.6.10), with standard errors.

    settings     sizes of axes and values of top-level scalars that replace those in the text (`--set`)
    data         arrays that replace data of the program, by name: NumPy's, lists, anything with `__array__` (`--data`)
    samples      particles per replicate, a power of two; None doubles them until the tolerance is met
    replicates   independent scramblings (8); seed (0) fixes every digit
    rtol, atol   the tolerance, 1e-3 each: stderr below atol + rtol·max|value|
    progress     True shows a progress bar, on standard error or below the cell; or a function of (done, total, note)
    only         names of the outputs to compute; method, f0, max_samples, max_memory (bytes, or "4G"), max_time (seconds),
                 threads
    backend      "torch" samples with PyTorch, on a device ("cuda") and with a dtype ("float32") of your choice
    shards       particles of each replicate are divided in so many shards, which processes of torch.distributed share
    checkpoint   a file, or a folder, for finished replicates: an interrupted run resumes from it with the same digits
    replicate_range   (0, 4): only these replicates of a run of `samples`, into the folder `checkpoint`; then `merge`
    width        also computes how networks of this width fluctuate about the limit: `run.outputs["f"].fluctuations` has n times
                 their covariance and bias, `run.at_width(512)["f"]` is their mean
    save         a .npy file for the one output that is computed (`only`): a kernel is written block by block, and never in memory
    executor     shares the work: any executor of PEP 3148; or workers=4, processes of this machine; or cluster="tcp://host:8786",
                 a scheduler of dask.distributed. The digits do not depend on who does the work

    Returns a Run: `run["f"]` is a NumPy array in natural units with one dimension per index of the output,
    `run.outputs["f"].stderr` its standard error. Outputs without a value are in `run.failed`.
    Raises ProgramError if the program has errors, or if there is not enough memory.
    """
    _known(options, LimitOptions)
    driver.accept(**options)
    compiled = compile(program, settings, data=data, allow_outside=allow_outside)
    with _watched("limit", _checked(options, LimitOptions, compiled)) as chosen:
        return driver.limit(compiled, **chosen)


def merge(folder: str | os.PathLike[str], *, progress: Progress | bool | None = None) -> Run:
    """The limit whose replicates several processes have stored in a folder (`checkpoint=`, `replicate_range=`).

    Equal, digit by digit, to the limit computed in one process. Raises ProgramError NX438 if replicates are missing, with the
    commands that compute them.
    """
    with _watched("merge", {"progress": progress}) as chosen:
        return driver.merge(*driver.stored(folder), **chosen)


def html_report(
    program: ProgramLike,
    path: str | os.PathLike[str] | None = None,
    *,
    settings: Mapping[str, float] | None = None,
    data: Mapping[str, object] | None = None,
    allow_outside: bool = False,
    **options: Unpack[LimitOptions],
) -> str:
    """The limit of a program as one self-contained HTML page, also written to `path`; options are those of `limit`.

    Program, equations, numbers, pictures, methods, seeds and versions. Needs the extra `report`.
    """
    driver.load_page()
    compiled = compile(program, settings, data=data, allow_outside=allow_outside)
    with _watched("limit", _checked(options, LimitOptions, compiled)) as chosen:
        run = driver.limit(compiled, **chosen)
    page = driver.page(run, compiled)
    if path is not None:
        Path(path).write_text(page, encoding="utf-8", newline="\n")
    return page


def kernel(
    program: ProgramLike,
    output: str,
    over: tuple[str, str] = ("i", "j"),
    *,
    settings: Mapping[str, float] | None = None,
    data: Mapping[str, object] | None = None,
    allow_outside: bool = False,
    batch: int = 1024,
    **options: Unpack[LimitOptions],
) -> KernelFunction:
    """The limit of an output over two points, as a function of arrays: `kernel(X)`, `kernel(X1, X2)`.

    output   its name, such as "ntk"; its indices `over` run over points, whose data the arrays replace
    batch    points on each side of a block; a large matrix is evaluated block by block

    The program is compiled once; data without values in it (`data xi[i,d]`) come with the first call. What else reads data
    over the axis, such as training or an average, keeps those of the program. `kernel(X)` is an array,
    `kernel.estimate(X)` has its standard errors and the method, `kernel.diagonal(X)` is the diagonal alone. If several data
    run over the points, X is a mapping from their names to arrays. Options are those of `limit`.

    Raises ValueError if the output does not have the two indices, ProgramError if it is not a function of two points.
    """
    from tp_compiler.kernel_function import KernelFunction

    if "only" in options:
        raise TypeError("kernel: `output` names the output; there is no option 'only'")
    if "width" in options:
        raise TypeError("kernel: fluctuations are those of one matrix; use limit(..., width=512) for them")
    if "save" in options:
        raise TypeError("kernel: blocks are not saved; use limit(..., save='kernel.npy') for a kernel in a file")
    _known(options, LimitOptions)
    if isinstance(program, Compiled):
        _as_compiled(settings, data)
        return KernelFunction(program, output, over, batch=batch, options=options)
    source = _source(program, allow_outside)
    return KernelFunction(source, output, over, settings=settings, data=data, batch=batch, options=options)


def simulate(
    program: ProgramLike,
    width: int,
    *,
    settings: Mapping[str, float] | None = None,
    data: Mapping[str, object] | None = None,
    seeds: int = 8,
    allow_outside: bool = False,
    **options: Unpack[SimulateOptions],
) -> Run:
    """The same program as a network of `width` neurons per unit ratio, averaged over `seeds` random networks.

    options    seed, dtype ("float32" or "float64"), only, max_memory (bytes, or "4G"); executor, workers, cluster as for `limit`
    max_time   seconds, after which the networks that are done are averaged, two at least
    weights    initial values by name, in place of those that would be drawn: a ket has the shape (*family, neurons), a
               matrix (*family, rows, columns) and entries of variance σ²/columns, a scalar the shape of its family. A
               ket is `"|u>"` where something else is called `u`, too. What is not given is drawn.

    Returns a Run with method `finite-width`; stderr is over seeds. Raises ProgramError as `limit` does.
    """
    weights = options.get("weights")
    if weights and not isinstance(program, Compiled):
        program = _source(program, allow_outside)
        numbers = {name: weights[name] for name in driver.scalars(program) if name in weights}
        data = {**(data or {}), **numbers}
        options["weights"] = {name: value for name, value in weights.items() if name not in numbers}
    compiled = compile(program, settings, data=data, allow_outside=allow_outside)
    with _watched("simulate", _checked(options, SimulateOptions, compiled)) as chosen:
        return driver.simulate(compiled, width=_width(width), seeds=seeds, **chosen)


def load(path: str | os.PathLike[str]) -> Run:
    """The result in a file that `--save` or `run.save` wrote, equal to the one saved; needs no xarray.

    Raises OSError if the file cannot be read, and ValueError if it is not such a file.
    """
    from tp_compiler.report.save import load as read

    return read(path)


def verify(
    program: ProgramLike,
    *,
    settings: Mapping[str, float] | None = None,
    data: Mapping[str, object] | None = None,
    widths: Collection[int] | int = (256, 512, 1024),
    seeds: int = 16,
    predicted: bool = False,
    allow_outside: bool = False,
    **options: Unpack[LimitOptions],
) -> Verification:
    """Compares the limit with networks of increasing width: z-scores per output, and the slope of the deviation in log n.

    predicted   also computes the spread and the bias that the limit predicts for these widths, and compares means and variances
                with them: fewer networks show more; `check.predicted.gain` says how much

    `verification.passed` is the verdict, `verification.checks` the results for each output. Options are those of
    `limit`.
    """
    compiled = compile(program, settings, data=data, allow_outside=allow_outside)
    with _watched("verify", _checked(options, LimitOptions, compiled)) as chosen:
        several = widths if isinstance(widths, Collection) and not isinstance(widths, str) else [widths]
        chosen_widths = [_width(n) for n in several]
        return driver.verify(compiled, widths=chosen_widths, seeds=seeds, predicted=predicted, **chosen)


def expand(
    program: str | Path | Source,
    settings: Mapping[str, float] | None = None,
    *,
    data: Mapping[str, object] | None = None,
    allow_outside: bool = False,
) -> str:
    """The program with gradients, tangent kernels and the gradients of training written out: the text of a program that
    computes the same.

    Raises ProgramError with every error; NX502 if an instruction cannot be written in the language.
    """
    return driver.expand(_source(program, allow_outside), settings=settings, data=data)


@overload
def explain(code: str | int) -> Explanation: ...
@overload
def explain(code: None = None) -> Catalogue: ...
def explain(code: str | int | None = None) -> Explanation | Catalogue:
    """What an error code means: the rule and its reason, an example that breaks it, and one that does not.

    code   "NX226", "nx226" or 226; None lists all codes

    Raises ValueError, with the nearest code, if there is none like it.
    """
    from tp_compiler.explanation import catalogue, explain

    return catalogue() if code is None else explain(code)


def format(program: str | Path | Source, style: str = "keep") -> str:
    """The program in canonical layout; `style` is keep, unicode or ascii."""
    return driver.format(_source(program, False), style=style)
