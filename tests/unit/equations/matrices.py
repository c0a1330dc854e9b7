"""Functions of finite matrices and of operators of finite rank, as the equations' footnotes describe them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.unit.equations.tape import FUNCTIONS


def entry(
    e: Any, env: dict[Any, int], value: Callable[..., Any], span: Callable[[Any], range], known: dict[Any, Any]
) -> float:
    """One entry of `e`, a Linalg term, where its indices are those in `env`; `known` keeps whole results."""

    def table(argument: Any, *indices: Any) -> Any:
        ranges = [span(i) for i in indices]
        found = [value(argument, {**env, **dict(zip(indices, at, strict=True))}) for at in itertools.product(*ranges)]
        return np.array(found, dtype=float).reshape([len(r) for r in ranges])

    rows, cols = e.place
    args = e.arguments
    if e.op == "logdet":
        return float(np.linalg.slogdet(table(args[0], rows, cols))[1])
    if e.op == "solve":
        return float(np.linalg.solve(table(args[0], rows, cols), table(args[1], cols))[env[rows] - span(rows)[0]])
    key = e, tuple(sorted((i.name, k) for i, k in env.items() if i not in (rows, cols)))
    if key in known:
        result = known[key]
    elif e.hidden:
        result = _in_a_basis(e, table)
    else:
        rest = [value(a, env) for a in args[2:]]
        result = _of_matrix(
            e, table(args[0], rows, cols), lambda: table(args[1], rows, cols), rest, lambda: table(args[1])
        )
    known[key] = result
    return float(result[env[rows] - span(rows)[0], env[cols] - span(cols)[0]])


def _of_matrix(e: Any, k: Any, c: Callable[[], Any], rest: list[Any], number: Callable[[], Any]) -> Any:
    if e.op == "inv":
        return np.linalg.inv(k)
    if e.op == "cholesky":
        return np.linalg.cholesky(k)
    if e.op == "pow":
        return _function(k, lambda x: x ** number())
    if e.op == "matfun" and not rest:
        return _function(k, FUNCTIONS[e.fn])
    shift = rest[0]
    function = _by_name(e, rest)
    half, back = _roots(k)
    inner = half @ c() @ half
    if e.op == "inverse":
        middle = np.linalg.inv(shift * np.eye(len(k)) + inner) - np.eye(len(k)) / shift
        return back @ middle @ back
    return back @ _function(inner, lambda x: function(x + shift) - function(shift + 0 * x)) @ back


def _in_a_basis(e: Any, table: Callable[..., Any]) -> Any:
    rows, cols = e.place
    args = e.arguments
    if e.op == "polar":
        other, more = e.hidden
        half_rows, back_rows = _roots(table(args[1], rows, other))
        half_cols, back_cols = _roots(table(args[2], cols, more))
        u, s, v = np.linalg.svd(half_rows @ table(args[0], rows, cols) @ half_cols)
        keep = s > 1e-7 * max(s[0], 1e-300)
        return back_rows @ (u[:, : len(s)] * keep) @ v[: len(s)] @ back_cols
    (other,) = e.hidden
    half, back = _roots(table(args[0], rows, other))
    inner = half @ table(args[1], rows, other) @ half
    if e.op == "eigenvectors":
        values, vectors = (x[..., ::-1] for x in np.linalg.eigh((inner + inner.T) / 2))
        vectors = vectors * (np.abs(values) > 1e-14 * np.abs(values).max())
        return (
            back @ np.pad(vectors, ((0, 0), (0, 0)))[:, : len(table(args[1], cols, cols))] if False else back @ vectors
        )
    shift = float(table(args[2]))
    function = _by_name(e, [shift, *([float(table(args[3]))] if e.op == "power" else [])])
    return back @ _function(inner, lambda x: function(x + shift)) @ half @ table(args[-1], rows, cols)


def _by_name(e: Any, rest: list[Any]) -> Callable[[Any], Any]:
    if e.op != "power":
        return FUNCTIONS.get(e.fn, lambda x: x)
    exponent = rest[1]

    def power(x: Any) -> Any:
        zero = np.abs(x) < 1e-13
        return np.where(zero, 0.0, np.where(zero, 1.0, x) ** exponent)

    return power


def _function(m: Any, f: Callable[[Any], Any]) -> Any:
    values, vectors = np.linalg.eigh((m + m.T) / 2)
    return (vectors * f(values)) @ vectors.T


def _roots(gram: Any) -> tuple[Any, Any]:
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    keep = values > 1e-12 * max(values[-1], 1e-300)
    root = np.sqrt(np.where(keep, values, 0.0))
    back = np.where(keep, 1 / np.where(keep, root, 1.0), 0.0)
    return (vectors * root) @ vectors.T, (vectors * back) @ vectors.T
