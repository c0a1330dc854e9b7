// Starts `tpc lsp`, the language server; colours work without it.
const { commands, window, workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

async function start() {
  const [command, ...args] = workspace.getConfiguration("nexort").get("command");
  client = new LanguageClient(
    "nexort",
    "NEXORT",
    { command, args },
    { documentSelector: [{ language: "nexort" }] },
  );
  try {
    await client.start();
  } catch (problem) {
    client = undefined;
    window.showWarningMessage(
      `NEXORT: cannot start \`${[command, ...args].join(" ")}\` (${problem.message}). ` +
        "Install it with `pip install 'tp_compiler[lsp]'`, and set `nexort.command` if it is not on the path.",
    );
  }
}

async function stop() {
  const running = client;
  client = undefined;
  await running?.stop();
}

async function activate(context) {
  context.subscriptions.push(
    commands.registerCommand("nexort.restart", async () => {
      await stop();
      await start();
    }),
  );
  await start();
}

module.exports = { activate, deactivate: stop };
