"""A sweep as one compiled loop (numba, the optional extra `fast`): every entry is read once and written once.

The loop is written out from the sweep's instructions. Only functions that IEEE arithmetic rounds exactly are taken, in
the order of the instructions and without fast-math, so that every digit agrees with `sweep.run`: the extra changes the
time and nothing else. Loading numba and compiling take a second or two, so that it is only done for long runs, and once in a
process for equal loops.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np

from tp_compiler.evaluate.sampling.entry_blocks import Entries
from tp_compiler.evaluate.sampling.sweep import Register, StepNumber, Sweep
from tp_compiler.ir import nodes as ir

#: Entries times steps of one replicate from which compiling pays: it saves two nanoseconds for each, in every replicate.
WORTHWHILE = 2**25

#: Instructions as expressions, NaN handled as NumPy does.
EXPRESSIONS: dict[str, str] = {
    "copy": "{0}",
    "add": "{0} + {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "square": "{0} * {0}",
    "sqrt": "np.sqrt({0})",
    "abs": "abs({0})",
    "max": "({0} if {0} >= {1} or {0} != {0} else {1})",
    "min": "({0} if {0} <= {1} or {0} != {0} else {1})",
    "where": "({1} if {0} > 0 else {2})",
    "sign": "({0} if {0} != {0} else one if {0} > 0 else -one if {0} < 0 else zero)",
    "step": "({0} if {0} != {0} else one if {0} > 0 else zero)",
    "relu": "({0} if {0} >= zero or {0} != {0} else zero)",
}

Kernel = Callable[..., None]
#: The loops that this process has compiled, by their source.
_KERNELS: dict[str, Kernel] = {}
_lock = Lock()


class Fused:
    """The compiled loop of one sweep; made once for all replicates."""

    def __init__(self, sweep: Sweep):
        self.arrays = [r for r, held in enumerate(sweep.registers) if _is_array(held, r, sweep)]
        self.numbers = [r for r, held in enumerate(sweep.registers) if isinstance(held, StepNumber)]
        self.source = _source(sweep, self.arrays, self.numbers)

    @property
    def ready(self) -> bool:
        """Whether it is compiled already: then it pays however few the entries."""
        return self.source in _KERNELS

    def __call__(self, registers: list[Entries]) -> None:
        """The instructions on the registers of one tile, as `sweep.run`."""
        kernel = self.kernel()
        dtype = registers[self.arrays[0]].dtype.type
        arrays = [registers[r].reshape(-1) for r in self.arrays]
        kernel(dtype(0), dtype(1), *arrays, *(registers[r] for r in self.numbers))

    def kernel(self) -> Kernel:
        if self.ready:
            return _KERNELS[self.source]
        import numba

        with _lock:
            if not self.ready:
                scope: dict[str, Any] = {"np": np}
                exec(self.source, scope)  # written from instructions; no text of a program is in it
                _KERNELS[self.source] = numba.njit(scope["kernel"], nogil=True, error_model="numpy")
        return _KERNELS[self.source]


def fused(sweep: Sweep) -> Fused | None:
    """The compiled form of a sweep, if it has one."""
    kets = any(isinstance(held, ir.Node) and r not in sweep.gradients for r, held in enumerate(sweep.registers))
    return None if kets or any(i.fn not in EXPRESSIONS for i in sweep.instructions) else Fused(sweep)


def available() -> bool:
    from importlib.util import find_spec

    return find_spec("numba") is not None


def _is_array(held: Register, register: int, sweep: Sweep) -> bool:
    return isinstance(held, ir.State) or register in sweep.gradients


def _source(sweep: Sweep, arrays: list[int], numbers: list[int]) -> str:
    """def kernel(zero, one, arrays, numbers): registers are locals x0, x1, ...; states are stored at the end."""
    names = [f"a{r}" for r in arrays] + [f"x{r}" for r in numbers]
    lines = [f"def kernel(zero, one, {', '.join(names)}):", f"    for j in range(a{arrays[0]}.size):"]
    lines += [f"        x{r} = a{r}[j]" for r in arrays]
    for i in sweep.instructions:
        lines.append(f"        x{i.target} = " + EXPRESSIONS[i.fn].format(*(f"x{r}" for r in i.sources)))
    written = {i.target for i in sweep.instructions}
    lines += [f"        a{r}[j] = x{r}" for r in arrays if r in written and r not in sweep.gradients]
    return "\n".join(lines) + "\n"
