"""The TextMate grammar is up to date, and colours programs as the scanner does; the extension of VS Code is whole."""

from __future__ import annotations

import json
import plistlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.editor.texts import EXAMPLES, ROOT
from tp_compiler.editor import textmate
from tp_compiler.editor.colours import colour
from tp_compiler.editor.functions import words
from tp_compiler.frontend.scan import scan
from tp_compiler.frontend.tokens import INNER, KEYWORDS

EXTENSION = ROOT / "grammar" / "vscode"
GRAMMAR = EXTENSION / "syntaxes" / "nexort.tmLanguage.json"
LIBRARY = sorted((ROOT / "tp_compiler").rglob("*.nexort"))

#: Colours of the scanner, and the scopes that agree with them.
SCOPES = {
    "comment": {"comment.line.number-sign"},
    "string": {"string.quoted.double"},
    "number": {"constant.numeric"},
    "declaration": {"keyword.control"},
    "import": {"keyword.control"},
    "keyword": {"keyword.control", "keyword.other"},
    "sign": {"punctuation.definition.ket"},
    "operator": {"keyword.operator"},
    "mark": {"keyword.operator.word"},
    "ket": {"variable.other.ket"},
    "hatted": {"variable.language"},
    "law": {"support.function.law"},
    "function": {"support.function"},
    "optimizer": {"support.class"},
    "layer": {"support.function.layer"},
    "index": {"variable.other.index", "variable.other"},  # brackets within brackets
    "constant": {"constant.language", "variable.other"},  # the width in `m x n`
    "declared": {"variable.other.declaration", "variable.other"},
    "argument": {"variable.parameter", "variable.other"},  # arguments on lines of their own
    "call": {"entity.name.function", "variable.other", "variable.other.ket"},  # `C (|x>)` is a product
    "name": {"variable.other", "variable.other.declaration", "variable.other.ket", "variable.parameter"},  # <x|W|y>
}  # fmt: skip


def test_the_file_is_up_to_date() -> None:
    hint = f"run: python -m tp_compiler.editor.textmate > {GRAMMAR.relative_to(ROOT)}"
    assert GRAMMAR.read_text(encoding="utf-8") == textmate.text(), hint


def test_the_form_of_sublime_text() -> None:
    assert plistlib.loads(textmate.plist().encode()) == textmate.grammar()


def test_every_word_is_in_it() -> None:
    text = GRAMMAR.read_text(encoding="utf-8")
    inner = {word for words in INNER.values() for word in words}
    assert [w for w in {*KEYWORDS, *inner, *words()} if w not in text] == []


def test_the_extension_is_whole() -> None:
    package = json.loads((EXTENSION / "package.json").read_text(encoding="utf-8"))
    (language,) = package["contributes"]["languages"]
    paths = [package["main"], language["configuration"], *(g["path"] for g in package["contributes"]["grammars"])]
    assert [p for p in paths if not (EXTENSION / p).is_file()] == []
    for path in EXTENSION.rglob("*.json"):
        if "node_modules" not in path.parts:
            json.loads(path.read_text(encoding="utf-8"))
    assert GRAMMAR.samefile(EXTENSION / package["contributes"]["grammars"][0]["path"])
    settings = package["contributes"]["configuration"]["properties"]
    assert settings["nexort.command"]["default"] == ["tpc", "lsp"]
    assert '"nexort").get("command")' in (EXTENSION / "extension.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VS Code's own engine of TextMate grammars, from npm."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("npm and node are not installed")
    folder = tmp_path_factory.mktemp("npm")
    command = ["npm", "install", "--no-audit", "--no-fund", "vscode-textmate@9", "vscode-oniguruma@2"]
    (folder / "package.json").write_text('{"private": true}', encoding="utf-8")
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"the packages cannot be had from npm: {found.stderr[-200:]}")
    return folder / "node_modules"


def scopes(modules: Path, texts: list[str]) -> list[dict[int, str]]:
    """For each text: place of a character, in units of UTF-16 -> its innermost scope."""
    script = Path(__file__).with_name("tokenize.cjs")
    command = ["node", str(script), str(modules), str(GRAMMAR)]
    ran = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=True)
    found = json.loads(ran.stdout)
    return [{at: names[-1].removesuffix(".nexort") for a, b, names in text for at in range(a, b)} for text in found]


def disagreements(text: str, found: dict[int, str]) -> list[tuple[str, str, str]]:
    wrong = []
    for lexeme in scan(text):
        kind = colour(lexeme)
        place = len(text[: lexeme.start].encode("utf-16-le")) // 2
        if kind in SCOPES and found.get(place) not in SCOPES[kind]:
            wrong.append((kind, found.get(place, ""), text[max(0, lexeme.start - 20) : lexeme.end + 10]))
    return wrong


@pytest.mark.slow
def test_programs_have_the_colours_of_the_scanner(modules: Path) -> None:
    texts = [path.read_text(encoding="utf-8") for path in (*EXAMPLES, *LIBRARY)]
    for text, found in zip(texts, scopes(modules, texts), strict=True):
        assert disagreements(text, found) == []


CLIENT = """
const Module = require("module");
const log = [];
let fails = false;
class LanguageClient {
  constructor(id, name, server, options) { log.push(server, options.documentSelector); }
  async start() { if (fails) throw new Error("not found"); log.push("started"); }
  async stop() { log.push("stopped"); }
}
const vscode = {
  commands: { registerCommand: (name, run) => ({ name, run }) },
  window: { showWarningMessage: (text) => log.push(text) },
  workspace: { getConfiguration: () => ({ get: () => ["tpc", "lsp"] }) },
};
const load = Module._load;
Module._load = (name, ...rest) =>
  name === "vscode" ? vscode : name === "vscode-languageclient/node" ? { LanguageClient } : load(name, ...rest);
(async () => {
  const extension = require(process.argv[2]);
  const context = { subscriptions: [] };
  await extension.activate(context);
  fails = true;
  await context.subscriptions[0].run();
  await extension.deactivate();
  process.stdout.write(JSON.stringify(log));
})();
"""


@pytest.mark.slow
def test_the_extension_starts_the_server(tmp_path: Path) -> None:
    """With VS Code and its client replaced by doubles: it starts, restarts, and says what to do if it cannot start."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    (tmp_path / "client.cjs").write_text(CLIENT, encoding="utf-8")
    command = ["node", str(tmp_path / "client.cjs"), str(EXTENSION / "extension.js")]
    log = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    server = {"command": "tpc", "args": ["lsp"]}
    selector = [{"language": "nexort"}]
    assert log[:6] == [server, selector, "started", "stopped", server, selector]
    assert (
        "cannot start `tpc lsp` (not found)" in log[6] and "pip install 'tp_compiler[lsp]'" in log[6] and len(log) == 7
    )


@pytest.mark.slow
def test_words_that_are_names_here(modules: Path) -> None:
    texts = [
        "output = 3\nkey = 2 * output + 1\ndata = key\n",
        "|x̂⟩ = |ẋ⟩ + Wᵀ |𝔵⟩ + |y>@1\n",
        "ket |x> ~ N(0, \n|y> = W |x\noutput <y|\n# text\nmatrix W ~ N(0, 1) frozen\n",
        "c = f(\nket |x> ~ N(0, 1)\n",
        "S = |d><x| * 2  # a > b\nT2 = <tanh(x)|(W + V)|z> < 3\n",
    ]
    names, unicode, broken, opened, mixed = scopes(modules, texts)
    assert {names[texts[0].index(w)] for w in ("output", "key", "data")} == {"variable.other"}
    assert disagreements(texts[1], unicode) == []
    for word, scope in (
        ("# text", "comment.line.number-sign"),
        ("matrix", "keyword.control"),
        ("frozen", "keyword.other"),
    ):
        assert broken[texts[2].index(word)] == scope, "a line with a mistake spoils no other line"
    assert opened[texts[3].index("ket")] == "keyword.control"
    assert (
        mixed[texts[4].index("# a")] == "comment.line.number-sign"
        and mixed[texts[4].index("tanh")] == "support.function"
    )
