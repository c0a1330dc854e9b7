"""Replicates as named arrays, for files; and the key of a run: everything that determines the digits of its replicates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from tp_compiler._version import __version__
from tp_compiler.diagnostics import Diagnostic, ProgramError, Source, Span
from tp_compiler.evaluate.options import Options
from tp_compiler.evaluate.sampling.batch import Replicated
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Program
from tp_compiler.ir.show import listing
from tp_compiler.ir.walk import reachable

_VALUE, _COVARIANCE, _TAIL, _FAILED, _ROWS = "value", "covariance", "tail", "failed", "rows"


def run_key(program: Program, options: Options) -> str:
    """A short text of everything that determines the digits of a replicate, apart from the outputs that are sampled together:
    instructions, data and options. Imported text counts by the instructions that it makes."""
    digest = hashlib.sha256()
    sizes = [(axis.name, axis.size) for axis in program.axes]
    nodes = reachable(_roots(program))
    chosen = (options.seed, options.method, options.f0, options.backend, options.dtype)
    parts = (__version__, program.source.text, sizes, chosen, listing(nodes))
    digest.update(repr(parts).encode())
    for node in nodes:
        if isinstance(node, ir.Array | ir.Constant):
            values = np.asarray(node.values if isinstance(node, ir.Array) else node.value, dtype=np.float64)
            digest.update(values.tobytes())
    return digest.hexdigest()


def _roots(program: Program) -> list[ir.Node]:
    starts = [state.init for state in program.loop.following] if program.loop is not None else []
    return [*program.roots, *starts]


def part_of(outputs: Collection[str]) -> str:
    """A short text for outputs that are sampled together."""
    return hashlib.sha256(repr(sorted(outputs)).encode()).hexdigest()[:16]


def sources(program: Program) -> dict[str, Source]:
    """The texts that a program is made of, by name."""
    return {n.span.source.name: n.span.source for n in reachable(_roots(program))} | {
        program.source.name: program.source
    }


def arrays_of(found: Replicated) -> dict[str, Any]:
    """A replicate as arrays, by "kind|name"."""
    arrays: dict[str, Any] = {}
    for name, value in found.values.items():
        failed = isinstance(value, Diagnostic)
        arrays[f"{_FAILED if failed else _VALUE}|{name}"] = np.array(_text(value)) if failed else np.asarray(value)
    arrays |= {f"{_COVARIANCE}|{name}": np.asarray(value) for name, value in found.covariances.items()}
    arrays |= {f"{_TAIL}|{name}": np.asarray(value) for name, value in found.tails.items()}
    if found.directions is not None:
        arrays[f"{_ROWS}|"] = np.array(found.directions)
    return arrays


def replicate_of(arrays: Mapping[str, Any], texts: Mapping[str, Source]) -> Replicated:
    """The replicate again. Raises ValueError or KeyError for what is none."""
    values: dict[str, Any] = {}
    covariances: dict[str, Any] = {}
    tails: dict[str, Any] = {}
    directions = None
    tables = {_VALUE: values, _COVARIANCE: covariances, _TAIL: tails}
    for key, array in arrays.items():
        kind, name = key.split("|", 1)
        if kind == _FAILED:
            values[name] = _diagnostic(str(array), texts)
        elif kind == _ROWS:
            directions = int(array)
        else:
            tables[kind][name] = array
    return Replicated(values, covariances, tails, directions)


def _text(problem: Diagnostic) -> str:
    span = problem.span
    place = None if span is None else [span.source.name, span.start, span.end]
    return json.dumps([problem.code, problem.message, place, str(problem.remedy)])


def _diagnostic(text: str, texts: Mapping[str, Source]) -> Diagnostic:
    code, message, place, remedy = json.loads(text)
    span = Span(texts[place[0]], place[1], place[2]) if place is not None and place[0] in texts else None
    return Diagnostic(code, message, span, remedy)


def unfit(message: str) -> ProgramError:
    """A checkpoint that cannot be used."""
    return ProgramError([Diagnostic("NX434", message, None, "choose another file, or remove this one")])


def unwritable(path: object, error: OSError) -> ProgramError:
    """A checkpoint that cannot be written."""
    message = f"the checkpoint `{path}` cannot be written: {error.strerror or error}"
    remedy = "choose a file in an existing, writable folder with free space"
    return ProgramError([Diagnostic("NX435", message, None, remedy)])


def incomplete(path: object, problem: str) -> list[Diagnostic]:
    """The warning that a checkpoint could not be written to the end, if there was a problem."""
    message = f"the checkpoint `{path}` contains only part of the run: {problem}"
    return [Diagnostic("NX915", message, None, "free some space, and run again")] if problem else []
