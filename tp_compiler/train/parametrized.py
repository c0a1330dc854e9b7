"""The effect of a parametrization on training: the powers of n relative to natural units, or why there is no limit."""

from __future__ import annotations

from dataclasses import dataclass

from tp_compiler.diagnostics import Span
from tp_compiler.ir.model import Member, Target, WidthPowers, meet


@dataclass
class Parametrized:
    """`name` is the requested one, `found` the result of scale/regime.py."""

    name: str
    found: WidthPowers

    @property
    def powers(self) -> WidthPowers | None:
        """The powers of n relative to natural units, if there are any."""
        return None if self.found.natural or self.found.refused else self.found

    @property
    def refused(self) -> bool:
        """Whether the outputs have no meaning."""
        return bool(self.found.refused)

    def refuse(self, why: str, remedy: str, at: Span) -> None:
        """Records that there is no limit, for a reason visible in the program itself."""
        self.found = WidthPowers(refused=why, remedy=remedy, at=at)

    @property
    def shown(self) -> str:
        return "this `parametrization` block" if self.name == "block" else f"`parametrization {self.name}`"

    @property
    def tangential(self) -> bool:
        """Features do not move: the neural tangent limit, and the rest of the operator regime."""
        return self.name == "ntk" or self.found.operator

    def steps(self, target: Target, picks: Member) -> dict[Member, float]:
        """At finite width an update is n^this times what the optimizer returns, member by member if rows distinguish them."""
        if self.powers is None:
            return {picks: -0.5 if self.name == "ntk" and not target.number else 0.0}
        return {
            member: power
            for (name, ket, member), power in self.powers.steps.items()
            if (name, ket) == (target.name, target.ket) and meet(member, picks)
        }
