"""What must hold of every program that is written out: it is canonical, it reads back, and it computes the same."""

from __future__ import annotations

import re

import numpy as np

from tp_compiler import driver
from tp_compiler.diagnostics import Source


def expanded(text: str, name: str = "p.nexort") -> str:
    return driver.expand(Source(name, text))


def holds(text: str, name: str = "p.nexort", width: int = 12) -> str:
    """The text written out, after every check; networks of both programs are drawn from the same seeds."""
    written = expanded(text, name)
    source, again = Source(name, text), Source(name, written)
    assert driver.format(again) == written
    assert expanded(written, name).count("\n") == written.count("\n"), written
    first, second = (driver.simulate(driver.compile(s), width=width, seeds=2) for s in (source, again))
    assert first.failed.keys() == second.failed.keys()
    for (key, x), (other, y) in zip(first.outputs.items(), second.outputs.items(), strict=True):
        assert key == other or not key.isidentifier()
        assert x.value.shape == y.value.shape, key
        np.testing.assert_allclose(y.value, x.value, rtol=1e-9, atol=1e-10 * (1 + np.abs(x.value).max()), err_msg=key)
    return written


def statements(text: str) -> list[str]:
    """The statements of a program in canonical layout, lines that go on joined."""
    return re.sub(r"\n {4,}(?=[^ ])", " ", text).strip().split("\n")
