"""Completion of the command line in bash, zsh and fish, written from the parser of the arguments."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class _Option:
    """`--method {auto,exact}` of a command; `words` is None if the option takes no value, empty if any."""

    flags: tuple[str, ...]
    help: str
    words: tuple[str, ...] | None
    files: bool


@dataclass(frozen=True)
class _Command:
    name: str
    help: str
    options: tuple[_Option, ...]
    words: tuple[str, ...]  # of the positional argument
    files: bool


def script(parser: argparse.ArgumentParser, shell: str, words: Mapping[str, Iterable[str]]) -> str:
    """What the shell reads, for example by `eval "$(tpc completion bash)"`.

    words: what may stand where the parser has no choices, by metavar.
    """
    commands = list(_commands(parser, words))
    if shell == "fish":
        return "\n".join(_fish(parser.prog, commands)) + "\n"
    head = [f"#compdef {parser.prog}", "autoload -U +X bashcompinit && bashcompinit"] if shell == "zsh" else []
    return "\n".join([*head, *_bash(parser.prog, commands)]) + "\n"


def _commands(parser: argparse.ArgumentParser, known: Mapping[str, Iterable[str]]) -> Iterator[_Command]:
    (choices,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    helps = {a.dest: a.help or "" for a in choices._choices_actions}
    for name, sub in choices.choices.items():
        options: list[_Option] = []
        words: tuple[str, ...] = ()
        files = False
        for action in sub._actions:
            values = tuple(map(str, action.choices or known.get(str(action.metavar), ())))
            takes_file = "FILE" in str(action.metavar)
            if action.option_strings:
                takes = None if action.nargs == 0 else values
                options.append(_Option(tuple(action.option_strings), action.help or "", takes, takes_file))
            else:
                words, files = values, takes_file
        yield _Command(name, helps.get(name, ""), tuple(options), words, files)


def _bash(prog: str, commands: list[_Command]) -> Iterator[str]:
    def reply(words: tuple[str, ...], files: bool) -> str:
        made = f'COMPREPLY=($(compgen -W {shlex.quote(" ".join(words))} -- "$cur"))'
        return 'COMPREPLY=($(compgen -f -- "$cur"))' if files else made

    names = tuple(c.name for c in commands)
    yield f"_{prog}() {{"
    yield '    local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" command="${COMP_WORDS[1]}"'
    yield f'    if [ "$COMP_CWORD" -eq 1 ]; then {reply(names, False)}; return; fi'
    yield '    case "$command $prev" in'
    for c in commands:
        for option in (o for o in c.options if o.words is not None):
            cases = " | ".join(f'"{c.name} {flag}"' for flag in option.flags)
            yield f"        {cases}) {reply(option.words or (), option.files)}; return ;;"
    yield "    esac"
    yield '    case "$command" in'
    for c in commands:
        flags = tuple(flag for o in c.options for flag in o.flags)
        yield f'        {c.name}) case "$cur" in -*) {reply(flags, False)} ;; *) {reply(c.words, c.files)} ;; esac ;;'
    yield "    esac"
    yield "}"
    yield f"complete -o filenames -F _{prog} {prog}"


def _fish(prog: str, commands: list[_Command]) -> Iterator[str]:
    def line(*parts: str) -> str:
        return " ".join((f"complete -c {prog}", *parts))

    yield line("-f")
    for c in commands:
        yield line("-n __fish_use_subcommand", f"-a {c.name}", f"-d {shlex.quote(c.help)}")
        seen = f"-n {shlex.quote(f'__fish_seen_subcommand_from {c.name}')}"
        if c.files:
            yield line(seen, "-F")
        if c.words:
            yield line(seen, f"-a {shlex.quote(' '.join(c.words))}")
        for option in c.options:
            names = [f"-l {f[2:]}" if f.startswith("--") else f"-s {f[1:]}" for f in option.flags]
            if option.words is not None:
                names.append(f"-x -a {shlex.quote(' '.join(option.words))}" if option.words else "-r")
            if option.files:
                names.append("-F")
            yield line(seen, *names, f"-d {shlex.quote(option.help)}")
