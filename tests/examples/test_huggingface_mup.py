"""`examples/huggingface_mup.py`: what is wrong with a stock GPT-2 is named, and with muP its coordinate check passes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def example() -> Any:
    path = Path(__file__).resolve().parents[2] / "examples" / "huggingface_mup.py"
    spec = importlib.util.spec_from_file_location("huggingface_mup", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_faults_of_the_stock_model_are_named(example: Any) -> None:
    problems = [str(p) for p in example.check(widths=(32, 64, 128), mup=False).problems]
    for words in ("tied readouts", "init_std of ", "the scale is 1/√d", "lr of "):
        assert any(words in p for p in problems), problems
    assert len(problems) == 4


def test_with_mup_it_passes(example: Any) -> None:
    assert example.check(widths=(32, 64, 128)).passed
