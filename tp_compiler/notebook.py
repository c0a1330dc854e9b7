"""`%load_ext tp_compiler`: the cell magic `%%nexort`, whose programs read variables of the notebook."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Iterator
from functools import partial, update_wrapper
from typing import Any

from IPython.core.error import UsageError as CellUsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display

from tp_compiler import api, arguments
from tp_compiler.frontend.syntax import DataDecl
from tp_compiler.ir.model import Compiled
from tp_compiler.signatures import LimitOptions, overlaid, seed_at


def register(shell: Any) -> None:
    """Makes `%%nexort` known to the notebook."""
    magic = update_wrapper(partial(nexort, shell), nexort)
    magic.__doc__ = f"{nexort.__doc__}\n\n{arguments.cell().format_help()}"  # `%%nexort?`
    shell.register_magic_function(magic, "cell", "nexort")


def nexort(shell: InteractiveShell, line: str, cell: str) -> Any:
    """Compiles the cell and computes what its first line asks for; the last result is the value of the cell.

    Data without a right side are the variables of the same name; `--data` and `--set` name others, or expressions.
    """
    try:
        args = arguments.cell().parse_args(shlex.split(line))
        if args.name is not None and not args.name.isidentifier():
            raise ValueError(f"{args.name!r} cannot be the name of a variable")
        wanted = dict(map(arguments.named, args.data)), dict(map(arguments.named, args.set))
    except (arguments.UsageError, ValueError) as error:
        raise CellUsageError(f"%%nexort: {error}") from None
    data, settings = ({name: _value(shell, text) for name, text in pairs.items()} for pairs in wanted)
    program = api.compile(cell, settings=settings, data=_open_data(shell, cell) | data)
    results = dict(_results(program, args))
    if args.name:
        shell.user_ns |= {args.name: program, **{f"{args.name}_{what}": result for what, result in results.items()}}
    shown = [piece for result in results.values() for piece in (result, *_pictures(result, program, args))]
    show: Any = display
    for piece in shown[:-1]:
        show(piece)
    return shown[-1] if shown else None if args.name else program


def _value(shell: InteractiveShell, text: str) -> Any:
    """An expression in the notebook's variables."""
    evaluate: Any = shell.ev
    try:
        return evaluate(text)
    except Exception as error:
        raise CellUsageError(f"%%nexort: {text}: {type(error).__name__}: {error}") from None


def _open_data(shell: InteractiveShell, cell: str) -> dict[str, Any]:
    """Variables for the data that the program leaves to its caller, where there are any."""
    names = [s.target.ident for s in api.parse(cell).statements if isinstance(s, DataDecl) and s.source is None]
    return {name: shell.user_ns[name] for name in names if name in shell.user_ns}


def _results(program: Compiled, args: Namespace) -> Iterator[tuple[str, Any]]:
    options = {key: getattr(args, key) for key in LimitOptions.__annotations__ if hasattr(args, key) and key != "width"}
    options["only"] = [name for text in args.only for name in text.split(",")] or None
    if args.equations:
        yield "equations", api.equations(program)
    if args.limit or (args.plot and not (args.equations or args.simulate or args.verify or args.scale)):
        yield "limit", api.limit(program, **options, width=args.width)
    if args.simulate:
        yield "simulate", api.simulate(program, args.simulate, seeds=args.seeds, seed=args.seed, only=options["only"])
    if args.verify:
        known = {"seeds": args.seeds, "predicted": args.predicted}
        yield "verify", api.verify(program, widths=args.verify, **known, **options)
    if args.scale:
        yield "scale", api.scale(program)


def _pictures(result: Any, program: Compiled, args: Namespace) -> list[Any]:
    """The picture of a result, if it is asked for; networks are drawn over a limit."""
    if not args.plot:
        return []
    if not hasattr(result, "coordinates"):
        drawn = result.graph() if hasattr(result, "graph") else result
        return [drawn.plot(theme=args.theme)]
    drawn = overlaid(args.networks or (), args.width, args.seeds) if result.command == "limit" else []
    only = list(result.outputs)
    networks = [api.simulate(program, n, seeds=many, seed=seed_at(args.seed, n), only=only) for n, many in drawn]
    width = args.width if result.command == "limit" else None
    return [result.plot(networks=networks, x=args.x, theme=args.theme, width=width)]
