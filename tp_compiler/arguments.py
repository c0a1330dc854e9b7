"""The command line's grammar: commands, options and the checks that need no program. Imports nothing heavy."""

from __future__ import annotations

import argparse
import math
import re
import unicodedata
from collections.abc import Callable, Collection
from difflib import get_close_matches
from typing import Any, NoReturn, TypeAlias, TypeVar

from tp_compiler._version import __version__
from tp_compiler.pages import FORMATS
from tp_compiler.signatures import SIZE, memory_size

STARTERS = ("mlp", "resnet", "transformer", "rnn", "gpt", "vit", "cnn", "moe", "optimizer")
SHELLS = ("bash", "zsh", "fish")
PLOT_FORMATS = (".svg", ".pdf", ".png")
THEMES = ("light", "dark")
#: The words of `--alignment`, beside measured=FILE.
ALIGNMENTS = ("full", "none", "limit")
#: The most networks that are drawn over a limit of one width: each is a row of dots.
MOST_NETWORKS = 10_000
_EXIT_CODES = (
    "exit codes: 0 success; 1 the program has errors, or verify, coord or fmt --check failed; 2 usage error; "
    "3 part of the computation could not be completed; 130 interrupted; 143 terminated"
)
_FILE_HELP = "a .nexort program, or - for standard input"

T = TypeVar("T")


class UsageError(Exception):
    """A bad option value that only shows once the program is known; exit code 2."""


def _checked(parse: Callable[[str], T], holds: Callable[[T], bool], what: str) -> Callable[[str], T]:
    """An argparse type: `parse` the text and check `holds`; if either fails, say what was expected."""

    def convert(text: str) -> T:
        try:
            value = parse(text)
        except (ValueError, OverflowError):
            value = None
        if value is None or not holds(value):
            raise argparse.ArgumentTypeError(f"expected {what}, got {text!r}")
        return value

    return convert


def _power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def _is_alignment(text: str) -> bool:
    word, _, file = text.partition("=")
    return text in ALIGNMENTS or (word == "measured" and bool(file))


def named(text: str) -> tuple[str, str]:
    """NAME=ANYTHING as two texts."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise ValueError(f"expected NAME=EXPRESSION, got {text!r}")
    return name.strip(), value


def _setting(text: str) -> tuple[str, float]:
    name, number = named(text)
    return unicodedata.normalize("NFC", name), float(number)


def _widths(text: str) -> tuple[int, ...]:
    return tuple(sorted({int(part) for part in text.split(",")}))


def _factory(text: str) -> tuple[str, str]:
    module, _, function = text.partition(":")
    return module, function


def _range(text: str) -> tuple[int, int]:
    begin, _, end = text.partition(":")
    return int(begin), int(end)


replicate_range = _checked(_range, lambda r: 0 <= r[0] < r[1], "a range such as 0:4, whose end is not included")
samples = _checked(int, _power_of_two, "a power of two")
replicates = _checked(int, lambda r: r >= 2, "an integer of at least 2 (standard errors come from replicates)")
count = _checked(int, lambda k: k >= 1, "an integer of at least 1")
seeds = _checked(int, lambda k: k >= 2, "an integer of at least 2 (standard errors come from seeds)")
seed = _checked(int, lambda k: k >= 0, "an integer of at least 0")
tolerance = _checked(float, lambda x: math.isfinite(x) and x >= 0, "a number of at least 0")
fraction = _checked(float, lambda x: 0 < x < math.inf, "a positive fraction such as 0.01")
seconds = _checked(float, lambda x: math.isfinite(x) and x > 0, "a positive number of seconds")
memory = _checked(memory_size, lambda b: b > 0, SIZE)
setting = _checked(_setting, lambda pair: math.isfinite(pair[1]), "NAME=NUMBER")
data = _checked(named, lambda pair: bool(pair[1]), "NAME=FILE")
widths = _checked(_widths, lambda w: w[0] >= 1, "widths such as 256,512,1024")
several = _checked(_widths, lambda w: len(w) > 2 and w[0] >= 2, "three or more widths such as 64,128,256")
pair = _checked(_widths, lambda w: len(w) == 2 and w[0] >= 2, "two widths such as 64,128")
alignment = _checked(str, _is_alignment, f"{', '.join(ALIGNMENTS)} or measured=FILE")
factory = _checked(_factory, lambda f: all(f), "package.module:function")
plot_file = _checked(str, lambda p: p.lower().endswith(PLOT_FORMATS), f"a file ending in {', '.join(PLOT_FORMATS)}")
html_file = _checked(str, lambda p: p.lower().endswith((".html", ".htm")), "a file ending in .html")
save_file = _checked(str, lambda p: p.lower().endswith((".npz", ".nc")), "a file ending in .npz or .nc")
kernel_file = _checked(str, lambda p: p.lower().endswith((".npz", ".nc", ".npy")), "a file ending in .npz, .nc or .npy")


def _near(message: str, options: Collection[str]) -> str:
    """What is meant by an unknown option, or by a word that is none of those to choose from; or the empty string."""
    choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
    unknown = re.match(r"unrecognized arguments: (\S+)", message)
    found = choice or unknown
    if found is None:
        return ""
    known = re.findall(r"[^\s',]+", choice[2]) if choice else options
    near = get_close_matches(found[1].partition("=")[0], known, n=1, cutoff=0.6 if choice else 0.7)
    if near:
        return f"; did you mean {near[0]}?"
    return "; lists have commas and no spaces, such as 64,128" if unknown and found[1].isdigit() else ""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line in place of the synopsis. A program in the place of a command is a frequent slip."""
        given = re.search(r"invalid choice: '([^']*\.nexort)'", message)
        said = f"a command comes first, such as: tpc limit {given[1]}" if given else message
        near = "" if given else _near(message, self._option_string_actions)
        self.exit(2, f"{self.prog}: error: {said}{near}\n  `{self.prog} --help` lists what there is\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Arguments that a command does not know are an error of that command."""
        found, rest = self.parse_known_args(args, namespace)
        if rest:
            commands = next((a.choices for a in self._actions if isinstance(a, argparse._SubParsersAction)), {})
            owner = commands.get(str(getattr(found, "command", "")), self)
            owner.error(f"unrecognized arguments: {' '.join(rest)}")
        return found


def parser() -> argparse.ArgumentParser:
    """The parser of `tpc`; the chosen command's name is in `command`."""
    top = _Parser(
        prog="tpc",
        description="A compiler for Tensor Programs: from a .nexort program to its infinite-width limit.",
        epilog=_EXIT_CODES,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"tpc {__version__}")
    top.add_argument("--debug", action="store_true", help="show the Python traceback of internal errors")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for define in (
        _check,
        _fmt,
        _show,
        _expand,
        _limit,
        _merge,
        _equations,
        _simulate,
        _verify,
        _scale,
        _trace,
        _explain,
        _coord,
        _new,
        _completion,
        _lsp,
    ):
        define(commands)
    return top


Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


def _command(commands: Commands, name: str, text: str, *, file: str | None = "FILE") -> argparse.ArgumentParser:
    """A command with the options that all share; `file` is FILE, FILES or None."""
    sub = commands.add_parser(name, help=text, description=text, allow_abbrev=False, epilog=_EXIT_CODES)
    if file == "FILE":
        sub.add_argument("file", metavar="FILE", help=_FILE_HELP)
    elif file == "FILES":
        sub.add_argument("files", metavar="FILE", nargs="+", help=_FILE_HELP)
    sub.add_argument("--quiet", action="store_true", help="print no progress bar and no notes")
    # SUPPRESS, so that `tpc --debug limit` is not undone by the command's own default.
    sub.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show the Python traceback of internal errors"
    )
    return sub


def _settings(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--set",
        dest="settings",
        metavar="NAME=VALUE",
        type=setting,
        action="append",
        default=[],
        help="set an axis size or a top-level scalar; can be repeated",
    )
    sub.add_argument(
        "--data",
        metavar="NAME=FILE",
        type=data,
        action="append",
        default=[],
        help="read data from a .npy, .npz or .csv file (x=points.npz:train chooses an array); can be repeated",
    )
    sub.add_argument(
        "--allow-outside", action="store_true", help="allow imports and data from outside the program's folder"
    )


class _CellParser(argparse.ArgumentParser):
    """Raises UsageError where a command would exit."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message + _near(message, self._option_string_actions))

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise UsageError(message or "")


def cell() -> argparse.ArgumentParser:
    """The options of the notebook's `%%nexort`. Values of `--set` and `--data` are names or expressions of Python."""
    top = _CellParser(prog="%%nexort", allow_abbrev=False, description="A program, and what is computed of it.")
    top.add_argument("name", nargs="?", metavar="NAME", help="the compiled program becomes this variable")
    top.add_argument("--limit", action="store_true", help="compute the limit: NAME_limit")
    top.add_argument("--equations", action="store_true", help="derive the equations of the limit: NAME_equations")
    top.add_argument("--simulate", type=count, metavar="N", help="simulate networks of this width: NAME_simulate")
    top.add_argument(
        "--verify", type=widths, metavar="N,...", help="compare with networks of these widths: NAME_verify"
    )
    top.add_argument("--scale", action="store_true", help="find the width exponents: NAME_scale")
    top.add_argument("--seeds", type=seeds, default=8, metavar="S", help="number of networks per width (default 8)")
    for option, what in (("set", "an axis size or a top-level scalar"), ("data", "an array")):
        top.add_argument(
            f"--{option}", metavar="NAME=EXPRESSION", action="append", default=[], help=f"{what}, from Python"
        )
    top.add_argument("--plot", action="store_true", help="also draw each result")
    _width(top)
    _predicted(top)
    _themes(top)
    _against(top)
    _evaluation(top)
    _workplace(top)
    return top


def _check(commands: Commands) -> None:
    sub = _command(commands, "check", "parse and check; print every error and warning", file="FILES")
    _settings(sub)
    sub.add_argument("--json", action="store_true", help="print diagnostics as JSON, for editors")


def _fmt(commands: Commands) -> None:
    sub = _command(commands, "fmt", "rewrite files in the canonical layout", file="FILES")
    sub.add_argument("--check", action="store_true", help="do not write files; exit with 1 if a file is not formatted")
    style = sub.add_mutually_exclusive_group()
    style.add_argument("--unicode", dest="style", action="store_const", const="unicode", help="write Unicode: |x⟩, Wᵀ")
    style.add_argument("--ascii", dest="style", action="store_const", const="ascii", help="write ASCII: |x>, W^T")
    sub.set_defaults(style="keep")


def _show(commands: Commands) -> None:
    sub = _command(commands, "show", "print the program after a given stage of the compiler")
    _settings(sub)
    sub.add_argument("--stage", choices=("ast", "ir", "grad", "limit", "plan"), required=True, help="the stage to show")


def _expand(commands: Commands) -> None:
    _settings(_command(commands, "expand", "print the program with gradients and training written out"))


def _equations(commands: Commands) -> None:
    sub = _command(commands, "equations", "print the equations of the limit")
    _settings(sub)
    style = sub.add_mutually_exclusive_group()
    style.add_argument("--latex", action="store_true", help="print LaTeX")
    style.add_argument("--unicode", action="store_true", help="print Unicode text")
    style.add_argument("--dot", action="store_true", help="print the graph of the quantities, for Graphviz")
    _picture(sub, "plot the graph of the quantities")


def _scale(commands: Commands) -> None:
    sub = _command(
        commands, "scale", "print width exponents for a raw implementation, and the class of the parametrization"
    )
    _settings(sub)
    sub.add_argument(
        "--optimizer", metavar="NAME", help="use this optimizer for every parameter, instead of the program's"
    )
    sub.add_argument(
        "--alignment",
        type=alignment,
        metavar="full|none|limit|measured=FILE",
        help="find the largest stable learning rates for parameters that are so well aligned with what they multiply",
    )
    style = sub.add_mutually_exclusive_group()
    style.add_argument("--json", action="store_true", help="print JSON")
    style.add_argument("--emit", choices=("torch",), help="print a Python module with parameter groups for torch.optim")
    sub.add_argument("--equivalent", action="store_true", help="also print equivalent tables with multipliers")
    _picture(sub, "plot the classes of neighbouring parametrizations; with --alignment, learning rates against it")


def _limit(commands: Commands) -> None:
    sub = _command(commands, "limit", "compute the infinite-width limit of every output")
    _settings(sub)
    _evaluation(sub)
    _workplace(sub)
    _results(sub, streamed=True)
    _width(sub)
    sub.add_argument(
        "--within",
        type=fraction,
        metavar="X",
        help="with --width: say how wide networks must be to be this close to the limit, such as 0.01 for 1%%",
    )
    sub.add_argument(
        "--replicate-range",
        type=replicate_range,
        metavar="A:B",
        help="compute only the replicates A to B - 1, with --samples, into the folder of --checkpoint; then: tpc merge",
    )
    _page(sub)


def _merge(commands: Commands) -> None:
    text = "combine the replicates that several processes have stored in a folder into the result of `tpc limit`"
    sub = _command(commands, "merge", text, file=None)
    sub.add_argument("folder", metavar="DIR", help="the folder of --checkpoint")
    sub.add_argument("-v", "--verbose", action="store_true", help="say why each method was chosen")
    _results(sub)
    _page(sub)


def _page(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--html", type=html_file, metavar="FILE", help="write a page with program, equations, numbers and pictures"
    )


def _simulate(commands: Commands) -> None:
    sub = _command(commands, "simulate", "run the program at finite width")
    _settings(sub)
    sub.add_argument("--width", type=count, required=True, metavar="N", help="the width n")
    sub.add_argument(
        "--seeds", type=count, default=8, metavar="S", help="number of networks to average over (default 8)"
    )
    sub.add_argument("--seed", type=seed, default=0, metavar="S", help="first random seed (default 0)")
    sub.add_argument(
        "--dtype", choices=("float32", "float64"), default="float64", help="floating-point precision (default float64)"
    )
    _only(sub)
    sub.add_argument("--max-memory", type=memory, metavar="BYTES", help="memory limit, such as 500M or 4G")
    sub.add_argument(
        "--max-time",
        type=seconds,
        metavar="SECONDS",
        help="time limit; the networks that are done are averaged, two at least",
    )
    _workplace(sub)
    _results(sub)


def _verify(commands: Commands) -> None:
    sub = _command(commands, "verify", "compare the limit with simulations at increasing widths")
    _settings(sub)
    default = (256, 512, 1024)
    sub.add_argument("--widths", type=widths, default=default, metavar="N,...", help="widths (default 256,512,1024)")
    sub.add_argument("--seeds", type=seeds, default=16, metavar="S", help="number of networks per width (default 16)")
    _predicted(sub)
    _evaluation(sub)
    _workplace(sub)
    sub.add_argument("--json", action="store_true", help="print JSON")
    _picture(sub, "plot the deviation against the width")


def _evaluation(sub: argparse.ArgumentParser) -> None:
    group = sub.add_argument_group("evaluation of the limit")
    group.add_argument(
        "--samples",
        type=samples,
        metavar="M",
        help="number of particles, a power of two (default: doubled until the tolerance is met)",
    )
    group.add_argument(
        "--max-samples",
        type=samples,
        metavar="M",
        help="maximum number of particles (default 65536; 16384 with clt draws)",
    )
    group.add_argument(
        "--replicates", type=replicates, default=8, metavar="R", help="number of randomisations (default 8)"
    )
    group.add_argument("--seed", type=seed, default=0, metavar="S", help="random seed (default 0)")
    methods = ("auto", "exact", "quadrature", "qmc", "mc")
    group.add_argument("--method", choices=methods, default="auto", help="evaluation method (default auto)")
    group.add_argument(
        "--backend", choices=("numpy", "torch"), default="numpy", help="array library of the sampler (default numpy)"
    )
    group.add_argument("--device", metavar="NAME", help="where torch computes: cpu (default), cuda, cuda:1, ...")
    group.add_argument(
        "--dtype",
        choices=("float64", "float32"),
        default="float64",
        help="precision of the particles (default float64)",
    )
    group.add_argument(
        "--shards",
        type=count,
        metavar="S",
        help="divide the particles of each replicate in S shards, which processes started by torchrun share",
    )
    group.add_argument("-v", "--verbose", action="store_true", help="say why each method was chosen")
    group.add_argument("--rtol", type=tolerance, metavar="X", help="relative tolerance (default 1e-3)")
    group.add_argument("--atol", type=tolerance, metavar="X", help="absolute tolerance (default 1e-3)")
    group.add_argument(
        "--f0",
        choices=("sample", "zero", "mean"),
        default="sample",
        help="initial outputs in the neural tangent limit (default sample)",
    )
    group.add_argument("--max-memory", type=memory, metavar="BYTES", help="memory limit, such as 500M or 4G")
    group.add_argument(
        "--max-time",
        type=seconds,
        metavar="SECONDS",
        help="time limit; formulas may use at most half of it",
    )
    group.add_argument(
        "--checkpoint",
        metavar="FILE|DIR",
        help="save finished replicates in this file or folder; an interrupted run resumes from it",
    )
    _only(sub)


def _workplace(sub: argparse.ArgumentParser) -> None:
    """Where the work is done: `signatures.Workplace`, but for executors, which have no name."""
    sub.add_argument("--threads", type=count, metavar="T", help="number of threads")
    where = sub.add_mutually_exclusive_group()
    where.add_argument("--workers", type=count, metavar="N", help="share the work among N processes")
    where.add_argument(
        "--cluster", metavar="ADDRESS", help="share it among the workers of a dask scheduler, such as tcp://host:8786"
    )


def _width(sub: argparse.ArgumentParser) -> None:
    """What networks of finite width do, beside the limit: predicted, and drawn."""
    sub.add_argument(
        "--width",
        type=count,
        metavar="N",
        help="also compute how networks of this width fluctuate about the limit: their bias and spread",
    )
    sub.add_argument(
        "--networks",
        type=widths,
        metavar="N,...",
        help="with --plot: draw networks of these widths, too; with --width: so many networks of that width, as dots",
    )


def _predicted(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--predicted",
        action="store_true",
        help="verify against the spread and the bias that the limit predicts at these widths: fewer networks show more",
    )


def _only(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--only", action="append", default=[], metavar="NAME,...", help="compute only these outputs")


def _results(sub: argparse.ArgumentParser, *, streamed: bool = False) -> None:
    """`streamed`: whether one output may go to a `.npy` file while it is computed."""
    style = sub.add_mutually_exclusive_group()
    style.add_argument("--format", choices=FORMATS, default="text", metavar="FORM", help=", ".join(FORMATS))
    for form in ("json", "latex"):
        style.add_argument(
            f"--{form}", dest="format", action="store_const", const=form, help=f"same as --format {form}"
        )
    _picture(sub, "plot the outputs: curves, heat maps, distributions")
    _against(sub)
    sub.add_argument("--full", action="store_true", help="show every entry of large outputs, and every step")
    sub.add_argument(
        "--save",
        type=kernel_file if streamed else save_file,
        metavar="FILE.npz|FILE.nc" + "|FILE.npy" * streamed,
        help="save everything, for numpy.load, NetCDF readers (needs xarray) and tp_compiler.load"
        + "; .npy: the values of one output, kernels block by block" * streamed,
    )


def _picture(sub: argparse.ArgumentParser, what: str) -> None:
    """`--plot` and its look, the same for every command that draws."""
    endings = ", ".join(PLOT_FORMATS)
    sub.add_argument("--plot", type=plot_file, metavar="FILE", help=f"{what} ({endings}; needs matplotlib)")
    _themes(sub)


def _themes(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--theme", choices=THEMES, default="light", help="colours of the plot (default light)")


def _against(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--x", metavar="NAME", help="with --plot: the index, or data over one, to plot against")


def _completion(commands: Commands) -> None:
    text = 'print the completion of a shell; for bash: eval "$(tpc completion bash)"'
    sub = _command(commands, "completion", text, file=None)
    sub.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def _explain(commands: Commands) -> None:
    text = "say what error codes mean, why, and what to write instead; without codes, list them"
    sub = _command(commands, "explain", text, file=None)
    sub.add_argument("codes", nargs="*", metavar="CODE", help="such as NX226, or 226")
    sub.add_argument("--json", action="store_true", help="print JSON")


def _lsp(commands: Commands) -> None:
    sub = _command(commands, "lsp", "serve editors: the language server, on standard input and output", file=None)
    sub.add_argument("--stdio", action="store_true", help="the default; editors pass it")


def _trace(commands: Commands) -> None:
    sub = _command(commands, "trace", "write the program of a PyTorch module (needs torch)", file=None)
    sub.add_argument(
        "factory",
        type=factory,
        metavar="MODULE:FACTORY",
        help="a Python function that builds the module from a width; its module is imported, which runs it",
    )
    sub.add_argument("--inputs", required=True, metavar="SHAPES", help='example inputs: "int[2,16]<50257, float[2,8]"')
    sub.add_argument("--widths", type=pair, default=(64, 128), metavar="N,N", help="two widths (default 64,128)")
    sub.add_argument("--base-width", type=count, metavar="N", help="where laws are read that do not follow the width")
    sub.add_argument("--training", action="store_true", help="trace the module in training mode")
    sub.add_argument(
        "--loss", metavar="LOSS", help='train it: "mse", "cross_entropy", or an expression of out[..] and target[..]'
    )
    sub.add_argument(
        "--optimizer", metavar="CALL", help='with --loss: the optimizer, in natural units: "AdamW(lr = 0.01)"'
    )
    sub.add_argument("--steps", type=count, metavar="N", help="with --loss: the number of updates")
    sub.add_argument(
        "--targets",
        metavar="SHAPE",
        help="with --loss: targets as inputs, or a file .npy (default: drawn for the outputs)",
    )
    sub.add_argument("-o", "--output", metavar="FILE", help="write the program to this file")


def _coord(commands: Commands) -> None:
    sub = _command(
        commands, "coord", "check that a PyTorch module is in muP, at several widths (needs torch)", file=None
    )
    sub.add_argument(
        "check",
        type=factory,
        metavar="MODULE:CHECK",
        help="a Python function that takes `widths` and returns a `coord_check`; its module is imported, which runs it",
    )
    sub.add_argument(
        "--widths", type=several, default=(64, 128, 256, 512), metavar="N,...", help="widths (default 64,128,256,512)"
    )
    sub.add_argument("--json", action="store_true", help="print JSON")
    _picture(sub, "plot root mean squares against the width")


def _new(commands: Commands) -> None:
    sub = _command(commands, "new", "print a commented starter program", file=None)
    sub.add_argument("kind", choices=STARTERS, metavar="KIND", help=", ".join(STARTERS))
    sub.add_argument("--output", metavar="FILE", help="write to a new file (existing files are never overwritten)")
