"""tpc: a compiler for Tensor Programs.

A program in NEXORT (Tensor Programs IVb, arXiv 2308.01814, in bra-ket notation) has two readings: a network of finite
width, and its infinite-width limit. `limit` computes the second, `simulate` the first, `verify` compares them.
"""

from tp_compiler._version import __version__ as __version__
from tp_compiler.api import check as check
from tp_compiler.api import compile as compile
from tp_compiler.api import derive as derive
from tp_compiler.api import equations as equations
from tp_compiler.api import expand as expand
from tp_compiler.api import explain as explain
from tp_compiler.api import format as format
from tp_compiler.api import html_report as html_report
from tp_compiler.api import kernel as kernel
from tp_compiler.api import limit as limit
from tp_compiler.api import load as load
from tp_compiler.api import merge as merge
from tp_compiler.api import parse as parse
from tp_compiler.api import scale as scale
from tp_compiler.api import simulate as simulate
from tp_compiler.api import verify as verify
from tp_compiler.diagnostics import Diagnostic as Diagnostic
from tp_compiler.diagnostics import ProgramError as ProgramError
from tp_compiler.diagnostics import Source as Source


def load_ipython_extension(shell: object) -> None:
    """`%load_ext tp_compiler` in a notebook: the cell magic `%%nexort`."""
    from typing import Any, cast

    from tp_compiler.notebook import register

    register(cast(Any, shell))
