"""Averages that exist but are hard, and averages that do not exist. Values come from closed forms or from mpmath, which
integrates in the variable that takes the singularity away; no number here was computed by the package.

`EXACT` and `NESTED` must be answered by `tpc.limit` within the printed error at every seed, without sampling; `INFINITE` must be
refused by name. A refusal of a case of the first list is as wrong as a wrong number. `SAMPLED` must be answered by samples
alone (`--method qmc`) within the printed error, and `SAMPLED_INFINITE` refused by them, at every seed.
"""

from __future__ import annotations

import math

import mpmath as mp

KETS = "ket |x> ~ N(0, 1)\nket |y> ~ N(0, 1)\nket |w> ~ N(0, 4)\n"
GAMMA, PI = math.gamma, math.pi
SPAN = (-12, -6, -3, -1, 0, 1, 3, 6, 12)


def _average(f, *cuts: float) -> float:  # type: ignore[no-untyped-def]
    """E f(x), x ~ N(0, 1), cut where f is not smooth."""
    with mp.workdps(25):
        return float(mp.quad(lambda x: f(x) * mp.npdf(x), sorted({*SPAN, *(mp.mpf(c) for c in cuts)})))


def _singular(f, place: float, p: float) -> float:  # type: ignore[no-untyped-def]
    """E f(x) for f ~ |x - place|^p: x = place ± t^(1/(1+p)) makes both sides smooth."""
    with mp.workdps(40):
        c, power = mp.mpf(place), 1 / (1 + mp.mpf(p))
        total = mp.mpf(0)
        for sign in (-1, 1):
            end = mp.mpf(12) ** (1 / power)
            total += mp.quad(
                lambda t, sign=sign: (
                    f(c + sign * t**power, sign * t**power) * mp.npdf(c + sign * t**power) * power * t ** (power - 1)
                ),
                [end * k / 12 for k in range(13)],
            )
        return float(total)


def absolute_power(p: float) -> float:
    return 2 ** (p / 2) * GAMMA((p + 1) / 2) / math.sqrt(PI)


def needle(a: float, c: float, noise: float = 0.0) -> float:
    """E e^(-a (x-c)²) tanh(x + N(0, noise)): the needle as a separate Gaussian law."""
    spread = 1 + 2 * a
    centre, deviation = 2 * a * c / spread, math.sqrt(1 / spread + noise)
    with mp.workdps(25):
        inner = mp.quad(lambda z: mp.tanh(centre + deviation * z) * mp.npdf(z), [-12, -3, 0, 3, 12])
        return float(inner * mp.exp(-mp.mpf(a) * c * c / spread) / mp.sqrt(spread))


def lorentzian(a: float, c: float) -> float:
    """E tanh(x)/(1 + a (x-c)²), in the variable of the peak."""
    with mp.workdps(30):
        root = mp.sqrt(a)
        value = mp.quad(
            lambda s: mp.tanh(c + mp.tan(s) / root) * mp.npdf(c + mp.tan(s) / root) / root,
            [-mp.pi / 2, *(mp.atan(k * root) for k in (-9, -3, -1, -0.1, -0.01, 0, 0.01, 0.1, 1, 3, 9)), mp.pi / 2],
        )
        return float(value)


def lorentzian_curve(a: float) -> float:
    """E 1/(1 + a (x - y²)²): over x it is a Voigt profile."""
    with mp.workdps(25):

        def profile(y):  # type: ignore[no-untyped-def]
            z = (y**2 + 1j / mp.sqrt(a)) / mp.sqrt(2)
            return mp.sqrt(mp.pi / (2 * a)) * mp.re(mp.exp(-z * z) * mp.erfc(-1j * z))

        return _average(profile)


def root_of_parabola() -> float:
    """E |x² - y|^½: over y it is a power of a shifted Gaussian."""

    def inner(x):  # type: ignore[no-untyped-def]
        return mp.hyp1f1(-0.25, 0.5, -(x**4) / 2) * mp.mpf(2) ** 0.25 * mp.gamma(0.75) / mp.sqrt(mp.pi)

    return _average(inner)


def _stripes(rate: int, level: float) -> float:
    """P(sin(rate x) > level)"""
    first, turn = math.asin(level), 2 * PI
    total = mp.mpf(0)
    for k in range(-3 * rate, 3 * rate):
        a, b = ((first + turn * k) / rate, (PI - first + turn * k) / rate)
        total += mp.ncdf(b) - mp.ncdf(a)
    return float(total)


def _roots_of_sine() -> float:
    """E |sin x|^-½: x = kπ ± t² makes every half-wave smooth."""
    with mp.workdps(20):

        def half(k, sign):  # type: ignore[no-untyped-def]
            return mp.quad(
                lambda t: 2 * t / mp.sqrt(mp.sin(t * t)) * mp.npdf(k * mp.pi + sign * t * t),
                [0, 0.6, mp.sqrt(mp.pi / 2)],
            )

        return float(mp.fsum(half(k, sign) for k in range(-4, 5) for sign in (-1, 1)))


EXACT: dict[str, float] = {
    # wide variances and tails: the mass is far from where the Gaussian is
    "<exp(w^2/9.5)>": math.sqrt(1 / (1 - 8 / 9.5)),
    "<exp(0.4*x^2)>": math.sqrt(5),
    "<exp(0.45*x^2)>": math.sqrt(10),
    "<exp(0.4*(x^2 + y^2))>": 5.0,
    "<exp(6*x)|tanh(x)>": math.exp(18) * _average(lambda z: mp.tanh(z + 6)),
    "<exp(6*x - 3*y)|tanh(x)>": math.exp(22.5) * _average(lambda z: mp.tanh(z + 6)),
    "<exp(0.3*x^2)|tanh(x)^2>": math.sqrt(2.5) * _average(lambda z: mp.tanh(z * mp.sqrt(2.5)) ** 2),
    "<exp(2*x^2 - x^4)>": _average(lambda x: mp.exp(2 * x**2 - x**4)),
    "<x^40>": float(math.prod(range(1, 40, 2))),
    "<x^60>": float(math.prod(range(1, 60, 2))),
    "<x^30|tanh(x)^2>": _average(lambda x: x**30 * mp.tanh(x) ** 2, 8, 10),
    "<(x^2 + y^2)^4>": 2.0**4 * 24,
    # powers, in (-1, 0) and above
    "<abs(x)^(-0.5)>": absolute_power(-0.5),
    "<abs(x)^(-0.8)>": absolute_power(-0.8),
    "<abs(x)^(-0.99)>": absolute_power(-0.99),
    "<abs(x)^0.5>": absolute_power(0.5),
    "<1/sqrt(abs(x))>": absolute_power(-0.5),
    "<abs(x*y)^(-0.5)>": absolute_power(-0.5) ** 2,
    "<sign(x)*abs(x)^2.5|x>": absolute_power(3.5),
    "<x|x*abs(x)^(-1.5)>": absolute_power(0.5),
    "<relu(x)^1.5>": absolute_power(1.5) / 2,
    "<abs(x)^(-0.5)|exp(x)>": math.exp(0.5)
    * float(2**-0.25 * mp.gamma(0.25) / mp.sqrt(mp.pi) * mp.hyp1f1(0.25, 0.5, -0.5)),
    "<abs(x)^(-0.4)|abs(x + y)^(-0.4)>": float(
        (2 * 4) ** mp.mpf(-0.2) * mp.gamma(0.3) ** 2 / mp.pi * mp.hyp2f1(0.2, 0.2, 0.5, 0.5)
    ),
    "<abs(x - 1)^(-0.5)>": float(2**-0.25 * mp.gamma(0.25) / mp.sqrt(mp.pi) * mp.hyp1f1(0.25, 0.5, -0.5)),
    # other singularities
    "<log(abs(x))>": (float(mp.digamma(0.5)) + math.log(2)) / 2,
    "<log(abs(x)) * log(abs(y))>": ((float(mp.digamma(0.5)) + math.log(2)) / 2) ** 2,
    "<abs(tanh(x))^(-0.5)>": _singular(lambda x, d: abs(mp.tanh(x)) ** mp.mpf(-0.5), 0, -0.5),
    "<abs(tanh(x) - 0.5)^(-0.7)>": _singular(
        # tanh(c + d) - tanh(c) = sinh(d)/(cosh(c + d) cosh(c)), tanh(c) = 1/2
        lambda x, d: abs(mp.sinh(d) / (mp.cosh(x) * mp.cosh(mp.atanh(mp.mpf(0.5))))) ** mp.mpf(-0.7),
        math.atanh(0.5),
        -0.7,
    ),
    "<log(abs(x - 1))|tanh(x)>": _singular(lambda x, d: mp.log(abs(d)) * mp.tanh(x), 1, -0.1),
    "<(exp(x) - 1)/x>": _average(lambda x: mp.expm1(x) / x if x else mp.mpf(1)),
    # an exponential that cancels the Gaussian
    "<exp(x^2/2)/(1 + x^4)>": PI / math.sqrt(2) / math.sqrt(2 * PI),
    "<exp(x^2/2)/(1 + x^2)>": math.sqrt(PI / 2),
    "<exp(x^2/2 - x)/cosh(2*x)>": PI / math.sqrt(2) / math.sqrt(2 * PI),
    "<exp(w^2/8)|1/(1 + w^4)>": PI / math.sqrt(2) / math.sqrt(8 * PI),
    # many places
    "<step(sin(20*x))*x^2>": 0.5,
    "<step(sin(20*x) - 0.5)>": _stripes(20, 0.5),
    "<abs(sin(x))^(-0.5)>": _roots_of_sine(),
    # kinks inside
    "<abs(tanh(x) - 0.5)>": _average(lambda x: abs(mp.tanh(x) - 0.5), math.atanh(0.5)),
    "<sqrt(abs(x^2 - 1))>": _average(lambda x: mp.sqrt(abs(x**2 - 1))),
    # needles
    "<exp(-1e6*(x - 0.7)^2)|tanh(x)>": needle(1e6, 0.7),
    "<exp(-1e14*(x - 0.7)^2)|tanh(x)>": needle(1e14, 0.7),
    "<1/(1 + 1e8*(x - 1)^2)|tanh(x)>": lorentzian(1e8, 1.0),
    "<exp(-1e6*(x - 0.7)^2)|tanh(x + y)>": needle(1e6, 0.7, 1.0),
    # exponentials of products
    "<exp(0.9*x*y)>": 1 / math.sqrt(0.19),
    "<exp(0.4*x*y + 0.1*x*w)>": 1 / math.sqrt(0.8),
    "<exp(0.6*x*y)|x^2>": 0.64**-1.5,
    # parity
    "<tanh(x)*x^2>": 0.0,
    "sign(<tanh(x)*x^2>)": 0.0,
    "abs(<tanh(x)*x^2>)^(1/2)": 0.0,
    "<sin(x*y)*tanh(x)*tanh(y)*x>": 0.0,
}

#: Functions of several Gaussians that do not come apart: singular at a point and along curves, kinked along curves, narrow.
NESTED: dict[str, float] = {
    "<(x^2 + y^2)^(-0.9)>": 2**-0.9 * GAMMA(0.1),
    "<log(x^2 + y^2)>": math.log(2) - float(mp.euler),
    "<abs(x^2 - y^2)^(-0.4)>": 2**-0.4 * absolute_power(-0.4) ** 2,
    "<abs(x*y)^(-0.5) * cos(x + y)>": (absolute_power(-0.5) * float(mp.hyp1f1(0.25, 0.5, -0.5))) ** 2,
    "<max(x, y)^3>": 5 * math.sqrt(2 / PI) / 2**1.5,
    "<atan(x/y)^2>": PI**2 / 12,
    "<step(1 - x^2 - y^2)>": 1 - math.exp(-0.5),
    "<sqrt(abs(x^2 - y))>": root_of_parabola(),
    "<1/(1 + 1e8*(x - y^2)^2)>": lorentzian_curve(1e8),
}
#: Those that take more than a second.
LONG = ("<(x^2 + y^2)^(-0.9)>", "<abs(x^2 - y^2)^(-0.4)>", "<abs(x*y)^(-0.5) * cos(x + y)>")

INFINITE = [
    "<1/x>",
    "<1/x^2>",
    "<tan(x)>",
    "<tan(x)^2>",
    "<x/(x^2 - 1)>",
    "<1/(tanh(x) - 0.5)>",
    "<1/(x + 2*tanh(y))>",
    "<x/y>",
    "<tanh(x)/y>",
    "<abs(x)^(-1)>",
    "<abs(x)^(-0.6)|abs(tanh(x))^(-0.6)>",
    "<exp(x^2)>",
    "<x*exp(y^2)>",
    "<exp(0.3*x^2)|exp(0.3*x^2)>",
    "<exp(x^4/100)>",
    "<exp(exp(x))>",
    "<exp(x^2/2)/sqrt(1 + x^2)>",
    "<exp(x^2/2 - x)/(1 + x^4)>",
    "<exp(1.1*x*y)>",
    "<(x^2 + y^2)^(-1)>",
    "<exp(0.6*x*y)|exp(0.5*x*y)>",
]

#: Values, and the largest error that a default run may print; the variance of the first four is infinite.
SAMPLED: dict[str, tuple[float, float]] = {
    "<exp(0.45*x^2)>": (math.sqrt(10), 4.0),
    "<abs(x*y)^(-0.5)>": (absolute_power(-0.5) ** 2, 0.1),
    "<abs(x)^(-0.6)>": (absolute_power(-0.6), 0.1),
    "<exp(0.3*x^2)>": (math.sqrt(2.5), 0.02),
    "<exp(2*x)>": (math.exp(2), 0.3),
    "<exp(2*x) * step(x - 1)>": (math.exp(2) * 0.8413447460685429, 0.3),
    "<exp(0.4*x*y)>": (1 / math.sqrt(1 - 0.16), 0.01),
    "<x^8>": (105.0, 2.0),
    "<exp(-2*softplus(3*x))>": (_average(lambda x: (1 + mp.exp(3 * x)) ** -2), 1e-3),
    "<step(x - 2)>": (0.022750131948179195, 1e-3),
    "<step(x - 3.5)>": (2.3262907903552504e-4, 1e-3),
}

SAMPLED_INFINITE = [
    "<exp(x^2)>",
    "<exp(0.6*x^2)>",
    "<1/x>",
    "<1/abs(x)>",
    "<1/x^2>",
    "<abs(x)^(-1.2)>",
    "<tan(x)>",
    "<tan(2*x)^2>",
    "<x/(x^2 - 1)>",
    "<step(x)/x>",
    "<1/(x + 2*tanh(y))>",
    "<1/(x - y)>",
    "<1/(x*y)>",
    "<x/y>",
    "<abs(x)^(-0.6)|abs(tanh(x))^(-0.6)>",
    "<x*exp(y^2)>",
]
