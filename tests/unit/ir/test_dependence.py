"""When `clt` brackets are Gaussian, and jointly so: the conditions of the limit, on programs."""

from __future__ import annotations

import pytest

import tp_compiler
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.dependence import Dependence, clt_pair_problem, clt_problem
from tp_compiler.ir.walk import reachable

HEAD = """
ket |v> ~ N(0, 1)
ket |w> ~ N(0, 1)
ket |x> ~ N(0, 1)
ket |m> ~ N(1, 1)
matrix W ~ N(0, 1)
matrix V ~ N(0, 1)
"""


def brackets(text: str) -> tuple[Dependence, list[ir.Clt]]:
    program = tp_compiler.compile(HEAD + text)
    roots = [o.node for o in program.outputs]
    return Dependence(roots), [n for n in reachable(roots) if isinstance(n, ir.Clt)]


@pytest.mark.parametrize(
    "bracket, gaussian",
    [
        ("<v|x>", True),
        ("<v|tanh(W tanh(x))>", True),
        ("<tanh(x)|2 v + w>", True),
        ("<v|W|x>", True),
        ("<x|x>", False),
        ("<tanh(x)>", False),
        ("<m|x>", True),
        ("<m|tanh(x)>", False),
        ("<x|tanh(x)>", False),
        ("<tanh(v)|tanh(x)>", False),
        ("<v|W|tanh(W^T v)>", False),
        ("<W x|V x>", True),
        ("<W x|W x>", False),
        ("<1|(W |x> + W^T |w>)>", False),
        ("<v|(W |x> + W^T |w>)>", True),
    ],
)
def test_one_bracket(bracket: str, gaussian: bool) -> None:
    dependence, (node,) = brackets(f"output clt {bracket}")
    assert (clt_problem(dependence, node) is None) == gaussian


def test_a_bracket_with_a_transposed_matrix_on_both_sides_is_refused() -> None:
    """g = Wᵀv and x = W(z * g): x holds a multiple of v, though v looks fresh to neither."""
    dependence, (node,) = brackets("|g> = W^T |v>\n|h> = W (|w> * |g>)\noutput clt <v|h>")
    problem = clt_problem(dependence, node)
    assert problem is not None and problem.code == "NX451"


def test_queries_and_keys_of_attention() -> None:
    dependence, (node,) = brackets("|q> = W tanh(|x>)\n|k> = V tanh(|x>)\noutput clt <q|k>")
    assert clt_problem(dependence, node) is None


@pytest.mark.parametrize(
    "one, two, joint",
    [
        ("<v|x>", "<w|x>", True),
        ("<v|x>", "<v|tanh(x)>", True),
        ("<v|W|w>", "<w|W^T|v>", False),
    ],
)
def test_pairs(one: str, two: str, joint: bool) -> None:
    dependence, (a, b) = brackets(f"output clt {one}\noutput clt {two}")
    problem = clt_pair_problem(dependence, a, b)
    assert (problem is None) == joint
    assert joint or (problem is not None and problem.code == "NX452")


def test_scalars_carry_no_dependence() -> None:
    dependence, (node,) = brackets("output clt <v|(<v|v> * tanh(|x>))>")
    assert clt_problem(dependence, node) is None
