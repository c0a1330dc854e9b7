"""All messages in one file, so that a review sees every word that changes. `--update-golden` rewrites it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.golden.messages import messages

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "tp_compiler"

#: Turns of phrase that are not idiomatic, or that say nothing.
AVOIDED = re.compile(
    r"(?<!there )\bis no (?!longer)|\bas no\b|has no meaning|as it stands|\bstands?\b|\bbehind\b|\bbeside\b|\bgoes? on\b"
    r"|one's own|told apart|but for|is due|\bmade of\b|\bkin\b|any more\b"
)


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return messages(PACKAGE)


def test_messages(lines: list[str], update_golden: bool) -> None:
    actual, expected = "\n".join(lines) + "\n", HERE / "messages.txt"
    if update_golden:
        expected.write_text(actual, encoding="utf-8")
    assert actual == expected.read_text(encoding="utf-8"), "reworded on purpose? run pytest --update-golden"


def test_messages_have_one_style(lines: list[str]) -> None:
    texts = [re.sub(r"^(NX(\d|\?){3}|[a-z ]+): |^    = ", "", line) for line in lines]
    assert [t for t in texts if re.match(r"[A-Z][a-z]", t)] == [], "messages start in lower case"
    assert [t for t in texts if t.endswith(".") and not t.endswith("..")] == [], "messages end without a full stop"
    assert [t for t in texts if AVOIDED.search(t)] == []
    assert [t for t in texts if t.count("`") % 2 and "`{}" not in t] == [], "backticks come in pairs"
