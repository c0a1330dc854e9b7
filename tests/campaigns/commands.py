"""One program through every command: whatever it is, the answer is a value or a ProgramError, never a traceback.

`faults(text)` returns what went wrong: exceptions other than ProgramError, leaked warnings, expansions that are not
programs, and values of two methods that disagree by more than their errors.
"""

from __future__ import annotations

import itertools
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

import tp_compiler as tpc
from tp_compiler import driver
from tp_compiler.diagnostics import ProgramError, Source
from tp_compiler.report.save import packed, unpacked

SAMPLES = 512
EVERY = 20  # programs between two words of progress
#: Eight replicates give a standard error by luck too small: what is far must be far again, with these.
AGAIN = {"seed": 1, "replicates": 32}
#: The evaluations of the limit, best first.
METHODS: dict[str, dict[str, Any]] = {
    "exact": {"method": "exact"},
    "quadrature": {"method": "quadrature"},
    "auto": {"max_samples": 4 * SAMPLES},
    "qmc": {"method": "qmc", "samples": SAMPLES},
}
TIME = 20.0  # seconds for one evaluation of the limit; its end is an answer, too


def faults(text: str, *, networks: bool = True) -> list[str]:
    """Every fault of one program, each a line of words; an empty list where all commands behave."""
    found: list[str] = []
    results: dict[str, Any] = {}
    for name, command in _commands(networks).items():
        with warnings.catch_warnings(record=True) as leaked:
            warnings.simplefilter("always")
            try:
                results[name] = command(text)
            except ProgramError as problem:
                found += [f"{name}: no text in {d.code}" for d in problem.diagnostics if not d.message]
            except Exception:
                found.append(f"{name}: {traceback.format_exc(limit=-3)}")
        words = (f"{name}: leaks {w.category.__name__}: {w.message} ({w.filename}:{w.lineno})" for w in leaked)
        found += dict.fromkeys(words)
    return found + list(_disagreements(results, text))


def campaign(programs: Iterable[tuple[str, str]], check: Callable[[str], list[str]] = faults) -> int:
    """Prints every (name, text) at fault with its faults, and how many there are; 1 where there is one. How far it has come
    goes to stderr."""
    bad = total = 0
    for name, text in programs:
        total += 1
        if found := check(text):
            bad += 1
            print(f"--- {name}\n{text}" + "\n".join(found), flush=True)
        if total % EVERY == 0:
            print(f"{bad} of {total} programs at fault so far, the last {name}", file=sys.stderr)
    print(f"{bad} of {total} programs at fault")
    return int(bad > 0)


def _commands(networks: bool) -> dict[str, Callable[[str], Any]]:
    def limit(name: str) -> Callable[[str], Any]:
        return lambda text: _shown(tpc.limit(text, max_time=TIME, **METHODS[name]))

    commands: dict[str, Callable[[str], Any]] = {
        "check": lambda text: [d.render() for d in tpc.check(text)],
        "fmt": lambda text: tpc.format(tpc_text := tpc.format(text)) == tpc_text or _fail("fmt is not idempotent"),
        "ir": lambda text: driver.show(Source("<text>", text), stage="ir"),
        "plan": lambda text: driver.show(Source("<text>", text), stage="plan"),
        "expand": lambda text: tpc.compile(tpc.expand(text)),
        "equations": lambda text: [(e := tpc.equations(text)).unicode(), e.latex(), e.markdown(), e._repr_latex_()],
        "scale": _scale,
        **{name: limit(name) for name in METHODS},
    }
    if networks:
        commands["simulate"] = lambda text: _shown(tpc.simulate(text, 8, seeds=2))
    return commands


def _fail(words: str) -> None:
    raise AssertionError(words)


def _shown(run: Any) -> Any:
    """A run, once every page of it is written, it has been packed and unpacked, and each number has gone through a function."""
    str(run), run._repr_html_(), run._repr_latex_(), run.table(full=True)
    again = unpacked(packed(run))
    again == run or _fail("a run that was packed and unpacked is another one")
    for name, estimate in run.outputs.items():
        if estimate.law is None and (estimate.replicates is None or estimate.replicates.count > 1):
            _same(estimate, again.map(lambda x: 1 + 2 * x, name))
    return run


def _same(estimate: Any, mapped: Any) -> None:
    """A linear function has the value and the error that it must have."""
    scale = 1e-9 * (1 + np.max(np.abs(estimate.value), initial=0.0))
    close = [np.abs(mapped.value - 1 - 2 * estimate.value) <= scale + 1e-6 * mapped.stderr]
    close.append(np.abs(mapped.stderr - 2 * estimate.stderr) <= scale + 1e-3 * estimate.stderr)
    all(np.all(c) for c in close) or _fail(f"1 + 2x of {estimate} is {mapped}")


def _scale(text: str) -> Any:
    scaling = tpc.scale(text)
    str(scaling), scaling.as_json(), scaling.torch(), scaling._repr_html_(), scaling._repr_latex_()
    return scaling


def _disagreements(results: dict[str, Any], text: str) -> Iterator[str]:
    """Pairs of methods whose values differ by more than seven standard errors of both, and do so again."""
    runs = {name: results[name] for name in METHODS if name in results}
    sure: dict[str, Any] = {}
    for one, other in itertools.combinations(runs, 2):
        far = [name for name in runs[one].outputs if _distance(runs[one], runs[other], name) > 7]
        try:
            for method in (one, other) if far else ():
                sure[method] = sure.get(method) or tpc.limit(text, max_time=4 * TIME, **METHODS[method], **AGAIN)
        except ProgramError as problem:
            yield f"{one} and {other} disagree on {', '.join(far)}, or are refused with another seed: {problem}"
            return
        for name in far:
            if (distance := _distance(sure[one], sure[other], name)) > 7:
                x, y = (run.outputs[name].value for run in (sure[one], sure[other]))
                yield f"{one} and {other} disagree on {name} by {distance:.0f} errors: {x} and {y}"


def _distance(one: Any, other: Any, name: str) -> float:
    """How many standard errors two values of an output are apart, at most; 0 where they cannot be compared."""
    x, y = one.outputs.get(name), other.outputs.get(name)
    if x is None or y is None or x.law != y.law or not np.size(x.value):
        return 0.0
    error = np.hypot(x.stderr, y.stderr) + 1e-9 * (1 + np.abs(x.value))
    return float(np.max(np.abs(x.value - y.value) / error))
