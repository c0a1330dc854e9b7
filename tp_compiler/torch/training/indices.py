"""Indices of an expression as a user wrote them: any letters, which become names of the axes of the outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from tp_compiler import api
from tp_compiler.diagnostics import Source
from tp_compiler.torch.refusals import refusal
from tp_compiler.torch.text import ModuleText

#: What stands before an expression, to be read as a statement.
_HEAD = "loss = "


def parsed(expression: str) -> Any:
    """The syntax tree of an expression."""
    return api.parse(Source("<loss>", f"{_HEAD}{expression}\n")).statements


def fitted(expression: str, outputs: Mapping[str, Sequence[str]], written: ModuleText) -> str:
    """The expression with indices that the program knows: those of outputs become names of their axes.

    outputs   the indices of each output in the program
    """
    tree = parsed(expression)
    found: dict[str, str] = {}  # an index of the expression -> one of the program's for the same axis
    for node in nodes(tree):
        name = ident(node) or ""
        if name not in outputs or node.indices is None:
            continue
        if len(node.indices) != len(outputs[name]):
            raise refusal(
                "NX720",
                f"`{node.span.text}` has {len(node.indices)} indices, and `{name}` has {len(outputs[name])}",
                f"write `{name}[{','.join(outputs[name])}]`: one for each dimension larger than 1",
            )
        for index, own in zip(node.indices, outputs[name], strict=True):
            letter = bare(index)
            if letter is None or letter == "step":
                continue
            if not _alike(found.setdefault(letter, own), own, written):
                raise refusal(
                    "NX720", f"`{letter}` is an index of two axes of different size or meaning", "give every axis its own index"
                )  # fmt: skip
    return _renamed(expression, tree, {letter: _name(letter, own, written) for letter, own in found.items()})


def _alike(one: str, other: str, written: ModuleText) -> bool:
    """Are both names of one axis?"""
    return any(one in names and other in names for names in written.namer.axes.values())


def _name(letter: str, own: str, written: ModuleText) -> str:
    """A name for the axis of an index of the program: the user's letter, if nothing else is called so."""
    names = next(names for names in written.namer.axes.values() if own in names)
    if letter in names:
        return letter
    new = letter if written.namer.claim(letter) else written.namer.unique(letter)
    line = f"axis {', '.join(names)} :"
    names.append(new)
    written.header[:] = [text.replace(line, f"axis {', '.join(names)} :") for text in written.header]
    return new


def _renamed(expression: str, tree: Any, names: Mapping[str, str]) -> str:
    text = _HEAD + expression
    places = {(n.span.start, n.span.end): names[str(bare(n))] for n in nodes(tree) if bare(n) in names}
    for (start, end), name in sorted(places.items(), reverse=True):
        text = text[:start] + name + text[end:]
    return text.removeprefix(_HEAD)


def bare(node: Any) -> str | None:
    """The name that a node is, without brackets."""
    return ident(node) if getattr(node, "indices", None) is None else None


def ident(node: Any) -> str | None:
    return getattr(node, "ident", None)


def nodes(tree: Any) -> Iterator[Any]:
    """The nodes of a syntax tree."""
    if isinstance(tree, tuple):
        for item in tree:
            yield from nodes(item)
    elif is_dataclass(tree) and not isinstance(tree, type) and hasattr(tree, "span"):
        yield tree
        for f in fields(tree):
            yield from nodes(getattr(tree, f.name))
