"""A plan as text (`tpc show --stage plan`): spaces, the training loop, and its cost."""

from __future__ import annotations

from collections import Counter

from tp_compiler.evaluate.sampling.conditioning.directions import MANY
from tp_compiler.evaluate.sampling.entry_blocks import block_size
from tp_compiler.evaluate.sampling.memory import memory
from tp_compiler.evaluate.sampling.merge_equal_nodes import shared
from tp_compiler.evaluate.sampling.plan import SamplingPlan
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.program import Program

SHOWN = (12, 14, 16)  # log2 of the numbers of particles that costs are shown for


def described(program: Program) -> str:
    """Spaces, the training loop and the memory that sampling a program takes."""
    plan = SamplingPlan(shared(program))
    lines = [
        f"{len(plan.nodes)} instructions, {len(set(plan.space.values()))} spaces, {len(plan.clts)} clt scalars",
        *_spaces(plan),
        *_loop(plan),
        *_memory(plan),
    ]
    for node, problem in plan.problems.items():
        lines.append(f"refused: {getattr(problem, 'message', problem)} ({node.span.text})")
    return "\n".join(lines) + "\n"


def _spaces(plan: SamplingPlan) -> list[str]:
    kets = Counter(plan.space.values())
    lines = []
    for number in sorted(kets):
        drawn = plan.coordinates[number]
        widths = {n.type.width.name for n in plan.nodes if plan.space.get(n) == number and n.type.is_ket}
        lines.append(
            f"space {number} (width {'/'.join(sorted(widths)) or '-'}): {kets[number]} kets,"
            f" at most {drawn} Gaussian coordinates"
        )
    return lines


def _loop(plan: SamplingPlan) -> list[str]:
    phases = plan.phases
    if phases.loop is None:
        return []
    lines = [
        f"training: {phases.loop.steps} steps; {len(phases.static)} instructions before the loop,"
        f" {len(phases.step)} in each step, {len(phases.last) + len(phases.after)} after the loop, {len(phases.traces)} traces"
    ]
    lines += [f"  state {s.name}: {_kind(s)}" for s in phases.states if not s.is_matrix]
    for cell, linear in zip(plan.cells, plan.linear, strict=True):
        names = ", ".join(s.name for s in cell)
        lines.append(f"  state {names}: {_matrix(plan, cell, linear)}")
    for matrix, products in plan.products.items():
        if products > MANY:
            lines.append(f"  {matrix.name} is applied to {products} kets; nearly dependent ones add no direction")
    return lines


def _kind(state: ir.State) -> str:
    count = state.type.size()
    if not state.type.slots:
        return "a number" if count == 1 else f"{count} numbers"
    return "a ket" if count == 1 else f"{count} kets"


def _matrix(plan: SamplingPlan, cell: list[ir.State], linear: bool) -> str:
    """How a trained matrix and the states of its optimizer are stored."""
    count = cell[0].type.size()
    of = f"{count} matrices, " if count > 1 else ""
    if linear:
        return f"{of}low rank: at most {plan.outer_products(cell)} outer products"
    sizes = ", ".join(f"{block_size(2**e)} for 2^{e}" for e in SHOWN)
    return f"{of}entries in blocks of P x P pairs of particles, P = {sizes}"


def _memory(plan: SamplingPlan) -> list[str]:
    lines = []
    for exponent in SHOWN:
        m = memory(plan, 2**exponent)
        parts = f"kets {m.kets / 1e6:.0f}, conditioning {m.conditioning / 1e6:.0f}"
        if plan.phases.loop is not None:
            parts += f", states {m.states / 1e6:.0f}, trained matrices {m.trained / 1e6:.0f}"
        lines.append(f"memory with 2^{exponent} particles: {m.total / 1e6:.0f} MB per replicate ({parts})")
    return lines
