"""`%%nexort` in an IPython shell: variables of Python in, results out. It needs the notebook extra, hence slow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc

pytestmark = pytest.mark.slow
pytest.importorskip("IPython")

KERNEL = """axis i, j
axis d
data xi[i,d]
gain = 2
ket |u[d]> ~ N(0, 1)
|h[i]> = sqrt(gain) * sum[d](xi[i,d] |u[d]>)
output k[i,j] = <h[i]|h[j]>
output f = <tanh(h[1])>
"""
X = np.array([[1.0, 0.5], [-0.3, 0.8], [0.2, -1.1]])


@pytest.fixture
def shell() -> Iterator[Any]:
    from IPython.core.interactiveshell import InteractiveShell

    found = InteractiveShell()
    found.run_line_magic("load_ext", "tp_compiler")
    found.user_ns.update(xi=X, np=np)
    yield found
    InteractiveShell.clear_instance()


def test_data_are_variables_of_the_notebook(shell: Any) -> None:
    run = shell.run_cell_magic("nexort", "kernel --limit --only k", KERNEL)
    np.testing.assert_allclose(run["k"], 2 * X @ X.T, rtol=1e-12)
    assert shell.user_ns["kernel_limit"] is run and list(run) == ["k"]
    assert [o.name for o in shell.user_ns["kernel"].outputs] == ["k", "f"]


def test_settings_and_data_may_be_expressions(shell: Any) -> None:
    shell.user_ns.update(big=3 * X, g=[1.0, 5.0])
    run = shell.run_cell_magic("nexort", "--limit --data xi=big[:2] --set gain=g[1] --only k", KERNEL)
    np.testing.assert_allclose(run["k"], 45 * X[:2] @ X[:2].T, rtol=1e-12)


def test_a_cell_without_a_name_returns_its_program(shell: Any) -> None:
    program = shell.run_cell_magic("nexort", "", KERNEL)
    np.testing.assert_allclose(tpc.limit(program, only=["k"])["k"], 2 * X @ X.T)
    assert shell.run_cell_magic("nexort", "named", KERNEL) is None and "named" in shell.user_ns


def test_every_result_in_order(shell: Any, capsys: Any) -> None:
    shown: list[Any] = []
    options = "all --equations --limit --simulate 8 --verify 8,16 --scale --seeds 4 --samples 64"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tp_compiler.notebook.display", shown.append)
        last = shell.run_cell_magic("nexort", options, KERNEL)
    kinds = [type(piece).__name__ for piece in (*shown, last)]
    assert kinds == ["System", "Run", "Run", "Verification", "Scaling"]
    assert shell.user_ns["all_simulate"].settings["width"] == 8 and shell.user_ns["all_verify"] is shown[-1]
    assert shell.user_ns["all_limit"].settings["samples"] in (0, 64)


def test_pictures(shell: Any) -> None:
    pytest.importorskip("matplotlib")
    shown: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tp_compiler.notebook.display", shown.append)
        options = "--plot --theme dark --networks 8 --seeds 2 --only f"
        picture = shell.run_cell_magic("nexort", options, KERNEL)
    assert [type(piece).__name__ for piece in shown] == ["Run"]
    assert picture.theme.name == "dark" and "n = 8" in picture._repr_svg_()


def test_a_width(shell: Any) -> None:
    run = shell.run_cell_magic("nexort", "--limit --width 64 --only f", KERNEL)
    assert run.outputs["f"].fluctuations is not None and abs(run.at_width(64)["f"] - run["f"]) < 0.05


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--limti", "unrecognized arguments: --limti"),
        ("--samples 3", "expected a power of two"),
        ("--set gain", "expected NAME=EXPRESSION, got 'gain'"),
        ("--limit --set gain=lost", "lost: NameError: name 'lost' is not defined"),
        ("'", "No closing quotation"),
    ],
)
def test_mistakes_in_the_first_line(shell: Any, line: str, message: str) -> None:
    from IPython.core.error import UsageError

    with pytest.raises(UsageError, match=message):
        shell.run_cell_magic("nexort", line, KERNEL)


def test_mistakes_in_the_program(shell: Any) -> None:
    with pytest.raises(tpc.ProgramError, match="NX102"):
        shell.run_cell_magic("nexort", "--limit", KERNEL + "output g = <lost>\n")
    del shell.user_ns["xi"]
    with pytest.raises(tpc.ProgramError, match="xi"):
        shell.run_cell_magic("nexort", "--limit", KERNEL)


def test_the_package_needs_no_ipython() -> None:
    import subprocess
    import sys

    code = "import sys, tp_compiler; sys.exit('IPython' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_names_and_options_of_cells(shell: Any) -> None:
    from IPython.core.error import UsageError

    with pytest.raises(UsageError, match="cannot be the name of a variable"):
        shell.run_cell_magic("nexort", "3x --limit", KERNEL)
    with pytest.raises(UsageError, match="did you mean --limit"):
        shell.run_cell_magic("nexort", "--lmit", KERNEL)
    assert "--equations" in shell.find_cell_magic("nexort").__doc__
