// Colours programs by the TextMate grammar as VS Code does: reads a list of texts from standard input as JSON, and writes for
// each the list of [start, end, scopes]. Arguments: the folder of node_modules, the grammar.
const fs = require("fs");
const path = require("path");
const [modules, grammarFile] = process.argv.slice(2);
const { Registry, parseRawGrammar, INITIAL } = require(path.join(modules, "vscode-textmate"));
const onigDir = path.join(modules, "vscode-oniguruma");
const oniguruma = require(onigDir);

async function main() {
  const wasm = fs.readFileSync(path.join(onigDir, "release", "onig.wasm"));
  await oniguruma.loadWASM(wasm.buffer.slice(wasm.byteOffset, wasm.byteOffset + wasm.byteLength));
  const registry = new Registry({
    onigLib: Promise.resolve({
      createOnigScanner: (patterns) => new oniguruma.OnigScanner(patterns),
      createOnigString: (text) => new oniguruma.OnigString(text),
    }),
    loadGrammar: async () => parseRawGrammar(fs.readFileSync(grammarFile, "utf-8"), grammarFile),
  });
  const grammar = await registry.loadGrammar("source.nexort");
  const texts = JSON.parse(fs.readFileSync(0, "utf-8"));
  const found = texts.map((text) => {
    let stack = INITIAL;
    let start = 0;
    const tokens = [];
    for (const line of text.split("\n")) {
      const result = grammar.tokenizeLine(line, stack);
      for (const t of result.tokens) tokens.push([start + t.startIndex, start + Math.min(t.endIndex, line.length), t.scopes]);
      stack = result.ruleStack;
      start += line.length + 1;
    }
    return tokens;
  });
  process.stdout.write(JSON.stringify(found));
}

main();
