"""Tensors as arrays of NumPy: every function that the sampler may call gives what NumPy gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tp_compiler.diagnostics import ProgramError  # noqa: E402
from tp_compiler.evaluate.backend import ArrayBackend, backend, host  # noqa: E402
from tp_compiler.evaluate.kernels import KERNELS  # noqa: E402
from tp_compiler.evaluate.torch_arrays import FUNCTIONS, UFUNCS, TorchArray  # noqa: E402
from tp_compiler.ir.primitives import PRIMITIVES  # noqa: E402

pytestmark = pytest.mark.torch

RNG = np.random.default_rng(3)
X, Y = RNG.standard_normal((2, 4, 5))
S = RNG.standard_normal((3, 4, 4))
SYMMETRIC = S + np.swapaxes(S, -1, -2)
POSITIVE = S @ np.swapaxes(S, -1, -2) + np.eye(4)
SPECIAL = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1.5, -2.5, 1e300, 1e-300])

#: Arguments of each function; arrays among them become tensors, one by one and all together.
CALLS: dict[Any, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    np.sum: [((X,), {}), ((X,), {"axis": 0}), ((X,), {"axis": (0, 1), "keepdims": True}), ((X,), {"axis": ()}), ((X > 0,), {})],
    np.mean: [((X,), {}), ((X,), {"axis": -1}), ((X > 0,), {"axis": 0})],
    np.max: [((X,), {}), ((X,), {"axis": 1, "keepdims": True}), ((X[:0],), {"axis": 0, "initial": 0.0}), ((X,), {"initial": 9.0})],
    np.min: [((X,), {}), ((X,), {"axis": (0,)}), ((X[:, :0],), {"axis": -1, "keepdims": True, "initial": 0.0})],
    np.prod: [((X,), {}), ((X,), {"axis": 1})],
    np.any: [((X > 1,), {}), ((X > 1,), {"axis": 0}), ((X,), {})],
    np.all: [((X > -1,), {}), ((X > -1,), {"axis": -1, "keepdims": True})],
    np.where: [((X > 0, X, Y), {}), ((X > 0, 1.0, 0.0), {}), ((X > 0, X, np.inf), {})],
    np.clip: [((X, -0.5, 0.5), {}), ((SPECIAL, 0.0, 6.0), {})],
    np.round: [((3 * X,), {}), ((np.array([0.5, 1.5, -0.5]),), {})],
    np.zeros_like: [((X,), {}), ((X,), {"shape": (2, 0)}), ((X,), {"dtype": np.bool_})],
    np.ones_like: [((X,), {}), ((X,), {"shape": 3})],
    np.full_like: [((X, 2.0), {}), ((X, np.nan), {"shape": (1,)})],
    np.concatenate: [(([X, Y],), {}), (([X, Y],), {"axis": 1}), (([X, X > 0],), {})],
    np.stack: [(([X, Y],), {}), (([X, Y],), {"axis": -1})],
    np.broadcast_to: [((X, (3, 4, 5)), {}), ((X[0], [4, 5]), {}), ((X[0, :1], 3), {})],
    np.broadcast_arrays: [((X, Y[0], Y[:, :1]), {})],
    np.shape: [((X,), {})],
    np.ndim: [((X,), {})],
    np.size: [((X,), {})],
    np.reshape: [((X, (5, 4)), {}), ((X, [2, -1]), {})],
    np.ravel: [((X.T,), {})],
    np.squeeze: [((X[:1], 0), {})],
    np.transpose: [((X,), {}), ((S, [2, 0, 1]), {})],
    np.swapaxes: [((S, 0, -1), {})],
    np.moveaxis: [((S, 0, -1), {})],
    np.flip: [((X, 0), {}), ((X,), {"axis": -1})],
    np.roll: [((X, 2), {"axis": 0}), ((X, -1), {"axis": 1})],
    np.cumsum: [((X,), {"axis": 0}), ((X, -1), {})],
    np.sort: [((X,), {}), ((X,), {"axis": 0})],
    np.argsort: [((X,), {}), ((np.array([1.0, 0.0, 1.0, 0.0]),), {"kind": "stable"})],
    np.argmax: [((X,), {"axis": 1})],
    np.median: [((X,), {"axis": 0}), ((X,), {"axis": 1})],
    np.take_along_axis: [((X, np.argsort(X, axis=1)), {"axis": 1})],
    np.einsum: [(("ij,kj->ik", X, Y), {}), (("ij,kj->ik", X, Y), {"optimize": True})],
    np.allclose: [((X, X + 1e-12), {"rtol": 0, "atol": 1e-10}), ((X, Y), {})],
    np.linalg.inv: [((POSITIVE,), {})],
    np.linalg.pinv: [((POSITIVE,), {"rcond": 1e-10, "hermitian": True})],
    np.linalg.solve: [((POSITIVE, S), {})],
    np.linalg.slogdet: [((SYMMETRIC,), {})],
    np.linalg.cholesky: [((POSITIVE,), {})],
    np.linalg.cond: [((POSITIVE,), {})],
}  # fmt: skip


def tensors(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return ArrayBackend("torch").array(value)
    return [tensors(x) for x in value] if isinstance(value, list) and isinstance(value[0], np.ndarray) else value


def plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(map(plain, value))
    return value.numpy() if isinstance(value, TorchArray) else value


def agree(found: Any, wanted: Any) -> None:
    if isinstance(wanted, tuple | list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            agree(one, other)
        return
    assert np.shape(found) == np.shape(wanted)
    np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("function", CALLS, ids=lambda f: f.__name__)
def test_a_function_gives_what_it_gives_in_numpy(function: Any) -> None:
    for args, options in CALLS[function]:
        agree(plain(function(*map(tensors, args), **options)), function(*args, **options))


def test_every_function_is_tested() -> None:
    by_hand = {np.linalg.eigh, np.linalg.svd, np.partition, np.empty_like, np.copyto}
    assert set(FUNCTIONS) == set(CALLS) | by_hand


@pytest.mark.parametrize("ufunc", UFUNCS, ids=lambda f: f.__name__)
def test_a_ufunc_gives_what_it_gives_in_numpy(ufunc: Any) -> None:
    bits = ufunc in (np.bitwise_and, np.bitwise_or, np.invert)
    for x, y in ((X, Y), (SPECIAL, SPECIAL[::-1].copy()), (np.abs(X), Y)):
        one, other = (x > 0, y > 0) if bits else (x, y.T if ufunc is np.matmul and y.ndim > 1 else y)
        args = (one, other)[: ufunc.nin]
        with np.errstate(all="ignore"):
            wanted = ufunc(*args)
            agree(plain(ufunc(*map(tensors, args))), wanted)
            if ufunc.nin == 2:
                agree(plain(ufunc(tensors(one), other)), wanted)
                agree(plain(ufunc(one, tensors(other))), wanted)


@pytest.mark.parametrize("name", KERNELS)
def test_every_primitive_has_its_value(name: str) -> None:
    count = PRIMITIVES[name].arity or 2
    args: tuple[Any, ...] = (X, Y, X + Y)[:count] if name != "pow" else (np.abs(X), 1.5)
    wanted = KERNELS[name](*args) if name not in ("log", "sqrt") else KERNELS[name](np.abs(X))
    given = args if name not in ("log", "sqrt") else (np.abs(X),)
    np.testing.assert_allclose(plain(KERNELS[name](*map(tensors, given))), wanted, rtol=1e-13, atol=1e-14)


def test_decompositions_put_together_give_the_matrix() -> None:
    values, vectors = np.linalg.eigh(tensors(SYMMETRIC))
    agree(plain((vectors * values[..., None, :]) @ np.swapaxes(vectors, -1, -2)), SYMMETRIC)
    u, s, v = np.linalg.svd(tensors(X), full_matrices=False)
    agree(plain((u * s[..., None, :]) @ v), X)


def test_partition_empty_like_and_copyto() -> None:
    parted = plain(np.partition(tensors(X), 2, axis=0))
    assert (parted[:2] <= parted[2]).all() and (parted[3:] >= parted[2]).all()
    target = np.empty_like(tensors(X), shape=(4, 5))
    np.copyto(target, X)
    agree(plain(target), X)


def test_entries_methods_and_places() -> None:
    t = tensors(X)
    for place in (0, (slice(1, 3), -1), np.array([2, 0]), (slice(None), np.array([0, 0, 1])), (None, ...), np.int64(1)):
        agree(plain(t[place]), X[place])
    agree(plain(t[tensors(X) > 0]), X[X > 0])
    copy = t.copy()
    copy[1:, 0] = Y[1:, 0]
    copy[0] = 7.0
    wanted = X.copy()
    wanted[1:, 0], wanted[0] = Y[1:, 0], 7.0
    agree(plain(copy), wanted)
    agree(plain(t), X)
    agree(plain(t.reshape(2, -1)), X.reshape(2, -1))
    agree(plain(tensors(S).transpose(0, 2, 1)), S.transpose(0, 2, 1))
    assert (t.shape, t.ndim, t.size, t.nbytes, t.dtype, len(t)) == (X.shape, 2, 20, 160, X.dtype, 4)
    assert float(t.sum()) == pytest.approx(X.sum()) and bool((t == t).all()) and not (t.min() > 0)
    assert [float(row.max()) for row in t] == [row.max() for row in X]


def test_results_are_written_where_they_are_wanted() -> None:
    t = tensors(X)
    before = t.tensor.data_ptr()
    np.add(t, Y, out=t)
    agree(plain(t), X + Y)
    assert t.tensor.data_ptr() == before
    with pytest.raises(TypeError, match="into an array of NumPy"):
        np.add(t, Y, out=X.copy())


def test_nothing_leaves_the_device_by_itself() -> None:
    with pytest.raises(TypeError, match="by itself"):
        np.asarray(tensors(X))
    with pytest.raises(TypeError, match="no counterpart"):
        np.trace(tensors(X))
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.inv(tensors(np.zeros((2, 2))))


def test_single_precision_stays_single() -> None:
    t = ArrayBackend("torch", dtype="float32").array(X)
    for found in (
        t * 2.0,
        1 / t,
        t + Y,
        t * np.float64(3.0),
        np.where(t > 0, t, 0.0),
        t.mean(axis=0),
        np.tanh(t),
        t.astype(np.float64),
    ):
        assert found.dtype == np.float32
    np.testing.assert_allclose(host(t * Y), X * Y, rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("jax", None, "float64"), "one of numpy, torch"),
        (("torch", None, "float16"), "one of float64, float32"),
        (("numpy", "cuda", "float64"), "choose the backend torch"),
        (("numpy", None, "float32"), "choose the backend torch"),
        (("torch", "nowhere", "float64"), "the device `nowhere` is not available"),
    ],
)
def test_backends_that_do_not_exist_are_refused(given: tuple[str, str | None, str], words: str) -> None:
    with pytest.raises(ProgramError, match="NX432") as caught:
        backend(*given)
    assert words in str(caught.value)


def test_backends_name_themselves() -> None:
    assert [str(backend()), str(backend("torch")), str(backend("torch", "cpu", "float32"))] == [
        "numpy",
        "torch on cpu",
        "torch on cpu, float32",
    ]
