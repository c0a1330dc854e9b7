"""A program, and the mistakes in one, as text, HTML and LaTeX."""

from __future__ import annotations

from collections.abc import Iterator

from tp_compiler.diagnostics import ProgramError
from tp_compiler.ir.program import Output, Program
from tp_compiler.report import blocks
from tp_compiler.report.blocks import Block, Heading, Lines, Verbatim


def program_text(program: Program) -> str:
    """What a program has: axes, widths, outputs, and its text."""
    return blocks.text(_program(program))


def program_html(program: Program) -> str:
    return blocks.html(_program(program))


def program_latex(program: Program) -> str:
    return blocks.tex(_program(program))


def _program(program: Program) -> Iterator[Block]:
    yield Heading(f"{program.source.name}", main=True)
    lists = {
        "axes": [f"{axis.name} : {axis.size}" for axis in program.axes],
        "widths": [f"{width.name} = {width.ratio} n" for width in program.widths if width.name != "n"],
        "outputs": [_output(o) for o in program.outputs],
    }
    yield Lines([f"{what}: {', '.join(names)}" for what, names in lists.items() if names])
    yield Lines([f"trained for {program.loop.steps} steps"] if program.loop is not None else [])
    yield Lines(("",))
    yield Verbatim(program.source.text.strip("\n"))


def _output(output: Output) -> str:
    indices = ", ".join(index.name for index in output.indices)
    return f"{output.name}[{indices}]" if indices else output.name


def error_text(error: ProgramError) -> str:
    """Every mistake with its line and carets."""
    return blocks.text(_error(error))


def error_html(error: ProgramError) -> str:
    return blocks.html(_error(error))


def error_latex(error: ProgramError) -> str:
    return blocks.tex(_error(error))


def _error(error: ProgramError) -> Iterator[Block]:
    yield Verbatim(str(error))
