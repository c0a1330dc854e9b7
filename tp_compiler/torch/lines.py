"""Declarations and statements of a traced program, as words, before they are put together as text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

#: Names, numbers, spaces and signs, one by one.
_WORD = re.compile(r"[^\W\d]\w*|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\s+|.")


def split(text: str) -> list[str]:
    return _WORD.findall(text)


@dataclass(eq=False)
class StatementLine:
    """One statement: the module it comes from, what it binds, and the axes and the width of that."""

    path: str
    text: str
    name: str = ""
    shape: tuple[Any, ...] = ()
    is_output: bool = False

    @property
    def bound(self) -> str:
        """What stands before the equals sign."""
        return re.sub(r"^for [^{]*\{ ", "", self.text).partition(" = ")[0]

    def bound_as(self, name: str) -> str:
        """The same, under another name."""
        return "".join(name if word == self.name else word for word in split(self.bound))


@dataclass(eq=False)
class DeclaredEntry:
    """One declaration: of a parameter of the module, or of data."""

    keyword: str  # ket, matrix, scalar or data
    name: str
    indices: tuple[str, ...]
    law: str  # what follows the name and the values
    shape: tuple[Any, ...] = ()
    values: np.ndarray | None = None
    origins: tuple[str, ...] = ()  # PyTorch's names
    power: Fraction = Fraction(0)
    given: str = ""  # the name of a scalar's values, if they are an array

    @property
    def lines(self) -> list[str]:
        full = self.name + family(self.indices)
        if self.keyword == "data":
            assert self.values is not None
            return [f"data {full} = {listed(self.values)}"]
        comment = f"  # {ranged(self.origins)}" + (f", times n^({self.power})" if self.power else "")
        what = f"ket |{full}>" if self.keyword == "ket" else f"{self.keyword} {full}"
        if self.values is None:
            return [f"{what}{self.law}{comment}"]
        of, frozen = self.law.removesuffix(" frozen"), " frozen" * self.law.endswith(" frozen")
        if not self.indices:
            return [f"{what}{of} = {float(self.values)!r}{frozen}{comment}"]
        values = self.given + family(self.indices)
        return [f"data {values} = {listed(self.values)}", f"{what}{of} = {values}{frozen}{comment}"]


def body_of(lines: Iterable[StatementLine]) -> list[str]:
    """Statements as text, with the modules that they come from as comments."""
    found: list[str] = []
    path, depth = None, 0
    for line in lines:
        depth -= line.text.startswith("}")
        if line.text != "}" and line.path != path:
            path = line.path
            found.append(f"{'  ' * depth}# {path or 'forward'}")
        found.append("  " * depth + line.text)
        if line.text.endswith("{") or line.text == "}":
            path = None
            depth += line.text != "}"
    return found


def family(indices: Sequence[str]) -> str:
    return f"[{','.join(indices)}]" if indices else ""


def listed(values: np.ndarray) -> str:
    array = np.asarray(values)
    integers = array.dtype.kind in "iub" or bool((array == np.round(array)).all())
    return repr(array.astype(int).tolist() if integers else array.tolist())


def with_data_beside(text: str, file: str, most: int = 64) -> tuple[str, dict[str, np.ndarray]]:
    """A program that reads its longer data from a file, and these data by name."""
    arrays = {}
    lines = text.splitlines()
    for k, line in enumerate(lines):
        found = re.fullmatch(r"data (\w+)(\[.*?\]) = (\[.*\])", line)
        if found and (values := np.array(json.loads(found[3]))).size > most:
            arrays[found[1]] = values
            lines[k] = f'data {found[1]}{found[2]} from "{file}" key "{found[1]}"'
    return "\n".join([*lines, ""]), arrays


def alike(names: Sequence[str]) -> tuple[str, str, list[int]] | None:
    """Names that differ in one number, which goes up by equal steps: what is before it, after it, and the numbers."""
    parts = [re.split(r"(\d+)", name) for name in names]
    if len({len(p) for p in parts}) != 1:
        return None
    varying = [k for k, column in enumerate(zip(*parts, strict=True)) if len(set(column)) > 1]
    if len(varying) != 1 or varying[0] % 2 == 0:
        return None
    (k,) = varying
    numbers = [int(p[k]) for p in parts]
    steps = {b - a for a, b in pairwise(numbers)}
    if len(steps) != 1 or min(steps) < 1:
        return None
    return "".join(parts[0][:k]), "".join(parts[0][k + 1 :]), numbers


def in_module_list(names: Sequence[str]) -> tuple[str, str, list[int]] | None:
    """Names of the same thing in modules of one list: `h.0.fc`, `h.1.fc`."""
    found = alike(names)
    if found is None:
        return None
    before, after, _ = found
    return found if before[-1:] in ("", ".") and after[:1] in ("", ".") else None


def shared_name(names: Sequence[str]) -> str:
    """A name for what has one name in each block: without the number in which they differ."""
    found = alike(names)
    if found is None:
        return names[0]
    before, after, _ = found
    return f"{before.rstrip('_.')}{after}" if after[:1] in ("_", ".", "") else before + after


def ranged(names: Iterable[str]) -> str:
    """Names, with those that differ in the number of a module in its list written as one: `h.{0..11}.fc`."""
    found = [tuple(name.split(".")) for name in names]
    for k in reversed(range(max(map(len, found), default=0))):
        found = _collapsed(found, k)
    return ", ".join(map(".".join, found))


def _collapsed(names: list[tuple[str, ...]], k: int) -> list[tuple[str, ...]]:
    """Names that differ in part k alone, by consecutive numbers, as one."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for parts in names:
        numbered = k < len(parts) and parts[k].isdigit()
        groups.setdefault((*parts[:k], "", *parts[k + 1 :]) if numbered else parts, []).append(
            parts[k] if numbered else ""
        )
    found = []
    for key, numbers in groups.items():
        consecutive = [*map(str, range(int(numbers[0] or 0), int(numbers[0] or 0) + len(numbers)))] == numbers
        short = [f"{{{numbers[0]}..{numbers[-1]}}}"] if consecutive and len(numbers) > 1 else numbers
        found += [(*key[:k], number, *key[k + 1 :]) if number else key for number in short]
    return found
