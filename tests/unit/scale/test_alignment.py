"""The largest stable learning rates for given alignments: a table by hand, perceptrons by another program, and what makes them largest.

The table is that of Everett et al. (arXiv 2407.05872), derived again here from their conditions: with weights n^-a w, w ~ N(0, n^-2b)
and learning rates n^-c, h_l moves by n^-r_l, where r_1 = a_1 + c_1 + g_1,

    r_l = min(a_l + c_l + g_l − α_l, a_l + c_l + g_l + r_{l−1} − u_l, a_l + b_l + r_{l−1} − ω_l)  for l > 1,

and all r_l ≥ 0. The size of a gradient enters for SGD, g_l = a_l + min(a_{L+1} + b_{L+1}, 2 a_{L+1} + c_{L+1}) and g_{L+1} = a_{L+1};
for Adam g_l = 0, for Adafactor g_l = b_l.
"""

from __future__ import annotations

import json
import random
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog

import tp_compiler as tpc
from tests.unit.scale.programs import DATA, PROGRAMS, text
from tp_compiler.diagnostics import ProgramError
from tp_compiler.scale.affine import AffinePower
from tp_compiler.scale.alignment import FULL, NONE, Alignment
from tp_compiler.scale.largest import FIRST, RateSearch
from tp_compiler.scale.linear_programme import LargestSum

HALF = Fraction(1, 2)
NAMES = ("u", "W", "A", "v")  # from input to output
OPTIMIZERS = ("SGD", "Adam", "Adafactor", "Muon", "Shampoo", "KFAC")
CASES = [
    pytest.param(name, optimizer, marks=[] if optimizer in ("SGD", "Adam") and name != "gpt" else [pytest.mark.slow])
    for name in PROGRAMS
    for optimizer in OPTIMIZERS
]

#: parametrization -> optimizer -> alignment -> learning rates of input, hidden and output weights.
TABLE = {
    "standard": {
        "SGD": {"full": ("1/2", "-1/2", "-1"), "none": ("1/2", "0", "-1/2")},
        "Adam": {"full": ("0", "-1", "-1"), "none": ("0", "-1/2", "-1/2")},
        "Adafactor": {"full": ("0", "-1/2", "-1/2"), "none": ("0", "0", "0")},
    },
    "ntk": {
        "SGD": {"full": ("1/2", "1/2", "0"), "none": ("1/2", "1", "1/2")},
        "Adam": {"full": ("0", "-1/2", "-1/2"), "none": ("0", "0", "0")},
        "Adafactor": {"full": ("0", "-1/2", "-1/2"), "none": ("0", "0", "0")},
    },
    # With SGD and no alignment, n^(1/2) for the readout would be as stable, but only with gradients, and so the readout, n^(1/2) as
    # large: all other rates would be n^(-1/2) as large.
    "mup": {
        "SGD": {"full": ("0", "0", "0"), "none": ("0", "1/2", "0")},
        "Adam": {"full": ("-1/2", "-1", "-1/2"), "none": ("-1/2", "-1/2", "0")},
        "Adafactor": {"full": ("0", "-1/2", "0"), "none": ("0", "0", "1/2")},
    },
    "mean-field": {
        "SGD": {"full": ("1", "1", "1"), "none": ("1", "3/2", "1")},
        "Adam": {"full": ("0", "-1/2", "0"), "none": ("0", "0", "1/2")},
        "Adafactor": {"full": ("0", "-1/2", "0"), "none": ("0", "0", "1/2")},
    },
}


@pytest.mark.parametrize("alignment", ["full", "none"])
@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "Adafactor"])
def test_the_table(optimizer: str, alignment: str) -> None:
    scaling = tpc.scale(text("mlp"), optimizer=optimizer, alignment=alignment)
    for name, expected in TABLE.items():
        found = scaling.compared[name].raw
        rates = (expected[optimizer][alignment][k] for k in (0, 1, 1, 2))
        assert [found[p]["lr"] for p in NAMES] == [Fraction(rate) for rate in rates], name
        assert scaling.compared[name].features == 0, "features are learnt in all of them"


# ----------------------------------------------------------------------------------------- perceptrons by another program


def by_scipy(
    optimizer: str, b: list[Fraction], alignments: list[Alignment], weights: list[Fraction]
) -> tuple[float, list[float]]:
    """The largest weighted sum of −c with a = 0, from the conditions above."""
    count = len(b)
    # Unknowns: c of every layer, r of every layer, and g, the size of gradients before the readout.
    above: list[list[float]] = []
    bounds: list[float] = []

    def demand(slopes: dict[int, float], constant: float) -> None:
        """constant + slopes · unknowns ≥ 0."""
        above.append([-slopes.get(k, 0.0) for k in range(2 * count + 1)])
        bounds.append(constant)

    last, g = count - 1, 2 * count
    demand({g: -1}, float(b[last]))
    demand({g: -1, last: 1}, 0.0)
    for k in range(count):
        own = {k: 1.0} | ({g: 1.0} if optimizer == "SGD" and k < last else {})
        size = float(b[k]) if optimizer == "Adafactor" else 0.0
        r, before = count + k, count + k - 1
        demand({r: 1}, 0.0)
        if k == 0:
            demand(own | {r: -1}, size)
            continue
        al = alignments[k]
        demand(own | {r: -1}, size - float(al.update))
        demand(own | {r: -1, before: 1}, size - float(al.both))
        demand({r: -1, before: 1}, float(b[k] - al.features))
    costs = [float(w) for w in weights] + [0.0] * (count + 1)
    found = linprog(costs, A_ub=above, b_ub=bounds, bounds=[(None, None)] * (2 * count + 1))
    assert found.status == 0
    return -found.fun, [-c for c in found.x[:count]]


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(k, marks=pytest.mark.slow) for k in range(4, 24))])
def test_perceptrons_at_random_alignments(seed: int) -> None:
    draw = random.Random(seed)
    optimizer = draw.choice(["SGD", "Adam", "Adafactor"])
    eighths = [Fraction(k, 8) for k in range(4, 9)]
    alignments = [Alignment(*(draw.choice(eighths) for _ in range(3))) for _ in NAMES]
    readout = draw.choice([HALF, Fraction(3, 4), Fraction(1), Fraction(5, 4)])
    block = f"parametrization {{ |v> : a = {readout}, b = 0 }}\n"
    given = dict(zip(NAMES, alignments, strict=True))
    scaling = tpc.scale(block + text("mlp"), optimizer=optimizer, alignment=given)
    order = [scaling.keys.index(name) for name in NAMES]
    weights = [1 + FIRST * Fraction(4 - k, 4) for k in order]
    sum_, _ = by_scipy(optimizer, [Fraction(0), HALF, HALF, readout], alignments, weights)
    found = [scaling[name]["lr"] for name in NAMES]
    assert abs(float(sum(w * e for w, e in zip(weights, found, strict=True))) - sum_) < 1e-9


# ----------------------------------------------------------------------------------------------------- any program


@pytest.mark.parametrize(("name", "optimizer"), CASES)
def test_none_can_be_raised_alone(name: str, optimizer: str) -> None:
    """Nothing blows up, and something does if one rate is larger: for measured alignments, too."""
    draw = random.Random(name + optimizer)
    scaling = tpc.scale(text(name), optimizer=optimizer, alignment="none")
    rows, keys = list(scaling.main.rows.values()), scaling.keys
    eighths = [Fraction(k, 8) for k in range(4, 9)]
    measured = [Alignment(*(draw.choice(eighths) for _ in range(3))) for _ in keys]
    for alignments in ([FULL] * len(keys), [NONE] * len(keys), measured):
        at = RateSearch(scaling.analysis, rows, alignments)
        found = at.largest()
        assert None not in found.rates
        rates = [rate for rate in found.rates if rate is not None]
        assert at.violated(rates)[1] == []
        for k, key in enumerate(keys):
            raised = [*rates[:k], rates[k] + Fraction(1, 1000), *rates[k + 1 :]]
            assert at.violated(raised)[1] != [], key


@pytest.mark.parametrize(("name", "optimizer"), CASES)
def test_those_of_the_limit_are_mup(name: str, optimizer: str) -> None:
    """muP's rates are the largest at which nothing blows up in the limit. (K-FAC divides by the square of the first gradient by a
    number, which is n^(-1/2) as large as in training where it scales averages that vanish.)"""
    program = text(name)
    usual, found = (tpc.scale(program, optimizer=optimizer, alignment=a) for a in (None, "limit"))
    keys = [k for k in usual.keys if not (optimizer == "KFAC" and usual[k].kind == "scalar")]
    assert {k: found[k]["lr"] for k in keys} == {k: usual[k]["lr"] for k in keys}


@pytest.mark.parametrize(
    "name", ["mlp", *(pytest.param(n, marks=pytest.mark.slow) for n in ("resnet", "gated", "rnn"))]
)
def test_less_alignment_allows_more(name: str) -> None:
    """From all aligned to none, in steps: sums of exponents never fall."""
    sums = []
    for t in (Fraction(k, 4) for k in range(5)):
        keys = tpc.scale(text(name), optimizer="SGD").keys
        given = dict.fromkeys(keys, Alignment(1 - t / 2, 1 - t / 2, 1 - t / 2))
        scaling = tpc.scale(text(name), optimizer="SGD", alignment=given)
        sums.append(sum(scaling[key]["lr"] for key in keys))
    assert all(a <= b for a, b in pairwise(sums)) and sums[0] < sums[-1]


def test_a_readout_that_starts_at_0_makes_standard_rates_those_of_mup() -> None:
    """Nothing of the readout is n^(-1/2) before it is trained, so that features may move by Θ(1) although they are aligned with it."""
    drawn = text("mlp")
    zero = drawn.replace("ket |v> ~ N(0, 1)", "ket |v> = 0")
    assert zero != drawn
    standard = {p: tpc.scale(p, optimizer="Adam", alignment="limit").compared["standard"] for p in (drawn, zero)}
    assert [standard[drawn].raw[k]["lr"] for k in NAMES] == [-HALF, -3 * HALF, -3 * HALF, -1]
    assert [standard[zero].raw[k]["lr"] for k in NAMES] == [0, -1, -1, -1]
    assert (standard[drawn].features, standard[zero].features) == (-HALF, 0)


def test_logits_over_the_root_hold_rates_back() -> None:
    """clt ⟨q|k⟩ moves by n^(1/2) at muP's rates: what makes it may move by n^(-1/4) each, or one of them by n^(-1/2)."""
    program = (
        DATA
        + """
ket |u[d]> ~ N(0, 1)
matrix Q ~ N(0, 1)
matrix K ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 2 {
    |h[i]> = sum[d](x[i,d] |u[d]>)
    |q[i]> = Q |h[i]>
    |k[i]> = K |h[i]>
    a[i] = CLT <q[i]|k[i]>
    f[i] = tanh(a[i]) <v|tanh(h[i])>
    loss = mean[i]((f[i] - y[i])^2) / 2
    minimize loss
    update all with Adam(lr = 0.1)
}
output loss[step]
"""
    )
    found = {w: tpc.scale(program.replace("CLT", w), alignment="full") for w in ("", "clt")}
    assert [found[""][k]["lr"] for k in ("Q", "K")] == [-1, -1]
    assert all(found["clt"][k]["lr"] < -1 for k in ("Q", "K"))


# ------------------------------------------------------------------------------------------------------- the solver


@pytest.mark.parametrize("seed", range(30))
def test_linear_programmes(seed: int) -> None:
    draw = random.Random(seed)
    count = draw.randint(1, 6)
    weights = [Fraction(draw.randint(1, 5)) for _ in range(count)]
    programme, above, bounds = LargestSum(weights, Fraction(4)), [], []
    for _ in range(draw.randint(1, 12)):
        slopes = {k: Fraction(draw.randint(1, 3), draw.randint(1, 3)) for k in range(count) if draw.random() < 0.6}
        bound = Fraction(draw.randint(-6, 6), draw.randint(1, 4))
        if slopes:
            programme.cut(slopes, bound)
            above.append([float(slopes.get(k, 0)) for k in range(count)])
            bounds.append(float(bound))
        if draw.random() < 0.5:
            programme.solve()
    found = programme.solve()
    wanted = linprog([-float(w) for w in weights], A_ub=above or None, b_ub=bounds or None, bounds=[(None, 4)] * count)
    assert float(sum(w * e for w, e in zip(weights, found, strict=True))) == pytest.approx(-wanted.fun, abs=1e-8)
    assert all(np.dot(row, [float(e) for e in found]) <= b + 1e-9 for row, b in zip(above, bounds, strict=True))


def test_affine_pieces() -> None:
    x, y = (AffinePower(Fraction(value), {k: Fraction(1)}) for k, value in enumerate((2, 3)))
    found = max(2 * x - 1, y + x / 2, Fraction(1)) + HALF
    assert (found, found.slopes) == (Fraction(9, 2), {0: HALF, 1: 1})
    assert (1 - x, (1 - x).slopes) == (-1, {0: -1})
    assert x + float("-inf") == float("-inf") + x == float("-inf")


# ---------------------------------------------------------------------------------------------------------- files


def measured(tmp_path: Path, written: object) -> str:
    file = tmp_path / "check.json"
    file.write_text(written if isinstance(written, str) else json.dumps(written, indent=1), encoding="utf-8")
    return f"measured={file}"


def test_measured_alignments(tmp_path: Path) -> None:
    rows = {"W": {"alpha": 0.75, "omega": None}, "layers.2.weight": {"declared": "A", "alpha": "5/8", "u": 0.75}}
    scaling = tpc.scale(text("mlp"), alignment=measured(tmp_path, {"alignments": rows}))
    assert [scaling[k]["lr"] for k in NAMES] == [0, -1, Fraction(-3, 4), -1]  # u of W is 1
    assert "taken as fully aligned: |v>" in str(scaling)
    again = {"W": Alignment(Fraction(3, 4), HALF, Fraction(1)), "A": Alignment(Fraction(5, 8), HALF, Fraction(3, 4))}
    assert {k: tpc.scale(text("mlp"), alignment=again)[k]["lr"] for k in NAMES} == {k: scaling[k]["lr"] for k in NAMES}


@pytest.mark.parametrize(
    ("written", "code", "place"),
    [
        ("{", "NX605", "check.json:1:2: "),
        ({"rows": []}, "NX605", "check.json:1:1: "),
        ({"alignments": {"W": 1}}, "NX606", "check.json:3:3: "),
        ({"alignments": {"W": {"alpha": 1.5}}}, "NX606", "check.json:3:3: "),
        ({"alignments": {"W": {"alpha": "much"}}}, "NX606", "check.json:3:3: "),
        ({"alignments": {"W": {"alpha": True}}}, "NX606", "check.json:3:3: "),
        ({"alignments": {"W": {}, "B": {}}}, "NX607", "check.json:4:3: "),
    ],
)
def test_files_that_are_wrong(written: object, code: str, place: str, tmp_path: Path) -> None:
    with pytest.raises(ProgramError) as caught:
        tpc.scale(text("mlp"), alignment=measured(tmp_path, written))
    (found,) = caught.value.diagnostics
    assert (found.code, bool(found.remedy)) == (code, True)
    assert place in found.render()


@pytest.mark.parametrize("alignment", ["some", "measured=", "measured=nowhere.json"])
def test_words_that_are_wrong(alignment: str) -> None:
    with pytest.raises(ProgramError) as caught:
        tpc.scale(text("mlp"), alignment=alignment)
    assert caught.value.diagnostics[0].code == "NX605"


# ------------------------------------------------------------------------------------------------------------ pages


def test_pages() -> None:
    scaling = tpc.scale(text("gated"), optimizer="Adam", alignment="none")
    page, document = str(scaling), scaling.as_json()
    assert "nothing is aligned" in page and "larger rates blow up" in page and "mean-field: features move by" in page
    assert document["alignment"]["parameters"]["A"] == {"alpha": "1/2", "omega": "1/2", "u": "1/2"}
    assert document["parameters"]["A"]["lr"] == "-1/2" and document["held"]["A"] in page
    assert set(document["compared"]) == set(TABLE) and "class" not in document
    assert "'A': {'init_std': -0.5, 'lr': -0.5" in scaling.torch()
    assert "weight_decay" not in scaling["A"].figures


def test_decay_follows_the_learning_rate() -> None:
    scaling = tpc.scale(text("mlp"), optimizer="AdamW", alignment="none")
    assert {k: scaling[k]["weight_decay"] + scaling[k]["lr"] for k in NAMES} == dict.fromkeys(NAMES, 0)


def test_the_picture(tmp_path: Path) -> None:
    """Curves never rise, and the dots are the rates of what was given."""
    pytest.importorskip("matplotlib")
    scaling = tpc.scale(text("mlp"), optimizer="SGD", alignment="full")
    picture = scaling.plot(tmp_path / "rates.svg")
    assert len(picture.axes) == 2 and (tmp_path / "rates.svg").exists()
    for axes, table in zip(picture.axes, (scaling.main, scaling.compared["standard"]), strict=True):
        curves = [line.get_ydata() for line in axes.get_lines() if len(line.get_ydata()) > 1]
        dots = {(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.get_lines() if len(line.get_ydata()) == 1}
        assert all((np.diff(curve) <= 0).all() for curve in curves) and any((np.diff(c) < 0).all() for c in curves)
        assert dots == {(1.0, float(table.raw[name]["lr"])) for name in NAMES}
