"""What is shown of the word under the pointer, as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from tp_compiler.editor import keywords
from tp_compiler.editor.context import context
from tp_compiler.editor.functions import Word, comment_above, words
from tp_compiler.editor.program import Open, library_path
from tp_compiler.editor.symbols import IMPLICIT, NamesInScope, Occurrence, Symbol
from tp_compiler.explanation import explain
from tp_compiler.frontend.scan import INNER_WORDS, STATEMENT_WORDS, Lexeme

#: A place, and Markdown.
Shown: TypeAlias = tuple[int, int, str]
#: Statements that are longer are shown up to here.
_LONG = 400
_SIGNS = {
    "BRA_OPEN": ("⟨x|y⟩", "A bracket: x·y / n at width n, the expectation E |x⟩|y⟩ in the limit; `<x>` is a mean."),
    "KET_OPEN": ("|x⟩", "A ket: a vector with one entry per neuron, in the limit a random variable."),
    "TRANSPOSE": ("W^T", "The transpose of an operator."),
    "COPY": ("|x>@1", "The ket of an independent copy of the neurons, within `E[1](...)`."),
    "PRIMES": ("relu'", "The derivative of a function of one argument."),
}


def hover(program: Open, offset: int) -> Shown | None:
    """The place of the word at an offset, and what is said of it; where a finding is, its reason."""
    found, reason = _of_the_word(program, offset), _reason(program, offset)
    if found is None or reason is None:
        return found or reason
    return found[0], found[1], f"{found[2]}\n\n---\n\n{reason[2]}"


def _of_the_word(program: Open, offset: int) -> Shown | None:
    found = program.symbols.at(offset)
    if found is not None:
        symbol, place = found
        return place.start, place.end, _symbol(program, symbol, place)
    lexeme = lexeme_at(program, offset)
    if lexeme is None:
        return None
    start, word = lexeme
    text = (
        _argument(program, start, word)
        or _word(word, program.symbols.names_at(offset))
        or _in_place(program, start, word)
    )
    return (start, start + len(word.text), text) if text else None


def _reason(program: Open, offset: int) -> Shown | None:
    """Why what the last check found at a place is a mistake: that of `tpc explain`."""
    if program.checked is None or program.checked[1].text != program.text:
        return None
    for finding in program.checked[0].findings:
        if finding.code and finding.start <= offset <= finding.end:
            explained = explain(finding.code)
            return finding.start, finding.end, f"**{finding.code}** {explained.why or explained.what}"
    return None


def lexeme_at(program: Open, offset: int) -> tuple[int, Lexeme] | None:
    """The word or sign at an offset, or the word that ends there, with its start in the text."""
    found = program.symbols.chunk_at(offset)
    if found is None:
        return None
    at, chunk = found
    inside = [x for x in chunk.lexemes if at + x.start <= offset <= at + x.end and x.kind != "NEWLINE"]
    if not inside:
        return None
    best = next((x for x in reversed(inside) if x.kind == "NAME" or x.text.isidentifier()), inside[-1])
    return at + best.start, best


def _argument(program: Open, start: int, lexeme: Lexeme) -> str:
    """An argument of a standard optimizer, a layer or another function of the language."""
    word = words().get(context(program, start).bracket.call) if lexeme.role == "keyword" else None
    return _page(word.form, f"`{lexeme.text}` is an argument of `{word.name}`.") if word is not None else ""


def _in_place(program: Open, start: int, lexeme: Lexeme) -> str:
    """A word that belongs to the language where it stands; exponents stand in blocks of a parametrization."""
    found = keywords.PLACES.get(lexeme.text)
    if found is None or lexeme.kind != "NAME":
        return ""
    if len(lexeme.text) == 1:
        chunk = program.symbols.chunk_at(start)
        if chunk is None or all(x.kind != "PARAMETRIZATION" for x in chunk[1].lexemes):
            return ""
    return _page(*found)


def _word(lexeme: Lexeme, names: NamesInScope) -> str:
    """A word or sign of the language."""
    if lexeme.kind in STATEMENT_WORDS or lexeme.kind in INNER_WORDS:
        table = keywords.STATEMENTS if lexeme.kind in STATEMENT_WORDS else keywords.INNER
        return _page(*table[lexeme.text])
    if lexeme.kind in _SIGNS:
        return _page(*_SIGNS[lexeme.kind])
    if lexeme.kind != "NAME":
        return ""
    if names.optimizer and lexeme.text in IMPLICIT and not lexeme.role:
        return _page(lexeme.text, f"In an optimizer: {IMPLICIT[lexeme.text]}.")
    word = words().get(lexeme.text)
    return about(word) if word is not None else ""


def about(word: Word) -> str:
    """A function, law, constant, optimizer or layer of the language."""
    says = f"{word.says}\n\nFrom the library `layers`." if word.kind == "layer" else word.says
    return _page(word.form, says)


def _symbol(program: Open, symbol: Symbol, place: Occurrence) -> str:
    text, says = described(program, symbol, place.start)
    fact = program.fact(symbol, place.start)
    return _page(text, "\n\n".join(x for x in (fact, says) if x))


def described(program: Open, symbol: Symbol, offset: int) -> tuple[str, str]:
    """The statement that gives a name its value at an offset, and the comment above a definition or the file it is from."""
    if symbol.home is not None:
        text, says = symbol.home.text, f"From `{Path(symbol.home.path).name}`."
        word = words().get(symbol.name)
        if word is not None and word.kind == "layer" and symbol.home.path == str(library_path("layers")):
            return word.form, f"{word.says}\n\n{says}".strip()
    else:
        binding = symbol.binding_before(offset)
        if binding is None:
            return symbol.shown, ""
        text, says = program.symbols.statement(binding), ""
        if binding.binds in ("def", "optimizer", "fn"):
            says = comment_above(program.text, binding.at[0])
        if binding.binds == "parameter":
            says = f"A parameter of `{symbol.owner}`."
        if binding.binds == "loop variable":
            text = text.partition("{")[0]
    if text.startswith(("def", "optimizer")):
        text = text.partition("{")[0]
    return _shortened(text.strip()), says


def _shortened(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG].rstrip()} ..."


def _page(text: str, says: str) -> str:
    return f"```nexort\n{text}\n```\n\n{says}" if says else f"```nexort\n{text}\n```"
