"""Every instruction on degenerate arguments through every command: a value or a ProgramError, never anything else."""

from __future__ import annotations

import pytest

from tests.campaigns.commands import faults
from tests.campaigns.instructions import programs

QUICK = dict(programs(every=29))
MORE = dict(programs(every=4, offset=1))


@pytest.mark.parametrize("name", QUICK)
def test_an_instruction_on_degenerate_arguments(name: str) -> None:
    assert not faults(QUICK[name]), QUICK[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MORE.keys() - QUICK.keys()))
def test_many_instructions_on_degenerate_arguments(name: str) -> None:
    assert not faults(MORE[name]), MORE[name]
