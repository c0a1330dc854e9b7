"""PyTorch in double precision: it keeps the scalar states of an optimizer in the default dtype."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For small networks: threads cost more than they give."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def quiet_traces() -> None:
    """torch.export logs tens of thousands of records, which pytest would keep."""
    logging.getLogger("torch.__trace").propagate = False


@pytest.fixture
def single_precision(double_precision: None, quiet_traces: None) -> None:
    """Modules as people make them, to be traced."""
    torch = pytest.importorskip("torch")
    torch.set_default_dtype(torch.float32)
