"""PyTorch tensors as arrays of NumPy: what lets the sampler run on another library and on accelerators.

The rules of the sampler are written with NumPy's functions. These call the array's own implementation (NEP 13 for ufuncs,
NEP 18 for the others), so one class runs all of them on tensors, on any device. What is NumPy's and meets a tensor,
such as a constant, becomes a tensor; a tensor becomes an array of NumPy by `TorchArray.numpy` alone, so that nothing
leaves the device unnoticed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.lib.mixins import NDArrayOperatorsMixin
from scipy import special

from tp_compiler.evaluate.array_types import Array

_NUMPY_TYPES: dict[torch.dtype, Any] = {
    torch.float64: np.float64,
    torch.float32: np.float32,
    torch.int64: np.int64,
    torch.int32: np.int32,
    torch.bool: np.bool_,
}
_TORCH_TYPES = {np.dtype(numpy): own for own, numpy in _NUMPY_TYPES.items()}


class Undifferentiated(Exception):
    """A number leaves the device, and the derivatives of what is made of it would be lost."""


class TorchArray(NDArrayOperatorsMixin):
    """A tensor with the methods of an array."""

    __slots__ = ("__weakref__", "tensor")

    def __init__(self, tensor: torch.Tensor):
        self.tensor = tensor

    # -- the protocols ------------------------------------------------------------------------------------------
    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        function = UFUNCS.get(ufunc)
        (out,) = options.pop("out", (None,))
        if function is None or method != "__call__" or options:
            raise TypeError(f"{ufunc.__name__} has no counterpart for tensors")
        result = function(*(float(x) if isinstance(x, float | np.floating) else self.like(x) for x in inputs))
        if out is None:
            return TorchArray(result)
        if not isinstance(out, TorchArray):
            raise TypeError(f"{ufunc.__name__} cannot write tensors into an array of NumPy")
        if result.requires_grad:  # what was there may be needed to differentiate
            out.tensor = result.to(out.tensor.dtype).expand(out.shape)
        else:
            out.tensor.copy_(result)
        return out

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, options: Any) -> Any:
        own = FUNCTIONS.get(function)
        if own is None:
            raise TypeError(f"{function.__name__} has no counterpart for tensors")
        try:
            return _wrapped(own(self.like, *args, **options))
        except torch.linalg.LinAlgError as problem:
            raise np.linalg.LinAlgError(str(problem)) from None

    def __array__(self, *args: Any, **options: Any) -> Array:
        raise TypeError("a tensor does not become an array of NumPy by itself")

    # -- conversions --------------------------------------------------------------------------------------------
    def numpy(self) -> Array:
        """A copy in the memory of the host."""
        self._constant()
        found: Array = self.tensor.detach().cpu().numpy()
        return found

    def _constant(self) -> None:
        """Raises Undifferentiated for numbers that are functions of variables."""
        if self.tensor.requires_grad:
            raise Undifferentiated

    def like(self, value: Any) -> torch.Tensor:
        """A value as a tensor of the same device; real numbers have the same precision."""
        if isinstance(value, TorchArray):
            return value.tensor
        given = np.asarray(value)
        kind = _TORCH_TYPES[given.dtype]
        if kind.is_floating_point and self.tensor.is_floating_point():
            kind = self.tensor.dtype
        return torch.tensor(given, dtype=kind, device=self.tensor.device)

    def __float__(self) -> float:
        self._constant()
        return float(self.tensor)

    def __int__(self) -> int:
        self._constant()
        return int(self.tensor)

    def __bool__(self) -> bool:
        return bool(self.tensor)

    def item(self) -> Any:
        self._constant()
        return self.tensor.item()

    # -- shapes -------------------------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def ndim(self) -> int:
        return self.tensor.ndim

    @property
    def size(self) -> int:
        return self.tensor.numel()

    @property
    def nbytes(self) -> int:
        return self.tensor.nbytes

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(_NUMPY_TYPES[self.tensor.dtype])

    @property
    def T(self) -> TorchArray:
        return TorchArray(self.tensor.permute(*reversed(range(self.ndim))))

    def __len__(self) -> int:
        return len(self.tensor)

    def __iter__(self) -> Iterator[TorchArray]:
        return (TorchArray(x) for x in self.tensor)

    def reshape(self, *shape: Any) -> TorchArray:
        sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int | np.integer) else shape
        return TorchArray(self.tensor.reshape(tuple(map(int, sizes))))

    def ravel(self) -> TorchArray:
        return self.reshape(-1)

    def transpose(self, *axes: int) -> TorchArray:
        return TorchArray(self.tensor.permute(*axes))

    def swapaxes(self, one: int, other: int) -> TorchArray:
        return TorchArray(self.tensor.swapaxes(one, other))

    def detached(self) -> TorchArray:
        """The same numbers, as constants to differentiation."""
        return TorchArray(self.tensor.detach())

    def contiguous(self) -> TorchArray:
        return TorchArray(self.tensor.contiguous())

    def copy(self) -> TorchArray:
        return TorchArray(self.tensor.clone(memory_format=torch.contiguous_format))

    def astype(self, kind: Any) -> TorchArray:
        wanted = _TORCH_TYPES[np.dtype(kind)]
        if wanted == torch.float64 and self.tensor.dtype == torch.float32:
            wanted = torch.float32  # a run in single precision stays in it
        return TorchArray(self.tensor.to(wanted))

    # -- entries ------------------------------------------------------------------------------------------------
    def __getitem__(self, place: Any) -> TorchArray:
        return TorchArray(self.tensor[self._place(place)])

    def __setitem__(self, place: Any, value: Any) -> None:
        given = self.like(value)
        if given.requires_grad or self.tensor.requires_grad:
            self.tensor = self.tensor.clone()
        self.tensor[self._place(place)] = given

    def _place(self, place: Any) -> Any:
        if isinstance(place, tuple):
            return tuple(map(self._place, place))
        if isinstance(place, np.integer):
            return int(place)
        return self.like(place) if isinstance(place, TorchArray | np.ndarray | list) else place

    # -- reductions ---------------------------------------------------------------------------------------------
    def sum(self, **options: Any) -> Any:
        return np.sum(self, **options)

    def mean(self, **options: Any) -> Any:
        return np.mean(self, **options)

    def max(self, **options: Any) -> Any:
        return np.max(self, **options)

    def min(self, **options: Any) -> Any:
        return np.min(self, **options)

    def all(self, **options: Any) -> Any:
        return np.all(self, **options)

    def any(self, **options: Any) -> Any:
        return np.any(self, **options)


def threads(count: int) -> int:
    """Sets the threads of an operation on the CPU; how many there were before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    return before


def _wrapped(result: Any) -> Any:
    if isinstance(result, torch.Tensor):
        return TorchArray(result)
    if isinstance(result, tuple | list) and any(isinstance(x, torch.Tensor) for x in result):
        return tuple(map(_wrapped, result))
    return result


# -- ufuncs -----------------------------------------------------------------------------------------------------
def _of_tensors(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A function that takes no Python numbers."""

    def called(*args: Any) -> torch.Tensor:
        first = next(x for x in args if isinstance(x, torch.Tensor))
        kind = first.dtype if first.is_floating_point() else torch.float64
        return function(
            *(x if isinstance(x, torch.Tensor) else torch.full((), x, dtype=kind, device=first.device) for x in args)
        )

    return called


def _step(x: torch.Tensor, at_zero: torch.Tensor) -> torch.Tensor:
    return torch.where(torch.isnan(x), x, torch.heaviside(x, at_zero.to(x.dtype)))


def _sign(x: torch.Tensor) -> torch.Tensor:
    return torch.where(torch.isnan(x), x, torch.sign(x))


def _matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    kind = torch.promote_types(a.dtype, b.dtype)
    return torch.matmul(a.to(kind), b.to(kind))


#: NumPy's and SciPy's ufuncs on tensors.
UFUNCS: dict[Any, Callable[..., torch.Tensor]] = {
    np.add: operator.add,
    np.subtract: operator.sub,
    np.multiply: operator.mul,
    np.divide: operator.truediv,
    np.power: operator.pow,
    np.negative: operator.neg,
    np.positive: operator.pos,
    np.equal: operator.eq,
    np.not_equal: operator.ne,
    np.less: operator.lt,
    np.less_equal: operator.le,
    np.greater: operator.gt,
    np.greater_equal: operator.ge,
    np.bitwise_and: operator.and_,
    np.bitwise_or: operator.or_,
    np.logical_and: torch.logical_and,
    np.logical_or: torch.logical_or,
    np.logical_not: torch.logical_not,
    np.invert: operator.invert,
    np.matmul: _matmul,
    np.absolute: torch.abs,
    np.sign: _sign,
    np.sqrt: torch.sqrt,
    np.square: torch.square,
    np.exp: torch.exp,
    np.expm1: torch.expm1,
    np.log: torch.log,
    np.log1p: torch.log1p,
    np.sin: torch.sin,
    np.cos: torch.cos,
    np.tan: torch.tan,
    np.sinh: torch.sinh,
    np.cosh: torch.cosh,
    np.tanh: torch.tanh,
    np.arctan: torch.atan,
    np.hypot: _of_tensors(torch.hypot),
    np.heaviside: _of_tensors(_step),
    np.maximum: _of_tensors(torch.maximum),
    np.minimum: _of_tensors(torch.minimum),
    np.isfinite: torch.isfinite,
    np.isnan: torch.isnan,
    np.isinf: torch.isinf,
    special.erf: torch.erf,
    special.erfc: torch.special.erfc,
    special.expit: torch.sigmoid,
    special.log_expit: torch.nn.functional.logsigmoid,
    special.ndtr: torch.special.ndtr,
    special.ndtri: torch.special.ndtri,
}


# -- other functions --------------------------------------------------------------------------------------------
Like = Callable[[Any], torch.Tensor]


def _all_axes(x: torch.Tensor, axis: Any) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(x.ndim))
    return tuple(k % x.ndim for k in (axis if isinstance(axis, tuple) else (axis,)))


def _reduction(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def reduced(like: Like, x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
        own = like(x)
        axes = _all_axes(own, axis)
        return function(own, dim=axes, keepdim=keepdims) if axes else function(own[None], dim=(0,))

    return reduced


def _mean(x: torch.Tensor, dim: tuple[int, ...], keepdim: bool = False) -> torch.Tensor:
    return torch.mean(x if x.is_floating_point() else x.to(torch.float64), dim=dim, keepdim=keepdim)


def _extreme(function: Callable[..., torch.Tensor], better: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def reduced(like: Like, x: Any, axis: Any = None, keepdims: bool = False, initial: float | None = None) -> Any:
        own = like(x)
        axes = _all_axes(own, axis)
        if initial is None:
            return function(own, dim=axes, keepdim=keepdims) if axes else own
        start = torch.full((), initial, dtype=own.dtype, device=own.device)
        if not all(own.shape[k] for k in axes):
            shape = [1 if k in axes else n for k, n in enumerate(own.shape) if keepdims or k not in axes]
            return start.expand(shape)
        return better(function(own, dim=axes, keepdim=keepdims) if axes else own, start)

    return reduced


def _product(like: Like, x: Any, axis: Any = None) -> torch.Tensor:
    own = like(x)
    return torch.prod(own) if axis is None else torch.prod(own, dim=axis)


def _truth(some: bool) -> Callable[..., torch.Tensor]:
    def reduced(like: Like, x: Any, axis: Any = None, keepdims: bool = False) -> torch.Tensor:
        own = like(x).to(torch.bool)
        function = torch.any if some else torch.all
        return function(own) if axis is None else function(own, dim=axis, keepdim=keepdims)

    return reduced


def _where(like: Like, condition: Any, one: Any, other: Any) -> torch.Tensor:
    a, b = like(one), like(other)
    own = [x.tensor.dtype for x in (one, other) if isinstance(x, TorchArray) and x.tensor.is_floating_point()]
    kind = own[0] if own else torch.promote_types(a.dtype, b.dtype)  # a condition does not know the precision
    return torch.where(like(condition).to(torch.bool), a.to(kind), b.to(kind))


def _clip(like: Like, x: Any, low: Any, high: Any) -> torch.Tensor:
    return torch.minimum(torch.maximum(like(x), like(low).to(like(x).dtype)), like(high).to(like(x).dtype))


def _filled(value: float | None) -> Callable[..., torch.Tensor]:
    def made(like: Like, x: Any, dtype: Any = None, order: str = "C", shape: Any = None) -> torch.Tensor:
        own = like(x)
        kind = own.dtype if dtype is None else _TORCH_TYPES[np.dtype(dtype)]
        size = own.shape if shape is None else shape if isinstance(shape, tuple | list) else (shape,)
        if value is None:
            return torch.empty(tuple(size), dtype=kind, device=own.device)
        return torch.full(tuple(size), value, dtype=kind, device=own.device)

    return made


def _full_like(like: Like, x: Any, value: float, dtype: Any = None, shape: Any = None) -> torch.Tensor:
    return _filled(value)(like, x, dtype, shape=shape)


def _joined(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def called(like: Like, parts: Sequence[Any], axis: int = 0) -> torch.Tensor:
        own = [like(x) for x in parts]
        kind = max((x.dtype for x in own), key=lambda k: (k.is_floating_point, k.itemsize))
        return function([x.to(kind) for x in own], dim=axis)

    return called


def _transpose(like: Like, x: Any, axes: Sequence[int] | None = None) -> torch.Tensor:
    own = like(x)
    return own.permute(*(reversed(range(own.ndim)) if axes is None else axes))


def _einsum(like: Like, form: str, *arrays: Any, optimize: Any = False) -> torch.Tensor:
    return torch.einsum(form, *(like(x) for x in arrays))


def _argsort(like: Like, x: Any, axis: int = -1, kind: str | None = None) -> torch.Tensor:
    return torch.argsort(like(x), dim=axis, stable=True)


def _partition(like: Like, x: Any, kth: Any, axis: int = -1) -> torch.Tensor:
    return torch.sort(like(x), dim=axis).values


def _median(like: Like, x: Any, axis: int) -> torch.Tensor:
    """The mean of the two middle values, as NumPy has it."""
    own = torch.sort(like(x), dim=axis).values
    size = own.shape[axis]
    return (own.select(axis, (size - 1) // 2) + own.select(axis, size // 2)) / 2


def _allclose(like: Like, a: Any, b: Any, rtol: float = 1e-5, atol: Any = 1e-8) -> bool:
    one, other = like(a), like(b)
    return bool((torch.abs(one - other) <= float(atol) + rtol * torch.abs(other)).all())


def _svd(like: Like, x: Any, full_matrices: bool = True) -> tuple[torch.Tensor, ...]:
    return tuple(torch.linalg.svd(like(x), full_matrices=full_matrices))


def _copyto(like: Like, target: TorchArray, value: Any) -> None:
    target.tensor.copy_(like(value))


def _each(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one array and options that have the same meaning for both."""
    return lambda like, x, *args, **options: function(like(x), *args, **options)


def _along(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same along an axis, the last by default."""
    return lambda like, x, axis=-1: function(like(x), dim=axis)


#: NumPy's other functions on tensors. The first argument makes tensors of values.
FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.sum: _reduction(torch.sum),
    np.mean: _reduction(_mean),
    np.max: _extreme(torch.amax, torch.maximum),
    np.min: _extreme(torch.amin, torch.minimum),
    np.prod: _product,
    np.any: _truth(True),
    np.all: _truth(False),
    np.where: _where,
    np.clip: _clip,
    np.round: _each(torch.round),
    np.zeros_like: _filled(0.0),
    np.ones_like: _filled(1.0),
    np.empty_like: _filled(None),
    np.full_like: _full_like,
    np.concatenate: _joined(torch.cat),
    np.stack: _joined(torch.stack),
    np.broadcast_to: lambda like, x, shape: torch.broadcast_to(like(x), tuple(np.atleast_1d(shape))),
    np.broadcast_arrays: lambda like, *arrays: torch.broadcast_tensors(*map(like, arrays)),
    np.shape: lambda like, x: x.shape,
    np.ndim: lambda like, x: x.ndim,
    np.size: lambda like, x: x.size,
    np.reshape: lambda like, x, shape: like(x).reshape(shape),
    np.ravel: lambda like, x: like(x).reshape(-1),
    np.squeeze: lambda like, x, axis: like(x).squeeze(axis),
    np.transpose: _transpose,
    np.swapaxes: _each(torch.swapaxes),
    np.moveaxis: _each(torch.movedim),
    np.flip: lambda like, x, axis: torch.flip(like(x), (axis,)),
    np.roll: lambda like, x, shift, axis: torch.roll(like(x), shift, axis),
    np.cumsum: _along(torch.cumsum),
    np.sort: lambda like, x, axis=-1: torch.sort(like(x), dim=axis).values,
    np.argsort: _argsort,
    np.argmax: lambda like, x, axis: torch.argmax(like(x), dim=axis),
    np.partition: _partition,
    np.median: _median,
    np.take_along_axis: lambda like, x, places, axis: torch.take_along_dim(like(x), like(places), axis),
    np.einsum: _einsum,
    np.allclose: _allclose,
    np.copyto: _copyto,
    np.linalg.eigh: lambda like, x: tuple(torch.linalg.eigh(like(x))),
    np.linalg.svd: _svd,
    np.linalg.inv: _each(torch.linalg.inv),
    np.linalg.pinv: _each(torch.linalg.pinv),
    np.linalg.solve: lambda like, a, b: torch.linalg.solve(like(a), like(b)),
    np.linalg.slogdet: lambda like, x: tuple(torch.linalg.slogdet(like(x))),
    np.linalg.cholesky: _each(torch.linalg.cholesky),
    np.linalg.cond: _each(torch.linalg.cond),
}
