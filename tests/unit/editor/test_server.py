"""The language server over standard input and output, driven by a client as an editor drives it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.unit.editor.texts import MARK
from tp_compiler import cli

TEXT = """import layers
axis i, j : 2
data xi[i] = [1, 0.5]
ket |u> ~ N(0, 1)
matrix W ~ N(0, 2)
def net(|x[i]>, eps = 0.1) {
    |h[i]> = W |x[i]>
    return layernorm(relu(|h[i]>), eps)
}
|y[i]> = net(xi[i] * |u>)
output k[i,j] = <y[i]|y[j]>
output   <y[1]|uu>
"""


class Editor:
    """An open file `p.nexort`, and the diagnostics that the server has sent."""

    def __init__(self, folder: Path, encoding: str = "utf-16") -> None:
        pytest.importorskip("pygls")
        from lsprotocol import types
        from pygls.lsp.client import LanguageClient

        self.types = types
        self.client = LanguageClient("editor", "1")
        self.uri = (folder / "p.nexort").as_uri()
        self.doc = types.TextDocumentIdentifier(self.uri)
        self.text, self.version, self.encoding = "", 0, encoding
        self.sent: asyncio.Queue[Any] = asyncio.Queue()
        self.client.feature(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)(lambda found: self.sent.put_nowait(found))

    async def start(self, text: str) -> None:
        t = self.types
        await self.client.start_io(sys.executable, "-m", "tp_compiler", "lsp", "--stdio")
        general = t.GeneralClientCapabilities(position_encodings=[t.PositionEncodingKind(self.encoding)])
        rename = t.RenameClientCapabilities(prepare_support=True)
        can = t.ClientCapabilities(general=general, text_document=t.TextDocumentClientCapabilities(rename=rename))
        found = (await self.client.initialize_async(t.InitializeParams(capabilities=can))).capabilities
        assert found.position_encoding == self.encoding
        assert found.rename_provider.prepare_provider and found.hover_provider
        self.client.initialized(t.InitializedParams())
        self.text = text
        self.client.text_document_did_open(
            t.DidOpenTextDocumentParams(t.TextDocumentItem(self.uri, "nexort", self.version, text))
        )

    def change(self, old: str, new: str) -> None:
        """Replaces a part of the text, as typing does."""
        t = self.types
        start = self.text.index(old)
        self.version += 1
        part = t.TextDocumentContentChangePartial(t.Range(self.place(start), self.place(start + len(old))), new)
        self.client.text_document_did_change(
            t.DidChangeTextDocumentParams(t.VersionedTextDocumentIdentifier(self.version, self.uri), [part])
        )
        self.text = self.text[:start] + new + self.text[start + len(old) :]

    def place(self, offset: int) -> Any:
        line = self.text[:offset].rpartition("\n")[2]
        name, size = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}[self.encoding]
        return self.types.Position(self.text[:offset].count("\n"), len(line.encode(name)) // size)

    def at(self, mark: str) -> Any:
        return self.place(self.text.index(mark.replace(MARK, "")) + mark.index(MARK))

    def applied(self, edits: Any) -> str:
        lines = self.text.split("\n")
        starts = [0]
        for line in lines:
            starts.append(starts[-1] + len(line) + 1)
        text = self.text
        for edit in sorted(edits, key=lambda e: (e.range.start.line, e.range.start.character), reverse=True):
            a, b = (starts[p.line] + p.character for p in (edit.range.start, edit.range.end))
            text = text[:a] + edit.new_text + text[b:]
        return text

    async def codes(self) -> list[str]:
        """The codes of the next diagnostics."""
        return [d.code for d in (await self.sent.get()).diagnostics]

    async def stop(self) -> tuple[int, str]:
        """The exit code, and what was written to standard error."""
        await self.client.shutdown_async(None)
        self.client.exit(None)
        process = self.client._server
        assert process is not None and process.stderr is not None
        errors = (await process.stderr.read()).decode()
        code = await process.wait()
        await self.client.stop()
        return code, errors


def run(
    session: Callable[[Editor], Coroutine[Any, Any, None]], folder: Path, text: str = TEXT, encoding: str = "utf-16"
) -> None:
    async def whole() -> None:
        editor = Editor(folder, encoding)
        await editor.start(text)
        await session(editor)
        assert await editor.stop() == (0, "")

    asyncio.run(whole())


@pytest.mark.slow
def test_a_session(tmp_path: Path) -> None:
    async def session(e: Editor) -> None:
        t = e.types
        (finding,) = (await e.sent.get()).diagnostics
        assert finding.code == "NX102" and finding.message == "there is no ket `|uu>`\ndid you mean `u`?"
        assert (finding.range.start, finding.range.end) == (e.at("¦uu"), e.at("uu¦"))

        page = await e.client.text_document_hover_async(t.HoverParams(e.doc, e.at("|¦h[i]> =")))
        assert "ket over i (2), width n" in page.contents.value and "hat of `W`" in page.contents.value

        place = await e.client.text_document_definition_async(t.DefinitionParams(e.doc, e.at("return layer¦norm")))
        assert place.uri.endswith("/layers.nexort")
        place = await e.client.text_document_definition_async(t.DefinitionParams(e.doc, e.at("<y¦[i]")))
        assert place.uri == e.uri and place.range.start == e.at("|¦y[i]> = net")

        context = t.ReferenceContext(include_declaration=True)
        found = await e.client.text_document_references_async(t.ReferenceParams(context, e.doc, e.at("W¦ |x")))
        assert [x.range.start for x in found] == [e.at("matrix ¦W"), e.at("= ¦W |x")]

        edit = await e.client.text_document_rename_async(t.RenameParams(e.doc, e.at(", e¦ps"), "tol"))
        assert e.applied(edit.changes[e.uri]) == e.text.replace("eps", "tol")
        assert await e.client.text_document_prepare_rename_async(t.PrepareRenameParams(e.doc, e.at("data x¦i")))
        with pytest.raises(Exception, match="keyword"):
            await e.client.text_document_rename_async(t.RenameParams(e.doc, e.at("data x¦i"), "output"))

        symbols = await e.client.text_document_document_symbol_async(t.DocumentSymbolParams(e.doc))
        assert [s.name for s in symbols] == ["i", "j", "xi", "|u>", "W", "net", "|y>", "k", "<y[1]|uu>"]

        offered = await e.client.text_document_completion_async(t.CompletionParams(e.doc, e.at("y[1]|u¦u")))
        assert [x.label for x in offered.items[:2]] == ["u", "y"]
        help_ = await e.client.text_document_signature_help_async(t.SignatureHelpParams(e.doc, e.at("net(x¦i")))
        assert help_.signatures[0].label == "def net(|x[i]>, eps = 0.1)" and help_.active_parameter == 0

        (action,) = await e.client.text_document_code_action_async(
            t.CodeActionParams(e.doc, finding.range, t.CodeActionContext([finding]))
        )
        assert action.title == "Change `uu` to `u`"
        assert e.applied(action.edit.changes[e.uri]) == e.text.replace("uu", "u")

        edits = await e.client.text_document_formatting_async(
            t.DocumentFormattingParams(e.doc, t.FormattingOptions(4, True))
        )
        assert e.applied(edits) == e.text.replace("output   <", "output <")

        tokens = await e.client.text_document_semantic_tokens_full_async(t.SemanticTokensParams(e.doc))
        assert len(tokens.data) % 5 == 0 and len(tokens.data) > 300

        e.change("|uu>", "|u>")
        assert await e.codes() == []

    run(session, tmp_path)


@pytest.mark.slow
def test_a_program_that_is_being_written(tmp_path: Path) -> None:
    """After every step the outline is there, the kets are offered, and the finding is that of the line."""

    async def session(e: Editor) -> None:
        t = e.types
        await e.sent.get()
        e.change("output   <y[1]|uu>\n", "|z[i]> = W |\n")
        offered = await e.client.text_document_completion_async(t.CompletionParams(e.doc, e.at("= W |¦\n")))
        assert [x.label for x in offered.items[:2]] == ["u", "y"]
        symbols = await e.client.text_document_document_symbol_async(t.DocumentSymbolParams(e.doc))
        assert {"|u>", "W", "net", "|y>", "k", "|z>"} <= {s.name for s in symbols}
        page = await e.client.text_document_hover_async(t.HoverParams(e.doc, e.at("|¦h[i]> =")))
        assert "ket over i (2), width n" in page.contents.value, "the type of the last check"
        assert await e.codes() == ["NX011"]
        edits = await e.client.text_document_formatting_async(
            t.DocumentFormattingParams(e.doc, t.FormattingOptions(4, True))
        )
        assert not edits
        e.change("matrix W ~ N(0, 2)\n", "matrix W ~ N(0, 2)\ndef g(|q>) {\n")
        symbols = await e.client.text_document_document_symbol_async(t.DocumentSymbolParams(e.doc))
        assert {"|u>", "W", "net", "|y>", "k", "|z>", "g"} <= {s.name for s in symbols}
        assert "NX011" in await e.codes()

    run(session, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_letters_beyond_the_first_plane_and_imports(encoding: str, tmp_path: Path) -> None:
    """Columns are in the units that the client asks for; an edit of an imported file is seen when it is saved."""
    (tmp_path / "blocks.nexort").write_text("def f(|x>) { return tanh(|x>) }\n", encoding="utf-8")
    text = 'import "blocks.nexort"\nket |𝔵> ~ N(0, 1)\noutput <f(|𝔵>)> + <𝔵|y>\n'

    async def session(e: Editor) -> None:
        t = e.types
        (finding,) = (await e.sent.get()).diagnostics
        assert (finding.code, finding.range.start) == ("NX102", e.at("|¦y>"))
        place = await e.client.text_document_definition_async(t.DefinitionParams(e.doc, e.at("<¦f(")))
        assert place.uri.endswith("/blocks.nexort")
        e.change("|y>", "|𝔵>")
        assert await e.codes() == []
        (tmp_path / "blocks.nexort").write_text("def g(|x>) { return tanh(|x>) }\n", encoding="utf-8")
        e.client.text_document_did_save(t.DidSaveTextDocumentParams(e.doc))
        assert await e.codes() == ["NX103"]

    run(session, tmp_path, text, encoding)


def test_without_pygls(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert cli.main(["lsp"]) == 2
    assert "pip install 'tp_compiler[lsp]'" in capsys.readouterr().err
