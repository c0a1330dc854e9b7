"""The graph of a limit's quantities: against the equations, and as text."""

from __future__ import annotations

import itertools
import random

import pytest

import tp_compiler as tpc
from tp_compiler.report.graph_dot import names
from tp_compiler.report.plots.layers import crossings, layout

PROGRAM = """
axis i : 2
data x[i] = [1, -2]
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
matrix W ~ N(0, 2)
|h[i]> = W^T tanh(W tanh(x[i] |u>))
output f[i] = clt <v|h[i]>
output k = <h[1]|u>
"""
TRAINED = """
ket |u> ~ N(0, 1)
ket |v> ~ N(0, 1)
train steps = 3 {
    f = <v|tanh(u)>
    minimize (f - 1)^2
    update |u>, |v> with Adam(lr = 0.1)
}
output f[step]
"""


def arrows(text: str) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Pairs of names: those within a step, and those from an earlier one."""
    graph = tpc.equations(text).graph()
    shown = names(graph)
    within = {(shown[a.source], shown[a.target]) for a in graph.arrows if not a.earlier}
    return within, {(shown[a.source], shown[a.target]) for a in graph.arrows if a.earlier}


def test_a_product_has_a_hat_and_a_dot() -> None:
    """Read off the equations by hand."""
    read = {
        "|z1_i⟩": ["|u⟩"],
        "Ŵ|z1_i⟩": ["|z1_i⟩"],
        "|z2_i⟩": ["Ŵ|z1_i⟩"],
        "|z3_i⟩": ["|z2_i⟩"],
        "θ1_i": ["|z1_i⟩", "|z2_i⟩", "|z3_i⟩"],  # 2 E[∂|z3_i⟩/∂Ŵ|z1_i⟩] = 2 - 2 E[tanh²(|z2_i⟩)]
        "Ŵᵀ|z3_i⟩": ["|z3_i⟩"],
        "Ẇᵀ|z3_i⟩": ["θ1_i", "|z1_i⟩"],
        "|h_i⟩": ["Ŵᵀ|z3_i⟩", "Ẇᵀ|z3_i⟩"],
        "f_i": ["|h_i⟩"],  # N(0, ⟨h_i|h_i⟩)
        "k": ["|u⟩", "|z1_i⟩", "θ1_i"],
    }
    within, back = arrows(PROGRAM)
    # The readout of a `clt` scalar is gone with its variance, 1.
    assert within - {("|v⟩", "f_i")} == {(source, target) for target, sources in read.items() for source in sources}
    assert not back


def test_states_lead_back() -> None:
    within, back = arrows(TRAINED)
    assert {("|u_0⟩", "|u_t⟩"), ("|u_t⟩", "f_t"), ("|v_t⟩", "f_t")} <= within
    assert {("|u_t⟩", "|u_t⟩"), ("|m^u_t⟩", "|u_t⟩"), ("|du_t⟩", "|m^u_t⟩")} <= back
    assert {target for _, target in back} == {f"|{x}_t⟩" for x in ("u", "v", "m^u", "m^v", "v^u", "v^v")}


@pytest.mark.parametrize("example", ["tied_weights", "train_mlp", "transformer", "muon", "shampoo", "state_space"])
def test_arrows_within_a_step_lead_forward_and_reach_every_output(example: str) -> None:
    graph = tpc.equations(f"examples/{example}.nexort").graph()
    forward = [(a.source, a.target) for a in graph.arrows if not a.earlier]
    assert all(source < target for source, target in forward)
    read = {target for _, target in forward}
    outputs = [k for k, vertex in enumerate(graph.vertices) if vertex.output]
    assert outputs and all(k in read or "untied" in names(graph)[k] for k in outputs)


def test_the_text_is_graphviz() -> None:
    text = tpc.equations(PROGRAM).graph().dot()
    lines = text.splitlines()
    assert lines[0] == "digraph limit {" and lines[-1] == "}"
    count = len(tpc.equations(PROGRAM).graph().vertices)
    assert sum("label=" in line for line in lines) == count
    assert sum("peripheries=2" in line for line in lines) == 2


@pytest.mark.parametrize("case", range(20))
def test_layers(case: int) -> None:
    """Every arrow leads down, nothing overlaps, and sweeps leave no more crossings than the order of the text."""
    rng = random.Random(case)
    count = rng.randint(2, 14)
    pairs = [(a, b) for a, b in itertools.combinations(range(count), 2) if rng.random() < 0.25]
    widths = [rng.uniform(0.5, 2) for _ in range(count)]
    found = layout(widths, pairs)
    assert all(found.places[a][1] < found.places[b][1] for a, b in pairs)
    for depth in range(found.depth):
        row = sorted((x, w) for (x, level), w in zip(found.places, widths, strict=True) if level == depth)
        assert all(b[0] - a[0] >= (a[1] + b[1]) / 2 for a, b in itertools.pairwise(row))
    for (source, target), route in found.routes.items():
        assert [depth for _, depth in route] == list(range(found.places[source][1], found.places[target][1] + 1))


def test_crossings_are_counted() -> None:
    assert crossings([[0, 1], [2, 3]], [[3], [2], [], []]) == 1
    assert crossings([[0, 1], [2, 3]], [[2, 3], [2, 3], [], []]) == 1
    assert crossings([[0, 1], [2, 3]], [[2], [3], [], []]) == 0


def test_a_complete_tree_is_drawn_without_crossings() -> None:
    pairs = [(k, child) for k in range(7) for child in (2 * k + 1, 2 * k + 2)]
    shuffled = {v: k for k, v in enumerate([0, 2, 1, 5, 4, 6, 3, 12, 8, 13, 9, 7, 10, 14, 11])}
    found = layout([1.0] * 15, [(shuffled[a], shuffled[b]) for a, b in pairs])
    rows = [sorted((x, v) for v, (x, depth) in enumerate(found.places) if depth == level) for level in range(4)]
    below: list[list[int]] = [[] for _ in range(15)]
    for a, b in pairs:
        below[shuffled[a]].append(shuffled[b])
    assert crossings([[v for _, v in row] for row in rows], below) == 0
