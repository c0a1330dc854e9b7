"""How a number with its standard error is written: rounded to the error's second digit, `0.37940(12)`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tp_compiler.results import Array, Estimate

#: A float64 has no more than this many meaningful digits, whatever the error claims.
_MAX_DIGITS = 15
#: A spread that is not known.
UNKNOWN = "?"
#: Digits of a number without error.
_EXACT_DIGITS = 10


def titled(name: str, axes: tuple[str, ...]) -> str:
    """An output with its indices: `f[i]`; an output named by its text, `<h[i]>`, shows them already."""
    shown = set(re.findall(r"\w+", name)) if not name.isidentifier() else set()
    rest = [axis for axis in axes if axis not in shown]
    return f"{name}[{', '.join(axes)}]" if rest else name


@dataclass(frozen=True, slots=True)
class Written:
    """`mantissa(error) x 10^exponent`; `error` is empty for an exact number, `exponent` 0 for a plain one.

    With a spread it is `(mantissa ± spread) x 10^exponent`, without brackets where there is no power.
    """

    mantissa: str
    error: str = ""
    exponent: int = 0
    spread: str = ""

    def spelled(self, sign: str, power: str) -> str:
        """With a notation's sign for ±, and its power of ten, which is empty for a plain number."""
        if self.spread == UNKNOWN:
            return f"{self.mantissa}{power} {sign} {UNKNOWN}"
        if self.spread:
            both = f"{self.mantissa} {sign} {self.spread}"
            return f"({both}){power}" if power else both
        return self.mantissa + (f"({self.error})" if self.error else "") + power

    def __str__(self) -> str:
        return self.spelled("±", f"e{self.exponent:+03d}" if self.exponent else "")


def write(value: float, error: float = 0.0) -> Written:
    """Value and standard error as text parts; `0.37940(12)` means 0.37940 ± 0.00012."""
    if not (math.isfinite(value) and math.isfinite(error)):
        both = math.isnan(value) and math.isnan(error)
        return Written(str(float(value)), "" if error == 0 or both else str(float(error)))
    if error <= 0:
        return _exact(value)
    # The scale is that of the larger of the two, so that 0.000(12) does not turn into 0.0(1.2)e-02.
    exponent = _scientific(max(abs(value), error))
    scaled, scaled_error = value / 10.0**exponent, error / 10.0**exponent
    decimals = 1 - _magnitude(scaled_error)
    if round(scaled_error * 10.0**decimals) >= 100:
        decimals -= 1  # 0.0999 rounds to two digits as 0.10
    decimals = min(decimals, _MAX_DIGITS - 1 - max(_magnitude(scaled), 0))
    return Written(_fixed(scaled, decimals), _error_digits(scaled_error, decimals), exponent)


def write_spread(mean: float, spread: float) -> Written:
    """A mean and a standard deviation around it, to the deviation's second digit: `0.627 ± 0.017`; `0.0156 ± ?` for NaN."""
    if math.isnan(spread) and math.isfinite(mean):
        return replace(write(float(f"{mean:.3g}")), spread=UNKNOWN)
    if spread == 0 or not (math.isfinite(mean) and math.isfinite(spread)):
        return replace(write(mean), spread=str(float(spread)) if spread else "")
    found = write(mean, spread)
    digits = len(found.mantissa.partition(".")[2])
    return replace(found, error="", spread=f"{spread / 10.0**found.exponent:.{digits}f}")


def _exact(value: float) -> Written:
    text = f"{value + 0.0:.{_EXACT_DIGITS}g}"
    mantissa, _, exponent = text.partition("e")
    return Written(mantissa, "", int(exponent or 0))


def _error_digits(error: float, decimals: int) -> str:
    """The error in units of the value's last place; with a decimal point if it is larger than one: `12.3(4.5)`."""
    if decimals > 0 and error >= 1:
        return f"{error:.{decimals}f}"
    if decimals <= 0:
        return f"{round(error, decimals):.0f}"
    return str(max(1, round(error * 10.0**decimals)))


def _fixed(value: float, decimals: int) -> str:
    text = f"{round(value, decimals):.{max(decimals, 0)}f}"
    return text.lstrip("-") if float(text) == 0 else text


def _magnitude(value: float) -> int:
    return math.floor(math.log10(abs(value))) if value else 0


def _scientific(size: float) -> int:
    """The exponent to factor out: 0 for numbers that are easy to read."""
    magnitude = _magnitude(size)
    # Below 1e-300 a power of ten underflows itself.
    return 0 if -4 <= magnitude < 7 else max(magnitude, -300)


def labels(axis: str, size: int) -> list[str]:
    """Positions along an axis: from 1, but `step` counts updates, from 0."""
    return [str(k + first_label(axis)) for k in range(size)]


def first_label(axis: str) -> int:
    return 0 if axis == "step" else 1


def axis_names(estimate: Estimate, letters: str = "ijklmnpqrs") -> tuple[str, ...]:
    """The names of the dimensions of the value."""
    missing = estimate.value.ndim - len(estimate.axes)
    return estimate.axes + tuple(letters[:missing]) if missing > 0 else estimate.axes[: estimate.value.ndim]


def covariance_of(estimate: Estimate) -> tuple[Array, Array] | None:
    """The covariance over the flattened entries as a matrix, with its standard errors (0 where not given)."""
    if estimate.covariance is None:
        return None
    covariance = np.atleast_2d(estimate.covariance)
    given = 0.0 if estimate.covariance_stderr is None else estimate.covariance_stderr
    return covariance, np.broadcast_to(np.asarray(given, dtype=np.float64), covariance.shape)


def at_width(estimate: Estimate, width: int) -> tuple[Array, Array] | None:
    """Mean and standard deviation of the entries over networks of a width; None if they are not known.

    Deviations of second order are NaN.
    """
    found = estimate.fluctuations
    if found is None or found.sigma is None:
        return None
    shape = estimate.value.shape
    unknown = estimate.second_order(width).reshape(shape)
    return estimate.value + found.shift(width, shape), np.where(unknown, np.nan, found.deviation(width, shape))


def fluctuation_parts(estimate: Estimate) -> Iterator[tuple[str, Array, Array]]:
    """What is known of the fluctuations: `sigma` over pairs of flattened entries, `bias` over entries, with standard errors."""
    found = estimate.fluctuations
    if found is not None and found.sigma is not None and found.sigma_stderr is not None:
        yield "sigma", found.sigma, found.sigma_stderr
    if found is not None and found.bias is not None and found.bias_stderr is not None:
        yield "bias", found.bias, found.bias_stderr


def same_in_all(estimate: Estimate) -> bool:
    """Whether networks of every width have the value of the limit."""
    return estimate.fluctuations is not None and estimate.fluctuations.constant


def width_note(estimate: Estimate, width: int) -> str:
    """What is said of the numbers at a width."""
    found = estimate.fluctuations
    if found is None or same_in_all(estimate):
        return f"at n = {width} the same in every network"
    bias = ", without its bias, which is not known" if found.bias is None else ""
    unknown = found.sigma is not None and estimate.second_order(width).any()
    return f"at n = {width}{bias}" + (", with a spread of second order (Σ = 0), which is not known" if unknown else "")
