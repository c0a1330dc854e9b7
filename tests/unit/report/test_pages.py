"""Text, JSON, LaTeX and HTML of a fabricated result."""

from __future__ import annotations

import dataclasses
import json as standard_json

import numpy as np
import pytest

from tests.unit.report.fabricate import estimate
from tp_compiler._version import __version__
from tp_compiler.report import acceptance as finite
from tp_compiler.report import json
from tp_compiler.results import Run, settled


def test_text_shows_every_output_with_its_error(run: Run) -> None:
    text = str(run)
    assert text.startswith("mlp.nexort: limit n → ∞\n")
    assert "m = 0.50120(30)   [qmc]" in text
    assert (
        "nngp[i, j]   2 × 2   [qmc]\n    i\\j             1             2\n      1   0.37940(12)  0.100000(30)\n"
        in text
    )
    assert "i = 2\n" in text
    assert "g[i]   2   [gaussian, qmc]" in text and "covariance" in text
    assert "k   not computed [NX810]: ntk is <not> evaluated by this version\n  remove it" in text
    assert text.endswith(f"seed 0 · M 4096 · R 8 · backend numpy · 1.25 s · tpc {__version__}")


def test_text_abbreviates_large_arrays(run: Run) -> None:
    big = dataclasses.replace(run, outputs={"b": estimate(np.zeros((20, 50, 60)), 0.1, ("a", "b", "c"))})
    assert len(str(big).splitlines()) < 110
    assert "…" in str(big)


def test_text_counts_step_from_zero(run: Run) -> None:
    steps = dataclasses.replace(run, outputs={"f": estimate([1.0, 2.0], 0.1, ("step",))})
    assert "\n       0  1.00(10)\n       1  2.00(10)" in str(steps)


def test_empty_and_scalar_covariance(run: Run) -> None:
    outputs = {
        "none": estimate(np.zeros((0, 2)), 0.0, ("i", "j")),
        "c": estimate(0.0, law="gaussian", covariance=np.array([[2.0]]), covariance_stderr=np.array([[0.1]])),
    }
    text = str(dataclasses.replace(run, outputs=outputs))
    assert "(empty)" in text and "variance 2.00(10)" in text


def test_json_is_the_documented_one(run: Run) -> None:
    document = standard_json.loads(json.dumps(json.run_document(run)))
    head = ["program", "version", "command", "seed", "samples", "replicates", "backend", "seconds"]
    assert list(document) == [*head, "outputs", "failed", "warnings"]
    assert document["outputs"]["exact"] == {
        "axes": ["i", "j"],
        "shape": [1, 2],
        "value": [[1.0, 1 / 3]],
        "stderr": 0.0,
        "method": "closed-form",
    }
    assert document["outputs"]["f"]["stderr"] == [0.1, 0.02]
    assert document["outputs"]["m"]["value"] == 0.5012 and document["outputs"]["m"]["shape"] == []
    assert document["outputs"]["g"]["law"] == "gaussian"
    assert document["outputs"]["g"]["covariance"] == [[1.0, 0.25], [0.25, 2.0]]
    assert document["failed"] == {"k": {"code": "NX810", "message": "ntk is <not> evaluated by this version"}}
    assert document["warnings"] == [{"code": "NX901", "message": "not converged"}]


def test_json_refuses_what_is_not_finite(run: Run) -> None:
    broken = dataclasses.replace(run, outputs={"m": estimate(np.nan), "n": estimate([1.0, 2.0], [0.1, np.inf], ("i",))})
    with pytest.raises(ValueError):
        json.dumps(json.run_document(broken))
    mended = settled(broken)
    assert set(mended.failed) == {"m", "n", "k"} and not mended.outputs
    assert settled(run) is run


def test_unmet_tolerances(run: Run) -> None:
    assert finite.unmet(run, rtol=None, atol=None) == []
    assert "t" in finite.unmet(run, rtol=None, atol=1e-4)
    assert finite.unmet(run, rtol=0.0, atol=1.0) == []
    assert "g" in finite.unmet(run, rtol=0.0, atol=1e-5)  # by the error of its covariance


def test_latex(run: Run) -> None:
    from tp_compiler.report.latex import run_latex

    text = run_latex(run)
    matrix = r"\begin{pmatrix} 0.37940(12) & 0.100000(30) \\ 0.100000(30) & 2.50000(10) \end{pmatrix}"
    assert rf"\[ \text{{nngp}}_{{i,j}} = {matrix} \]" in text
    assert r"\text{\textless{}x\textbar{}y\textgreater{} \& \$a\_b\$} = 1.000(20)\times 10^{-9}" in text
    assert r"\operatorname{Cov}(g)" in text
    assert "% k: ntk is" in text
    assert text.count("{") == text.count("}")
    assert run._repr_latex_().startswith("$$") and run._repr_latex_().endswith("$$")


def test_html_escapes(run: Run) -> None:
    page = run._repr_html_()
    assert "&lt;x|y&gt; &amp; $a_b$" in page
    assert "ntk is &lt;not&gt; evaluated" in page
    assert "<td>0.37940(12)</td>" in page
    assert "×10<sup>-9</sup>" in page


def test_repr_is_short(run: Run) -> None:
    assert repr(dataclasses.replace(run, outputs={"m": run.outputs["m"]})) == "<Run limit mlp.nexort: m; failed: k>"
    assert list(run) == list(run.outputs)
    with pytest.raises(KeyError, match="could not be computed"):
        run["k"]
