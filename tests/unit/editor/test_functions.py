"""The tables of words say what the language has, and their formulas are its functions."""

from __future__ import annotations

import tp_compiler
from tp_compiler.check.hints import LIBRARIES
from tp_compiler.check.laws import DATA, KETS, MATRICES
from tp_compiler.check.parametrize import PARAMETRIZATIONS
from tp_compiler.editor import keywords
from tp_compiler.editor.functions import (
    BUILTINS,
    CONSTANTS,
    FORMULAS,
    LAWS,
    OPTIMIZERS,
    definitions,
    functions_of_the_language,
    words,
)
from tp_compiler.frontend.tokens import INNER, KEYWORDS
from tp_compiler.ir.primitives import CALLABLE, PRIMITIVES
from tp_compiler.ir.shape_factors import NAMES


def test_every_word_has_a_row() -> None:
    assert {*BUILTINS, *CONSTANTS, *CALLABLE} == functions_of_the_language()
    assert set(LAWS) == {*KETS, *MATRICES, *DATA}
    assert set(keywords.STATEMENTS) == set(KEYWORDS)
    assert {*PARAMETRIZATIONS, *LIBRARIES, *NAMES, *"abcd"} <= set(keywords.PLACES)
    assert set(keywords.INNER) == {word for words in INNER.values() for word in words} | {"clt"}


def test_formulas_are_the_functions() -> None:
    places = (-7.3, -2.5, -0.4, 0.0, 0.7, 3.5, 6.25)
    lines = [f"fn {name}_(x) = {text.replace('slope', '0.2')}" for name, text in FORMULAS.items()]
    lines += [f"output {name}_{k} = {name}_({x})" for name in FORMULAS for k, x in enumerate(places)]
    run = tp_compiler.limit("\n".join(lines))
    for name in FORMULAS:
        for k, x in enumerate(places):
            arguments = (x, 0.2) if name == "leaky_relu" else (x,)
            assert abs(run[f"{name}_{k}"] - PRIMITIVES[name].scalar(*arguments)) < 1e-12, (name, x)


def test_forms_start_with_their_names() -> None:
    for name, word in words().items():
        assert name in word.form, name
        assert word.says.endswith((".", "")), name


def test_examples_of_keywords_are_sound() -> None:
    for word, (form, _) in keywords.STATEMENTS.items():
        assert form.startswith(word), word
    program = "\n".join(
        keywords.STATEMENTS[w][0] for w in ("nexort", "import", "axis", "width", "scalar", "ket", "matrix", "fn") if w
    ).replace("|u[d]>", "|u>")
    assert [d.code for d in tp_compiler.check(program)] == ["NX903"]


def test_libraries_are_described() -> None:
    assert {"SGD", "Adam", "Muon"} <= {n for library in OPTIMIZERS for n in definitions(library)}
    found = definitions("layers")["layernorm"]
    assert found.head == "def layernorm(|x>, eps = 1e-5)" and found.parameters == ("x", "eps")
    assert found.says.startswith("Layer normalisation over the neurons")
    assert words()["NAdam"].form.endswith(")") and "\n" not in words()["NAdam"].form
    assert words()["relu"].form == "relu(x)" and words()["leaky_relu"].form == "leaky_relu(x, slope = 0.01)"
