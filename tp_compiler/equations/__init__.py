"""The infinite-width limit of a program as equations, in bra-ket notation; symbolic, never evaluated here."""

from __future__ import annotations

from tp_compiler.equations.derive import derive as derive
from tp_compiler.equations.formulas import Gaussian as Gaussian
from tp_compiler.equations.system import Equation as Equation
from tp_compiler.equations.system import System as System
