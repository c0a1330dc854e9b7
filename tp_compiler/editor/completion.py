"""What can be written at a place: kets after `|`, indices in brackets, laws after `~`, keywords where statements begin."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tp_compiler.check.hints import LIBRARIES
from tp_compiler.check.laws import DATA, KETS, MATRICES
from tp_compiler.check.parametrize import PARAMETRIZATIONS
from tp_compiler.editor import keywords
from tp_compiler.editor.context import Surroundings, context
from tp_compiler.editor.functions import CONSTANTS, LAWS, words
from tp_compiler.editor.hover import described
from tp_compiler.editor.program import Open
from tp_compiler.editor.symbols import IMPLICIT, NamesInScope, Symbol
from tp_compiler.frontend.scan import DECLARATIONS
from tp_compiler.frontend.tokens import INNER, OPERAND_ENDS

#: What a name can be bound as where indices, parameters and operators are expected.
_INDICES = ("axis", "index", "loop variable", "data")
_PARAMETERS = ("ket", "matrix", "scalar")
_LAWS = {"KET": KETS, "MATRIX": MATRICES, "DATA": DATA}
#: A line that ends inside a string, or inside a comment.
_STRING_OR_COMMENT = re.compile(r'[^"#]*(?:"[^"]*"[^"#]*)*(?:"(?P<path>[^"]*)|#.*)')
#: Keywords that belong in blocks only.
_IN_BLOCKS = {"return", "minimize", "update", "state", "init"}


@dataclass(frozen=True)
class Offer:
    """A completion: `kind` as in `Word` and `Occurrence.binds`, or `keyword`, `file`; `text` is what is written."""

    label: str
    kind: str
    detail: str
    says: str = ""
    text: str = ""


def completions(program: Open, offset: int) -> list[Offer]:
    """The offers at an offset, for the word that ends there."""
    here = context(program, offset)
    written = program.text[:offset].rpartition("\n")[2]
    opened = _STRING_OR_COMMENT.fullmatch(written)
    if opened is not None:
        return list(_files(program, here, opened["path"])) if opened["path"] is not None else []
    names = program.symbols.names_at(here.start)
    seen: dict[str, Offer] = {}
    for offer in _offers(program, names, here):
        seen.setdefault(offer.label, offer)
    return list(seen.values())


def signature(program: Open, offset: int) -> tuple[str, str, tuple[str, ...], int] | None:
    """The call around an offset: its form, what it does, its arguments, and the number of the one being written."""
    here = context(program, offset)
    call = here.bracket.call
    if not call:
        return None
    symbol = program.symbols.names_at(here.start).find(call, "plain")
    word = words().get(call)
    if symbol is not None and symbol.what in ("def", "fn", "optimizer"):
        form, says = described(program, symbol, here.start)
    elif word is not None:
        form, says = word.form.partition(" or ")[0], word.says
    else:
        return None
    arguments = _arguments(form)
    return form, says, arguments, min(here.bracket.part, max(0, len(arguments) - 1))


def _arguments(form: str) -> tuple[str, ...]:
    """The arguments in a form such as `def f[s](|x[s]>, eps = 1)`."""
    form = form.partition("=")[0] if form.startswith("fn") else form
    inner = re.search(r"\((.*)\)", form)
    found, depth, part = [], 0, ""
    for char in inner[1] if inner else "":
        depth += (char in "([") - (char in ")]")
        if char in ",;" and depth == 0:
            found.append(part.strip())
            part = ""
        else:
            part += char
    return tuple([*found, part.strip()] if part.strip() else found)


# -- the offers -----------------------------------------------------------------------------------------------------
def _offers(program: Open, names: NamesInScope, here: Surroundings) -> Iterator[Offer]:
    head, bracket = here.head, here.bracket
    if not here.line:
        yield from _beginnings(names)
        yield from _symbols(
            program, names, lambda s: s.what not in ("def", "fn", "optimizer", "axis", "index"), bars=True
        )
    elif head == "IMPORT":
        yield from (Offer(name, "library", "the layers of the library") for name in LIBRARIES)
    elif here.last == "TILDE" and not bracket.kind:
        yield from (Offer(n, "law", " or ".join(forms), LAWS[n]) for n, forms in _LAWS.get(head, {}).items())
    elif bracket.kind == "index":
        yield from _symbols(program, names, lambda s: s.what in _INDICES)
    elif here.last == "WITH":
        yield from (Offer(w.name, w.kind, w.form, w.says) for w in words().values() if w.kind == "optimizer")
        yield from _symbols(program, names, lambda s: s.what == "optimizer")
    elif head == "UPDATE" and not bracket.kind and not any(x.kind == "WITH" for x in here.line):
        yield from _symbols(program, names, lambda s: s.what in _PARAMETERS, bars=True)
        yield from _inner(here)
        yield Offer("all", "keyword", "every parameter that no other line names")
    elif head == "PARAMETRIZATION" and len(here.line) == 1:
        yield from (Offer(n, "keyword", "a named parametrization") for n in PARAMETRIZATIONS)
    elif _before_width(here):
        yield Offer("n", "constant", *CONSTANTS["n"])
        yield from _symbols(program, names, lambda s: s.what == "width")
    elif head == "KET" and not any(x.kind in ("TILDE", "EQUAL", "FROM") for x in here.line):
        yield from _inner(here)
    elif bracket.label:
        yield from _inside_label(program, names, here)
    elif head not in DECLARATIONS or len(here.line) > 1:
        yield from _keyword_arguments(names, here)
        yield from _inner(here)
        yield from _symbols(program, names, lambda s: s.what != "optimizer", bars=True)
        yield from _functions(names)


def _before_width(here: Surroundings) -> bool:
    """After `ket |x> :`, `matrix R :` and `matrix R : m x`."""
    if here.head not in ("KET", "MATRIX") or here.bracket.kind:
        return False
    by = here.head == "MATRIX" and here.line[-1].text == "x" and any(x.kind == "COLON" for x in here.line)
    return by or here.last == "COLON"


def _beginnings(names: NamesInScope) -> Iterator[Offer]:
    """Keywords where a statement begins: in a block, those that belong there first."""
    for word, (form, says) in keywords.STATEMENTS.items():
        if word not in _IN_BLOCKS or names.owner or word in ("minimize", "update"):
            yield Offer(word, "keyword", form, says)


def _inner(here: Surroundings) -> Iterator[Offer]:
    """Keywords inside a statement, after an operand."""
    if len(here.line) > 1 and here.last in OPERAND_ENDS and not here.bracket.kind:
        for word in INNER.get(here.head, {}):
            yield Offer(word, "keyword", *keywords.INNER[word])


def _inside_label(program: Open, names: NamesInScope, here: Surroundings) -> Iterator[Offer]:
    """Kets; between the bars of a bracket operators; functions, which may act on bare names."""
    yield from _symbols(program, names, lambda s: s.ket)
    if here.bracket.part:
        yield from _symbols(program, names, lambda s: s.what == "matrix" or (s.what == "parameter" and not s.ket))
    yield from _functions(names)


def _keyword_arguments(names: NamesInScope, here: Surroundings) -> Iterator[Offer]:
    call = here.bracket.call
    if here.bracket.kind != "call" or not call or here.last == "EQUAL":
        return
    symbol, word = names.find(call, "plain"), words().get(call)
    known: Iterable[str] = symbol.parameters if symbol is not None else ()
    if symbol is None and word is not None and word.kind in ("optimizer", "layer"):
        known = word.arguments
    yield from (Offer(f"{n} =", "argument", f"argument of {call}", text=f"{n} = ") for n in known)


def _functions(names: NamesInScope) -> Iterator[Offer]:
    for word in words().values():
        if word.kind in ("function", "constant"):
            yield Offer(word.name, word.kind, word.form, word.says)
    if names.optimizer:
        yield from (Offer(n, "parameter", f"in an optimizer: {says}") for n, says in IMPLICIT.items())


def _symbols(
    program: Open, names: NamesInScope, wanted: Callable[[Symbol], bool], bars: bool = False
) -> Iterator[Offer]:
    """Names of the program; kets with their bars where an expression is expected."""
    for symbol in names.visible():
        if wanted(symbol):
            detail, says = described(program, symbol, len(program.text))
            shown = symbol.shown if bars else symbol.name
            yield Offer(shown, "ket" if symbol.ket else symbol.what, detail.split("\n")[0], says, shown)


def _files(program: Open, here: Surroundings, written: str) -> Iterator[Offer]:
    """Files below the program's folder, in an import or after `from`."""
    suffixes = (".nexort",) if here.head == "IMPORT" else (".npy", ".npz", ".csv")
    folder = Path(program.path).parent
    try:
        found = [p for p in folder.iterdir() if p.suffix in suffixes and p.name.startswith(written)]
    except OSError:
        return
    yield from (Offer(p.name, "file", str(folder)) for p in sorted(found) if str(p) != program.path)
