"""The result of an evaluation: values with their errors, never a bare number."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray

from tp_compiler._version import __version__
from tp_compiler.diagnostics import Diagnostic, suggest
from tp_compiler.fluctuations import Fluctuations as Fluctuations
from tp_compiler.fluctuations import bent, expected, joint, normal_quantile, width_within
from tp_compiler.functions import Function, Known, value_and_error
from tp_compiler.pages import Shown, written
from tp_compiler.replicates import Array as Array
from tp_compiler.replicates import Replicates as Replicates

if TYPE_CHECKING:
    import pandas
    import xarray


#: The command of a run that is the law of networks of a width, not their limit.
AT_WIDTH = "at_width"
#: The law of an output whose spread at a width is of order 1/n.
SECOND_ORDER = "second-order"
#: Why there are no quantiles.
_COARSE = "its spread is of second order (sigma is 0 or too small to matter), and the law of that is not computed"


@dataclass(frozen=True, eq=False, repr=False)
class Estimate(Shown):
    """A value with its standard error (both of shape `axes`), and how it was found.

    value    array of the shape of the output's axes (0-d for a plain scalar), in natural units
    stderr   standard error of `value`, same shape; 0 where exact
    axes     the names of the indices, in the order of the array's dimensions
    method   exact | closed-form | quadrature | qmc | mc | finite-width
    law      None for a number; "gaussian" for a `clt` output, whose value is the mean and whose `covariance` runs
             over the flattened entries; "sampled" for a scalar that depends on `clt` scalars (mean and covariance
             over the outer draws); "second-order" at a width where the spread is of order 1/n, and not known
    covariance_stderr   standard error of each entry of the covariance
    note     why this method was chosen
    replicates   what the value is a mean of; None where exact, and for random outputs of a limit
    fluctuations   how networks of finite width fluctuate about the limit; None unless a width was given
    """

    value: Array
    stderr: Array
    axes: tuple[str, ...]
    method: str
    law: str | None = None
    covariance: Array | None = None
    covariance_stderr: Array | None = None
    note: str = ""
    replicates: Replicates | None = None
    fluctuations: Fluctuations | None = None

    def quantile(self, q: float | Sequence[float]) -> Array:
        """The quantile of each entry of a Gaussian output, 0 < q < 1, such as one of `run.at_width(512)`.

        Of several, `quantile([0.1, 0.9])`, those of the first come first: the shape is (2, ...). Raises ValueError for outputs
        that are neither Gaussian nor constant; NaN for entries whose spread at a width is of second order.
        """
        if np.ndim(q):
            levels = np.asarray(q)
            found = [self.quantile(level) for level in levels.ravel().tolist()]
            return np.reshape(np.asarray(found), (*levels.shape, *self.value.shape))
        if not (_is_real(q) and 0 < q < 1):
            raise ValueError(f"a quantile lies between 0 and 1, such as 0.95, and {q!r} does not")
        if self.law == SECOND_ORDER:
            raise ValueError(f"there are no quantiles: {_COARSE}")
        if self.law not in (None, "gaussian") or self.method == "finite-width":
            raise ValueError("only Gaussian outputs have quantiles that their mean and covariance determine")
        if self.covariance is None:
            return self.value
        deviation = np.sqrt(np.maximum(np.diag(np.atleast_2d(self.covariance)), 0.0)).reshape(self.value.shape)
        return np.asarray(self.value + normal_quantile(q) * deviation)

    def second_order(self, width: int) -> NDArray[np.bool_]:
        """The entries (flat) whose spread over networks of a width is of order 1/n, and not known. It needs fluctuations."""
        assert self.fluctuations is not None
        return self.fluctuations.second_order(width, float(np.abs(self.value).max(initial=0.0)))

    def _brief(self) -> str:
        shape = " × ".join(map(str, self.value.shape))
        return f"Estimate {shape} [{self.method}]" if shape else f"Estimate {self}"


@dataclass(frozen=True, eq=False, repr=False)
class Run(Shown):
    """The result of `limit` or `simulate`: estimates by output name, in source order, and what could not be had.

    Indexing gives the array: `run["f"]`. `failed` holds, for each output without a value, the diagnostic.
    """

    program: str
    command: str
    outputs: Mapping[str, Estimate]
    failed: Mapping[str, Diagnostic] = field(default_factory=dict)
    warnings: tuple[Diagnostic, ...] = ()
    #: what the numbers depend on: seed, samples, replicates, width, seeds, dtype, backend (those that apply)
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    version: str = __version__
    #: index to names of data to their numbers: what the positions along an axis stand for (ir/coordinates.py)
    coordinates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: two outputs, in their order, to their covariance over networks of finite width
    crossed: Mapping[tuple[str, str], Fluctuations] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Array:
        if name in self.failed:
            raise KeyError(f"{name} could not be computed: {self.failed[name].message}")
        if not isinstance(name, str):
            raise TypeError(f"a run is indexed by names of outputs, such as run['f'], not by {name!r}")
        if name not in self.outputs:
            hint = suggest(name, self.outputs) or f"the outputs are {', '.join(self.outputs) or 'none'}"
            raise KeyError(f"there is no output {name!r}; {hint}")
        return self.outputs[name].value

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __eq__(self, other: object) -> bool:
        """Whether everything is equal, digit by digit, except the time that it took."""
        if not isinstance(other, Run):
            return NotImplemented
        return self is other or bool(written(self, "packed").same(written(other, "packed")))

    __hash__ = None  # type: ignore[assignment]  # as for other objects that hold arrays

    def table(self, *, full: bool = False, reasons: bool = False) -> str:
        """The tables that `print(run)` shows.

        full      every entry; otherwise large outputs show their ends, and steps that are evenly spaced, and say so
        reasons   why each method was chosen (`tpc limit -v`)
        """
        return str(written(self, "reasons" if reasons else "text", full=full))

    def to_xarray(self) -> xarray.Dataset:
        """An xarray Dataset: a variable for each output, and one for its standard error (`f_stderr`).

        Dimensions are the axes, with their positions as coordinates (from 1; `step` counts updates, from 0). Attributes are
        program, version, method, seed and the other settings. Random outputs also have `f_covariance`, over the axes twice.
        Raises ImportError without xarray.
        """
        return cast("xarray.Dataset", written(self, "xarray"))

    def to_dataframe(self, name: str | None = None) -> pandas.DataFrame:
        """A pandas DataFrame with the columns of `--format csv`: one row for each entry of each output.

        name   one output alone: the columns value and stderr, indexed by its axes

        Raises ImportError without pandas.
        """
        return cast("pandas.DataFrame", written(self, "dataframe", name))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a file, `.npz` for NumPy or `.nc` for NetCDF (needs xarray); `tpc.load` gives it back."""
        written(self, "file", path)

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        networks: Sequence[Run] = (),
        x: str | None = None,
        theme: str = "light",
        width: int | None = None,
    ) -> Any:
        """A figure of every output: curves, heat maps, distributions; also written to `path` (.svg, .pdf, .png).

        networks   results of `simulate` with the same outputs, drawn over it
        x          the index, or the data over one index (such as learning rates), that outputs are drawn against
        theme      light or dark
        width      shades where two thirds and 95% of networks of this width lie, for limits computed with a width; networks
                   of this width are drawn as dots
        """
        if width is not None:
            self._fluctuating(width)
        return written(self, "plot", path, networks=networks, x=x, theme=theme, width=width)

    @property
    def replicates(self) -> Mapping[str, Array]:
        """The replicates of each output: `run.replicates["f"]` has shape (R, ...), and the mean `run["f"]`.

        They are independent scramblings of a limit, networks of a simulation. Replicate r is of the same scrambling or network
        for all outputs. Exact outputs have equal replicates. Random outputs of a limit (`clt`) have none.
        """
        return _ReplicatesOf(self)

    def map(self, function: Function, *names: str) -> Estimate:
        """A function of outputs with its own standard error: `run.map(lambda f, loss: f[-1] / loss[0])`.

        function   takes arrays and returns a number or an array. Its arguments are the outputs of the same names
        names      the outputs that it takes, in order, if they are not those

        The error counts correlations between outputs and entries: by the jackknife over replicates (`functions.py`). Errors of
        exact outputs are propagated by differences, all with the same sign. The function is called some 50 times, for
        exact outputs up to 150 times.
        Raises KeyError for outputs that do not exist or could not be computed; ValueError for random outputs, whose
        functions are random (write these in the program: `output q = f^2` is the mean of f²), and for a single seed.
        """
        chosen = names or _parameters(function, "map")
        found = [self._known(name) for name in chosen]
        value, stderr = value_and_error(function, found)
        methods = dict.fromkeys(self.outputs[name].method for name in chosen)
        return Estimate(value, stderr, (), " + ".join(methods), note=f"a function of {', '.join(chosen)}")

    @property
    def width(self) -> int | None:
        """The width n for which a limit was computed, or of the networks that were simulated; None for a limit alone."""
        return self.settings.get("width")

    def fluctuations(self, name: str, other: str | None = None) -> Fluctuations:
        """How an output fluctuates over networks of finite width; with `other`, sigma is the covariance of the two.

        Sigma runs over the entries of `name` and of `other` in C order. Raises KeyError if it was not computed.
        """
        self[name], self[other or name]  # raises if there is none
        if other is None or other == name:
            found = self.outputs[name].fluctuations
        elif (other, name) in self.crossed:
            turned = self.crossed[other, name]
            assert turned.sigma is not None and turned.sigma_stderr is not None
            found = Fluctuations(turned.sigma.T, turned.sigma_stderr.T)
        else:
            found = self.crossed.get((name, other))
        if found is None:
            self._not_a_law()
            pair = name if other is None else f"{name} and {other}"
            how = "compute the limit with a width: limit(program, width=512)" if "width" not in self.settings else ""
            raise KeyError(f"fluctuations of {pair} were not computed; {how or 'the warnings of the run say why'}")
        return found

    def at_width(self, width: int) -> Run:
        """The law of the outputs in networks of width n: Gaussian, of mean value + bias/n and covariance sigma/n.

        `run.at_width(512)["f"]` is the mean, `.outputs["f"].covariance` runs over the entries in C order,
        `.outputs["f"].quantile(0.95)` is a quantile of each. It is a Run as any other: it prints, plots, and is saved. Where
        the bias is not known, the mean is the limit. Where Σ is 0 or too small to matter, but the bias is not, the spread is of
        second order, and not known: the law says so, and there are no quantiles. Outputs that remain random in the limit
        (`clt`) keep their law.
        Raises ValueError for a limit that was computed without a width, and for the law of another width: ask its limit.
        """
        self._fluctuating(width)
        found = {name: _at_width(estimate, width) for name, estimate in self.outputs.items()}
        lost = {
            name: Diagnostic("NX936", f"the spread of `{name}` at finite width is not known", None, "see the warnings")
            for name, estimate in found.items()
            if estimate is None
        }
        kept = {name: estimate for name, estimate in found.items() if estimate is not None}
        settings = {**self.settings, "width": int(width)}
        lost = {**self.failed, **lost}
        return replace(self, command=AT_WIDTH, outputs=kept, failed=lost, settings=settings, crossed={})

    def expected(self, function: Function, *names: str, width: int) -> Estimate:
        """The mean of a function of outputs over networks of width n: its average over N(value + bias/n, sigma/n).

        `run.expected(lambda f: ((f - y) ** 2).mean(), width=512)` is the expected loss of a network whose outputs are f.
        Arguments as for `map`. Covariances between the outputs count, and kinks as networks see them; of smooth functions
        it is L(f) + (½ tr(L'' Σ) + L'·b)/n, and terms of order 1/n². The function is called some 4,000 times.
        Raises KeyError if fluctuations were not computed, ValueError if the bias of one of the outputs is not known, and for
        kinks at values whose spread is of order 1/n, which is not known.
        """
        self._fluctuating(width)
        chosen = names or _parameters(function, "expected")
        limit = self.map(function, *chosen)
        sizes = [self[name].size for name in chosen]
        ends = np.cumsum([0, *sizes])
        own = [self.fluctuations(name) for name in chosen]
        for name, part in zip(chosen, own, strict=True):
            if part.sigma is None or part.bias is None:
                raise ValueError(f"the bias of {name} at finite width is not known, so that of a function of it is not")
        sigma = joint([[self._covariance(a, b) for b in chosen] for a in chosen])
        bias, error = (np.concatenate([getattr(part, key) for part in own]) for key in ("bias", "bias_stderr"))

        def flat(x: Array) -> Array:
            parts = [x[a:b].reshape(self[n].shape) for a, b, n in zip(ends, ends[1:], chosen, strict=False)]
            return np.asarray(function(*parts), dtype=np.float64)

        value = np.concatenate([self[name].ravel() for name in chosen])
        middle, unsure = value + bias / width, np.diag(error / width)[np.flatnonzero(error)]
        coarse = np.concatenate([self.outputs[name].second_order(width) for name in chosen])
        if coarse.any() and bent(flat, middle, 8 * np.where(coarse, np.abs(bias) + error, 0.0) / width):
            raise ValueError(f"the function has a kink where {' or '.join(chosen)} varies by 1/n alone: {_COARSE}")
        added = expected(flat, value, sigma, bias, width)
        relative = max(map(_relative_error, own))
        drifts = sum(((flat(middle + u) - flat(middle - u)) / 2) ** 2 for u in unsure)
        stderr = np.sqrt(limit.stderr**2 + (relative * added.spread) ** 2 + added.error**2 + drifts)
        note = f"the mean over networks of width {width} of a function of {', '.join(chosen)}"
        return Estimate(np.asarray(limit.value + added.spread + added.drift), stderr, (), limit.method, note=note)

    def width_for(self, name: str, rtol: float = 0.01, *, share: float | None = None) -> int:
        """How wide networks must be for an output to be within `rtol` of its limit, relative to the largest entry.

        share   the share of networks that should be within, such as 0.95; None asks for their mean, E f_n (an expected loss)

        Raises KeyError if fluctuations were not computed, ValueError for outputs that remain random, or are 0 in the limit, and
        for shares that a spread of second order decides.
        """
        value, found = self[name], self.fluctuations(name)
        if self.outputs[name].law is not None:
            raise ValueError(f"{name} is random in the limit, too: it is not approached by networks")
        if not value.any():
            raise ValueError(f"{name} is 0 in the limit, and nothing is within a fraction of 0")
        if share is not None and not (_is_real(share) and 0 < share < 1):
            raise ValueError(f"a share of networks lies between 0 and 1, such as 0.95, and {share!r} does not")
        if not _is_real(rtol):
            raise ValueError(f"rtol is a fraction of the limit, such as 0.01 for 1%, and {rtol!r} is not")
        if found.bias is None or found.sigma is None:
            raise ValueError(f"the {'bias' if found.sigma is not None else 'spread'} of {name} is not known")
        quantile = 0.0 if share is None else normal_quantile((1 + share) / 2)
        deviation = quantile * np.sqrt(np.maximum(np.diag(found.sigma), 0.0))
        distance = rtol * float(np.abs(value).max())
        wide = max(width_within(distance, float(b), float(d)) for b, d in zip(found.bias, deviation, strict=True))
        coarse = self.outputs[name].second_order(wide)
        if share is not None and _reach(found, coarse) > wide * distance:
            raise ValueError(f"the share of networks that are within is not known for {name}: {_COARSE}")
        return wide

    def _covariance(self, name: str, other: str) -> Array:
        sigma = self.fluctuations(name, other).sigma
        assert sigma is not None
        return sigma

    def _fluctuating(self, width: int) -> None:
        """Raises ValueError for what is not a width, and for runs without fluctuations."""
        self._not_a_law()
        if not is_whole(width) or width < 1:
            raise ValueError(f"a width is a positive whole number, such as 512, and {width!r} is not")
        if self.command != "limit" or "width" not in self.settings:
            raise ValueError("fluctuations at finite width were not computed; ask for them: limit(program, width=512)")

    def _not_a_law(self) -> None:
        """Raises ValueError for the law at a width, which does not know the limit that it comes from."""
        if self.command == AT_WIDTH:
            why = f"this is the law of networks of width {self.width}, made by at_width({self.width})"
            raise ValueError(f"{why}; ask the limit that it comes from, such as run.at_width(512)")

    def _known(self, name: str) -> Known:
        self[name]  # raises if there is none
        estimate = self.outputs[name]
        if estimate.law is not None:
            raise ValueError(
                f"{name} is random, so that functions of it are; write them in the program, such as `output q = {name}^2`,"
                " for their means"
            )
        stderr = np.broadcast_to(estimate.stderr, estimate.value.shape)
        return Known(estimate.value, stderr, estimate.replicates)

    def _brief(self) -> str:
        outputs = ", ".join(self.outputs) or "no outputs"
        failed = f"; failed: {', '.join(self.failed)}" if self.failed else ""
        return f"Run {self.command} {self.program}: {outputs}{failed}"


def _at_width(estimate: Estimate, width: int) -> Estimate | None:
    """An output in networks of a width; None if its spread is not known."""
    found = estimate.fluctuations
    if estimate.law is not None:
        return replace(estimate, fluctuations=None)
    if found is None or found.sigma is None:
        return None
    shape = estimate.value.shape
    unsure = 0.0 if found.bias_stderr is None else found.bias_stderr.reshape(shape) / width
    moved = replace(
        estimate,
        value=np.asarray(estimate.value + found.shift(width, shape)),
        stderr=np.hypot(np.broadcast_to(estimate.stderr, shape), unsure),
        note=f"the law at width {width}" + (", without its bias, which is not known" if found.bias is None else ""),
        replicates=None,
        fluctuations=None,
    )
    coarse = estimate.second_order(width)
    if coarse.any() and not np.diag(found.sigma)[~coarse].any():
        return replace(moved, law=SECOND_ORDER, note=f"{moved.note}: {_COARSE}")
    if not found.sigma.any():
        return moved
    assert found.sigma_stderr is not None
    unknown = np.where(coarse[:, None] | coarse, np.nan, 1 / width)
    return replace(
        moved, law="gaussian", covariance=found.sigma * unknown, covariance_stderr=found.sigma_stderr * unknown
    )


def _reach(found: Fluctuations, coarse: NDArray[np.bool_]) -> float:
    """How far networks are from the limit, times n, where their spread is of second order, as far as it can be guessed.

    Of 99.5% of networks z² is below 8, for a bias of 1.
    """
    assert found.bias is not None and found.bias_stderr is not None
    return 8 * float(np.max((np.abs(found.bias) + found.bias_stderr)[coarse], initial=0.0))


def _relative_error(found: Fluctuations) -> float:
    """Of the largest variance."""
    assert found.sigma is not None and found.sigma_stderr is not None
    most = int(np.argmax(np.diag(found.sigma))) if found.sigma.size else 0
    return float(found.sigma_stderr[most, most] / found.sigma[most, most]) if found.sigma.any() else 0.0


class _ReplicatesOf(Mapping[str, Array]):
    """The replicates of a run, made when they are asked for."""

    def __init__(self, run: Run):
        self.run = run

    def __getitem__(self, name: str) -> Array:
        value, found = self.run[name], self.run.outputs[name]
        if found.replicates is not None:
            return found.replicates.around(value)
        if found.law is not None:
            raise KeyError(
                f"{name} is random, and its law has no replicates; `simulate` has one value for each network"
            )
        return np.broadcast_to(value, (self._count(), *value.shape))

    def _count(self) -> int:
        drawn = [o.replicates.count for o in self.run.outputs.values() if o.replicates is not None]
        return drawn[0] if drawn else int(self.run.settings.get("replicates", 1))

    def __iter__(self) -> Iterator[str]:
        return (n for n, o in self.run.outputs.items() if o.replicates is not None or o.law is None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def is_whole(x: object) -> TypeGuard[int]:
    """Is it a whole number, of Python or NumPy? A truth value is not one."""
    return isinstance(x, Integral) and not isinstance(x, bool)


def _is_real(x: object) -> TypeGuard[float]:
    """Is it a number? A truth value is not one."""
    return isinstance(x, Real) and not isinstance(x, bool)


def _parameters(function: Function, method: str) -> tuple[str, ...]:
    """The names of the arguments of a function that a method of a run is given, without those that have defaults."""
    call = f"run.{method}(fn, 'f'{', width=512' if method == 'expected' else ''})"
    if not callable(function):
        raise TypeError(f"run.{method} takes a function of outputs, and {function!r} is not one")
    try:
        given = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise TypeError(f"the function does not name its arguments; give the names of outputs: {call}") from None
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = tuple(p.name for p in given if p.kind in plain and p.default is inspect.Parameter.empty)
    if not found:
        raise TypeError(f"the function takes no output by name; give the names of outputs: {call}")
    return found


def settled(run: Run) -> Run:
    """The run with every output that holds NaN or an infinity under `failed`; the run itself if there is none."""
    bad = [name for name, estimate in run.outputs.items() if not _finite(estimate)]
    if not bad:
        return run
    failed = {name: Diagnostic("NX800", f"`{name}` is not finite (NaN or overflow)") for name in bad}
    kept = {name: estimate for name, estimate in run.outputs.items() if name not in failed}
    return replace(run, outputs=kept, failed={**failed, **run.failed})


def _finite(estimate: Estimate) -> bool:
    parts = (estimate.value, estimate.stderr, estimate.covariance, estimate.covariance_stderr)
    return all(_all_finite(part) for part in parts if part is not None)


def _all_finite(values: Array) -> bool:
    """Some rows at a time; a file was examined when it was written."""
    if isinstance(values, np.memmap) or np.size(values) < 2**20:
        return isinstance(values, np.memmap) or np.count_nonzero(np.isfinite(values)) == np.size(values)
    if not any(values.strides):
        return bool(np.isfinite(values.flat[0]))
    return all(np.isfinite(rows).all() for rows in values)
