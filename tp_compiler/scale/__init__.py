"""Width exponents: the class of an abcd-parametrization, and the values that a raw implementation needs.

Its names are loaded when they are asked for: most programs train nothing, and have no class.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tp_compiler.scale.abcd import Layer as Layer
    from tp_compiler.scale.abcd import Sizes as Sizes
    from tp_compiler.scale.abcd import equivalent as equivalent
    from tp_compiler.scale.abcd import faithful as faithful
    from tp_compiler.scale.abcd import normalised as normalised
    from tp_compiler.scale.abcd import sizes as sizes
    from tp_compiler.scale.indicators import Indicators as Indicators
    from tp_compiler.scale.indicators import indicators as indicators
    from tp_compiler.scale.optimizers import OPTIMIZERS as OPTIMIZERS
    from tp_compiler.scale.optimizers import ParameterKind as ParameterKind
    from tp_compiler.scale.optimizers import kfac as kfac
    from tp_compiler.scale.optimizers import shampoo as shampoo
    from tp_compiler.scale.points import Point as Point
    from tp_compiler.scale.raw import Raw as Raw
    from tp_compiler.scale.raw import classify_raw as classify_raw
    from tp_compiler.scale.raw import raw as raw
    from tp_compiler.scale.raw import raw_sizes as raw_sizes
    from tp_compiler.scale.verdict import Classification as Classification
    from tp_compiler.scale.verdict import Regime as Regime
    from tp_compiler.scale.verdict import classify as classify

_HOMES = {
    "abcd": ("Layer", "Sizes", "equivalent", "faithful", "normalised", "sizes"),
    "indicators": ("Indicators", "indicators"),
    "optimizers": ("OPTIMIZERS", "ParameterKind", "kfac", "shampoo"),
    "points": ("Point",),
    "raw": ("Raw", "classify_raw", "raw", "raw_sizes"),
    "verdict": ("Classification", "Regime", "classify"),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
