"""The rewriting rules: sound on numbers, idempotent, independent of their order."""

from __future__ import annotations

import random

import numpy as np
import pytest
import sympy as sp

from tests.unit.equations.numbers import Grid, compiled
from tests.unit.equations.programs import PROGRAMS
from tp_compiler.equations.derive import _Derivation, derive
from tp_compiler.equations.overlaps import Meeting
from tp_compiler.equations.simplify import RULES, simplify
from tp_compiler.equations.terms import Expectation, Expr, Ket

MIXED = """
ket |x> ~ N(0, 1)
ket |w> ~ N(1, 1/2)
matrix W ~ N(0, 2)
|h> = W |x>
|c> = tanh(|h>)
|y> = W^T |c>
output a = <y + 2 x|x - w>
output b = <c * w|x + h>
output m = <w * tanh(x)>
output n = <h|h * w>
"""


def _terms(seed: int) -> tuple[list[Expr], object]:
    """Random expectations of products of kets of MIXED."""
    rng = random.Random(seed)
    work = _Derivation(compiled(MIXED), True, Meeting())
    work.walk()
    work.system(None)
    kets = [Ket(name, 0) for name in ("x", "w", "h", "c", "y")]
    found = []
    for _ in range(12):
        factors = [rng.choice(kets) for _ in range(rng.randint(1, 3))]
        wrapped = [
            sp.tanh(f) if rng.random() < 0.3 else f + rng.choice(kets) if rng.random() < 0.4 else f for f in factors
        ]
        found.append(Expectation(rng.choice((1, 2)) * sp.Mul(*wrapped)))
    return found, work.facts


@pytest.mark.parametrize("seed", range(4))
def test_idempotent(seed: int) -> None:
    terms, facts = _terms(seed)
    for e in terms:
        once = simplify(e, facts)
        assert simplify(once, facts) == once


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_rules_does_not_matter(seed: int) -> None:
    terms, facts = _terms(seed)
    rng = random.Random(seed)
    for e in terms:
        wanted = sp.expand(simplify(e, facts))
        for _ in range(4):
            rules = rng.sample(RULES, len(RULES))
            facts.brackets.clear()
            assert sp.expand(simplify(e, facts, rules) - wanted) == 0, e


@pytest.mark.parametrize("seed", range(3))
def test_sound_on_random_terms(seed: int) -> None:
    terms, facts = _terms(seed)
    program = compiled(MIXED)
    grid = Grid(program, derive(program, simplify=False))
    for e in terms:
        np.testing.assert_allclose(grid.value(simplify(e, facts), {}), grid.value(e, {}), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["mixed", "tied", "gradient", "free"])
def test_sound_on_programs(name: str) -> None:
    text = {**PROGRAMS, "mixed": MIXED}[name].replace("axis i, j : 2", "axis i, j : 1")
    program = compiled(text)
    left, right = Grid(program, derive(program, simplify=False)), Grid(program, derive(program))
    for output in program.outputs:
        np.testing.assert_allclose(left.output(output.name), right.output(output.name), atol=1e-6, rtol=1e-6)


def test_every_rule_is_stated() -> None:
    assert all(r.left and r.right and r.when and r.source for r in RULES)
    assert len({r.name for r in RULES}) == len(RULES)
