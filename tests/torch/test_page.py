"""The Python of docs/torch.md runs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

PAGE = (Path(__file__).parents[2] / "docs" / "torch.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_python_of_the_page_runs() -> None:
    found: dict[str, Any] = {}
    for block in BLOCKS:
        if "transformers" not in block or importlib.util.find_spec("transformers"):
            exec(block, found)
    assert found["kernel"].shape == (4, 4)
