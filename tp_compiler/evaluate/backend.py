"""The door to array libraries: which one a run computes with, on which device and in which precision.

The rules of the sampler are written with NumPy's functions. Arrays of another library answer to them (`torch_arrays.py`), so
that a rule is written once. Points come from SciPy on every backend: digits agree to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tp_compiler.diagnostics import Diagnostic, ProgramError
from tp_compiler.evaluate.array_types import Array, Mask, Whole

Values = TypeVar("Values", bound=NDArray[Any])

BACKENDS = ("numpy", "torch")
PRECISIONS = ("float64", "float32")


@dataclass(frozen=True)
class ArrayBackend:
    """`array` brings numbers onto the device; `host` brings them back."""

    name: str = "numpy"
    device: str = "cpu"
    dtype: str = "float64"

    def __str__(self) -> str:
        """As results name it: `numpy`, or `torch on cuda, float32`."""
        precision = "" if self.dtype == "float64" else f", {self.dtype}"
        return self.name if self.name == "numpy" else f"{self.name} on {self.device}{precision}"

    @property
    def single(self) -> bool:
        """Whether particles have single precision."""
        return self.dtype == "float32"

    def load(self) -> None:
        """Loads the library, before a run limits its threads (blas.py)."""
        if self.name == "torch":
            import tp_compiler.evaluate.torch_arrays  # noqa: F401

    def array(self, values: Array) -> Array:
        """Particles or data of this backend; double numbers get its precision."""
        if self.name == "numpy" or not isinstance(values, np.ndarray):
            return values
        import torch

        from tp_compiler.evaluate.torch_arrays import TorchArray

        kind = getattr(torch, self.dtype) if values.dtype == np.float64 else None
        tensor = torch.tensor(np.ascontiguousarray(values), dtype=kind, device=self.device)
        return TorchArray(tensor)  # type: ignore[return-value]


def host(values: Array | Mask | Whole) -> Array:
    """Numbers of any backend as an array of NumPy in double precision."""
    if not isinstance(values, np.ndarray | float):
        values = values.numpy() if hasattr(values, "tensor") else values
    return np.asarray(values, dtype=np.float64)


def contiguous(values: Values) -> Values:
    """The same numbers, laid out in the order of their indices."""
    own: Any = values
    found: Any = own.contiguous() if hasattr(own, "tensor") else np.ascontiguousarray(own)
    return found


def compact(values: Values) -> Values:
    """The numbers of a matrix without gaps, laid out by rows or by columns as they are: what a product makes of them depends on it."""
    own: Any = values
    one, other = own.tensor.stride() if hasattr(own, "tensor") else own.strides
    found: Any = contiguous(own.T).T if one < other else contiguous(own)
    return found


def detached(values: Values) -> Values:
    """The same numbers, as constants to differentiation."""
    own: Any = values
    found: Any = own.detached() if hasattr(own, "tensor") else own
    return found


NUMPY = ArrayBackend()


def backend(name: str = "numpy", device: str | None = None, dtype: str = "float64") -> ArrayBackend:
    """The backend that a caller chose. Raises ProgramError NX432 for one that does not exist here."""

    def wrong(message: str, remedy: str) -> ProgramError:
        return ProgramError([Diagnostic("NX432", message, None, remedy)])

    if name not in BACKENDS:
        raise wrong(f"backend must be one of {', '.join(BACKENDS)}; found {name}", "change the option")
    if dtype not in PRECISIONS:
        raise wrong(f"dtype must be one of {', '.join(PRECISIONS)}; found {dtype}", "change the option")
    if name == "numpy":
        if device not in (None, "cpu") or dtype != "float64":
            given = f"device {device}" if device not in (None, "cpu") else dtype
            raise wrong(
                f"the backend numpy computes on the CPU in float64, not with {given}", "choose the backend torch"
            )
        return NUMPY
    if find_spec("torch") is None:
        raise wrong("the backend torch needs PyTorch", "pip install 'tp_compiler[torch]'")
    import torch

    found = ArrayBackend(name, device or "cpu", dtype)
    try:
        torch.zeros(1, dtype=getattr(torch, dtype), device=found.device).cpu()
    except (RuntimeError, AssertionError, TypeError) as problem:
        why = str(problem).strip().splitlines()[0].split(". ")[0]
        raise wrong(f"the device `{found.device}` is not available: {why}", "choose the device cpu") from None
    found.load()
    return found
