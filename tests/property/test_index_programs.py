"""Names of indices mean nothing, and three roads give the same numbers: random programs full of indices."""

from __future__ import annotations

import numpy as np
import pytest

import tp_compiler as tpc
from tests.property.index_checks import dependence_on_names, disagreements, training_under_names
from tests.property.index_programs import NAMES, index_program
from tests.unit.expand.roundtrip import holds
from tp_compiler.evaluate.exact import ket_formula as forms


@pytest.mark.parametrize("seed", range(36))
def test_names_mean_nothing(seed: int) -> None:
    assert dependence_on_names(seed) == []


@pytest.mark.parametrize("seed", range(50, 58))
def test_three_roads(seed: int) -> None:
    assert disagreements(seed) == []


@pytest.mark.parametrize("seed", range(3))
def test_training(seed: int) -> None:
    assert training_under_names(seed) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 20))
def test_more_training(seed: int) -> None:
    assert training_under_names(seed) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10_000, 10_100))
def test_many_on_three_roads(seed: int) -> None:
    assert disagreements(seed) == []


@pytest.mark.long
@pytest.mark.parametrize("first", range(0, 3000, 100))
def test_three_thousand(first: int) -> None:
    assert [found for seed in range(first, first + 100) for found in disagreements(seed)] == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30))
def test_written_out(seed: int) -> None:
    """`expand` reads the names and writes its own."""
    holds(index_program(seed).text(seed))


@pytest.mark.parametrize("seed", range(20))
def test_sums_by_reference_are_the_same_sums(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long sums of Gaussians enter others as one part, which is placed as a whole."""
    program = tpc.compile(index_program(seed, 5, 4, more=seed % 2 == 0).text(seed))
    apart = tpc.limit(program, method="exact")
    monkeypatch.setattr(forms, "MOST_PARTS", 1)
    whole = tpc.limit(program, method="exact")
    assert whole.outputs.keys() == apart.outputs.keys()
    for name in apart.outputs:
        np.testing.assert_allclose(whole[name], apart[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_statements_are_renamed_one_by_one() -> None:
    program = index_program(1)
    texts = {program.text(seed) for seed in range(5)}
    assert len(texts) == 5 and program.text() not in texts
    assert all(text.count("\n") == len(program.lines) for text in texts)
    assert all(f"axis {', '.join(names)} :" in text for names in NAMES.values() for text in texts)
