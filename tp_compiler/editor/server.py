"""The language server, `tpc lsp`: the protocol around the functions of this room. Needs pygls."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Iterable
from typing import Any

from lsprotocol import types as lsp
from pygls import uris
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer

from tp_compiler._version import __version__
from tp_compiler.diagnostics import ProgramError, Source
from tp_compiler.editor import colours, completion, context, edits, hover, navigation, outline
from tp_compiler.editor.background import Checks
from tp_compiler.editor.checking import Finding, Report
from tp_compiler.editor.outline import OutlineEntry
from tp_compiler.editor.positions import TextLines
from tp_compiler.editor.program import Open

_REQUEST_FAILED = -32803
_TRIGGERS = ["|", "<", "[", "~", '"']
_SYMBOLS = {
    "axis": lsp.SymbolKind.Enum, "width": lsp.SymbolKind.Constant, "data": lsp.SymbolKind.Array,
    "scalar": lsp.SymbolKind.Number, "ket": lsp.SymbolKind.Variable, "matrix": lsp.SymbolKind.Operator,
    "def": lsp.SymbolKind.Function, "fn": lsp.SymbolKind.Function, "optimizer": lsp.SymbolKind.Class,
    "output": lsp.SymbolKind.Event, "train": lsp.SymbolKind.Module, "parameter": lsp.SymbolKind.TypeParameter,
    "state": lsp.SymbolKind.Field, "index": lsp.SymbolKind.EnumMember,
}  # fmt: skip
_OFFERS = {
    "keyword": lsp.CompletionItemKind.Keyword, "function": lsp.CompletionItemKind.Function,
    "constant": lsp.CompletionItemKind.Constant, "law": lsp.CompletionItemKind.Function,
    "optimizer": lsp.CompletionItemKind.Class, "layer": lsp.CompletionItemKind.Function,
    "library": lsp.CompletionItemKind.Module, "file": lsp.CompletionItemKind.File,
    "argument": lsp.CompletionItemKind.Property, "def": lsp.CompletionItemKind.Function,
    "fn": lsp.CompletionItemKind.Function, "axis": lsp.CompletionItemKind.Enum, "matrix": lsp.CompletionItemKind.Operator,
}  # fmt: skip


class Server(LanguageServer):
    """Open programs by their URIs."""

    def __init__(self) -> None:
        super().__init__("tpc", __version__)
        self.programs: dict[str, Open] = {}
        self.checks: Checks | None = None
        self._lines: tuple[str, TextLines] | None = None

    # -- texts --------------------------------------------------------------------------------------------------
    def changed(self, uri: str) -> None:
        """A program was opened or edited."""
        text = self.workspace.get_text_document(uri).source
        known = self.programs.get(uri)
        program = known.edited(text) if known is not None else Open(uris.to_fs_path(uri) or "-", text)
        self.programs[uri] = program
        if known is None:
            colours.semantic_tokens(program.symbols.chunks, self.encoding)  # read once, before anything is asked
        if self.checks is None:
            self.checks = Checks(self.checked)
        self.checks.request(uri, program)

    def closed(self, uri: str) -> None:
        self.programs.pop(uri, None)
        self.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, []))

    def checked(self, uri: str, program: Open, found: Report) -> None:
        """A check has ended; its findings are shown unless the text has changed."""
        current = self.programs.get(uri)
        if current is None:
            return
        current.checked = found, program.symbols
        gc.freeze()  # statements are kept: to scan them for cycles takes longer than any answer
        if current.text == program.text:
            shown = [self.diagnostic(current, f) for f in found.findings]
            self.text_document_publish_diagnostics(lsp.PublishDiagnosticsParams(uri, shown))

    # -- places -------------------------------------------------------------------------------------------------
    def lines(self, text: str) -> TextLines:
        if self._lines is None or self._lines[0] is not text:
            self._lines = text, TextLines(text, self.encoding)
        return self._lines[1]

    @property
    def encoding(self) -> str:
        """The unit of columns that the client chose."""
        chosen = self.workspace.position_encoding
        return str(getattr(chosen, "value", chosen) or "utf-16")

    def at(self, params: Any) -> tuple[Open, int]:
        """The program and the offset of a request."""
        program = self.programs[params.text_document.uri]
        return program, self.offset(program.text, params.position)

    def offset(self, text: str, position: lsp.Position) -> int:
        return self.lines(text).offset(position.line, position.character)

    def range(self, text: str, start: int, end: int) -> lsp.Range:
        lines = self.lines(text)
        return lsp.Range(lsp.Position(*lines.place(start)), lsp.Position(*lines.place(end)))

    def diagnostic(self, program: Open, finding: Finding) -> lsp.Diagnostic:
        """The remedy is a line of its own below the message."""
        message = finding.message + (f"\n{finding.remedy}" if finding.remedy else "")
        severity = lsp.DiagnosticSeverity.Warning if finding.warning else lsp.DiagnosticSeverity.Error
        place = self.range(program.text, finding.start, finding.end)
        return lsp.Diagnostic(place, message, severity, finding.code or None, source="tpc")

    def edits(self, program: Open, found: Iterable[edits.Edit]) -> list[lsp.TextEdit]:
        return [lsp.TextEdit(self.range(program.text, start, end), new) for start, end, new in found]


def server() -> Server:
    """A server with all its features."""
    ls = Server()
    _texts(ls)
    _names(ls)
    _writing(ls)
    return ls


def run() -> None:
    """Serves on standard input and output until the client ends the connection. What is printed goes to standard error."""
    logging.getLogger("pygls.protocol.json_rpc").addFilter(_is_fault)
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    sys.stdout = sys.stderr
    server().start_io(stdout=output)


def _is_fault(record: logging.LogRecord) -> bool:
    """Refusals that the client shows to the user are not logged as faults of the server."""
    return record.exc_info is None or not isinstance(record.exc_info[1], JsonRpcException)


def _texts(ls: Server) -> None:
    @ls.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
    def opened(params: lsp.DidOpenTextDocumentParams) -> None:
        ls.changed(params.text_document.uri)

    @ls.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
    def changed(params: lsp.DidChangeTextDocumentParams) -> None:
        ls.changed(params.text_document.uri)

    @ls.feature(lsp.TEXT_DOCUMENT_DID_SAVE)
    def saved(params: lsp.DidSaveTextDocumentParams) -> None:
        for uri in ls.programs:  # a file may be imported by the others
            ls.changed(uri)

    @ls.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
    def closed(params: lsp.DidCloseTextDocumentParams) -> None:
        ls.closed(params.text_document.uri)

    @ls.feature(lsp.SHUTDOWN)
    async def shutdown(*_: Any) -> None:
        if ls.checks is not None:
            await ls.checks.stop()


def _names(ls: Server) -> None:
    @ls.feature(lsp.TEXT_DOCUMENT_HOVER)
    def hovered(params: lsp.HoverParams) -> lsp.Hover | None:
        program, offset = ls.at(params)
        found = hover.hover(program, offset)
        if found is None:
            return None
        start, end, text = found
        return lsp.Hover(lsp.MarkupContent(lsp.MarkupKind.Markdown, text), ls.range(program.text, start, end))

    @ls.feature(lsp.TEXT_DOCUMENT_DEFINITION)
    def defined(params: lsp.DefinitionParams) -> lsp.Location | None:
        program, offset = ls.at(params)
        found = navigation.definition(program, offset)
        if found is None:
            return None
        path, start, end = found
        if path == program.path:
            return lsp.Location(params.text_document.uri, ls.range(program.text, start, end))
        return lsp.Location(uris.from_fs_path(path) or "", ls.range(navigation.text_of(program, path), start, end))

    @ls.feature(lsp.TEXT_DOCUMENT_REFERENCES)
    def referenced(params: lsp.ReferenceParams) -> list[lsp.Location]:
        program, offset = ls.at(params)
        found = navigation.references(program, offset, params.context.include_declaration)
        return [lsp.Location(params.text_document.uri, ls.range(program.text, *place)) for place in found]

    @ls.feature(lsp.TEXT_DOCUMENT_DOCUMENT_HIGHLIGHT)
    def highlighted(params: lsp.DocumentHighlightParams) -> list[lsp.DocumentHighlight]:
        program, offset = ls.at(params)
        found = navigation.references(program, offset)
        return [lsp.DocumentHighlight(ls.range(program.text, *place)) for place in found]

    @ls.feature(lsp.TEXT_DOCUMENT_PREPARE_RENAME)
    def renamable(params: lsp.PrepareRenameParams) -> lsp.Range:
        program, offset = ls.at(params)
        try:
            return ls.range(program.text, *navigation.renamable(program, offset))
        except navigation.CannotRename as problem:
            raise JsonRpcException(str(problem), _REQUEST_FAILED) from None

    @ls.feature(lsp.TEXT_DOCUMENT_RENAME, lsp.RenameOptions(prepare_provider=True))
    def renamed(params: lsp.RenameParams) -> lsp.WorkspaceEdit:
        program, offset = ls.at(params)
        try:
            found = navigation.renamed(program, offset, params.new_name)
        except navigation.CannotRename as problem:
            raise JsonRpcException(str(problem), _REQUEST_FAILED) from None
        return lsp.WorkspaceEdit(changes={params.text_document.uri: ls.edits(program, found)})

    @ls.feature(lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
    def outlined(params: lsp.DocumentSymbolParams) -> list[lsp.DocumentSymbol]:
        program = ls.programs[params.text_document.uri]
        return [_entry(ls, program.text, entry) for entry in outline.outline(program)]

    legend = lsp.SemanticTokensLegend(colours.TYPES, [])

    @ls.feature(lsp.TEXT_DOCUMENT_SEMANTIC_TOKENS_FULL, legend)
    def coloured(params: lsp.SemanticTokensParams) -> lsp.SemanticTokens:
        program = ls.programs[params.text_document.uri]
        return lsp.SemanticTokens(colours.semantic_tokens(program.symbols.chunks, ls.encoding))


def _entry(ls: Server, text: str, entry: OutlineEntry) -> lsp.DocumentSymbol:
    inside = [_entry(ls, text, x) for x in entry.inside]
    kind = _SYMBOLS.get(entry.kind, lsp.SymbolKind.Variable)
    whole, name = ls.range(text, entry.start, entry.end), ls.range(text, *entry.at)
    return lsp.DocumentSymbol(entry.name, kind, whole, name, entry.detail, children=inside)


def _writing(ls: Server) -> None:
    @ls.feature(lsp.TEXT_DOCUMENT_COMPLETION, lsp.CompletionOptions(trigger_characters=_TRIGGERS))
    def completed(params: lsp.CompletionParams) -> lsp.CompletionList:
        program, offset = ls.at(params)
        start = context.word_start(program, offset)
        place = ls.range(program.text, start, offset)
        offers = completion.completions(program, offset)
        items = [_item(offer, place, k) for k, offer in enumerate(offers)]
        return lsp.CompletionList(is_incomplete=False, items=items)

    @ls.feature(lsp.TEXT_DOCUMENT_SIGNATURE_HELP, lsp.SignatureHelpOptions(trigger_characters=["(", ","]))
    def signed(params: lsp.SignatureHelpParams) -> lsp.SignatureHelp | None:
        program, offset = ls.at(params)
        found = completion.signature(program, offset)
        if found is None:
            return None
        form, says, arguments, active = found
        shown = [lsp.ParameterInformation(x) for x in arguments]
        return lsp.SignatureHelp([lsp.SignatureInformation(form, says, shown)], 0, active)

    @ls.feature(lsp.TEXT_DOCUMENT_FORMATTING)
    def formatted(params: lsp.DocumentFormattingParams) -> list[lsp.TextEdit] | None:
        from tp_compiler import driver

        program = ls.programs[params.text_document.uri]
        try:
            text = driver.format(Source(program.path, program.text))
        except ProgramError as problem:
            ls.window_log_message(lsp.LogMessageParams(lsp.MessageType.Warning, f"not formatted: {problem}"))
            return None
        return ls.edits(program, edits.difference(program.text, text))

    @ls.feature(lsp.TEXT_DOCUMENT_CODE_ACTION, lsp.CodeActionOptions([lsp.CodeActionKind.QuickFix]))
    def fixes(params: lsp.CodeActionParams) -> list[lsp.CodeAction]:
        uri = params.text_document.uri
        program = ls.programs[uri]
        start, end = (ls.offset(program.text, p) for p in (params.range.start, params.range.end))
        return [_action(ls, uri, program, fix) for fix in edits.fixes(program, start, end)]


def _action(ls: Server, uri: str, program: Open, fix: edits.Fix) -> lsp.CodeAction:
    change = lsp.WorkspaceEdit(changes={uri: ls.edits(program, fix.edits)})
    shown = [ls.diagnostic(program, fix.finding)]
    return lsp.CodeAction(fix.title, lsp.CodeActionKind.QuickFix, shown, True, edit=change)


def _item(offer: completion.Offer, place: lsp.Range, order: int) -> lsp.CompletionItem:
    kind = _OFFERS.get(offer.kind, lsp.CompletionItemKind.Variable)
    says = lsp.MarkupContent(lsp.MarkupKind.Markdown, offer.says) if offer.says else None
    edit = lsp.TextEdit(place, offer.text or offer.label)
    bare = offer.label.strip("|>")
    return lsp.CompletionItem(
        offer.label, kind=kind, detail=offer.detail, documentation=says, sort_text=f"{order:05d}", filter_text=bare,
        text_edit=edit,
    )  # fmt: skip
