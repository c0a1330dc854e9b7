"""Checks beside the server: the latest version counts, and a process that dies or hangs is replaced."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tp_compiler.editor import background
from tp_compiler.editor.background import Checks
from tp_compiler.editor.checking import Report
from tp_compiler.editor.program import Open

pytestmark = pytest.mark.slow
GOOD, BAD = "ket |x> ~ N(0, 1)\noutput <x|x>\n", "ket |x> ~ N(0, 1)\noutput <x|y>\n"


async def reports(programs: list[str], wanted: int) -> list[tuple[str, Report]]:
    """The texts that were checked, and their reports, until there are as many as wanted."""
    found: asyncio.Queue[tuple[str, Report]] = asyncio.Queue()
    checks = Checks(lambda uri, program, report: found.put_nowait((program.text, report)))
    for text in programs:
        checks.request("p", Open("-", text))
        await asyncio.sleep(2 * background.PAUSE)
    answer = [await found.get() for _ in range(wanted)]
    await checks.stop()
    return answer


def test_the_last_version_is_checked() -> None:
    async def session() -> None:
        found: asyncio.Queue[tuple[str, Report]] = asyncio.Queue()
        checks = Checks(lambda uri, program, report: found.put_nowait((program.text, report)))
        for text in (BAD, BAD + "\n", GOOD):  # typed faster than checked
            checks.request("p", Open("-", text))
        text, report = await found.get()
        assert text == GOOD and report.findings == () and found.empty()
        await checks.stop()

    asyncio.run(session())


def script(tmp_path: Path, text: str) -> tuple[str, str]:
    path = tmp_path / "checker.py"
    path.write_text(text, encoding="utf-8")
    return sys.executable, str(path)


FIRST = """
import os, sys, time
mark = {mark!r}
if not os.path.exists(mark):
    open(mark, "w").close()
    sys.stdin.readline()
    {does}
os.execv(sys.executable, [sys.executable, "-m", "tp_compiler.editor.checking"])
"""


@pytest.mark.parametrize(
    "does", ["sys.exit(1)", "print('no report'); sys.stdout.flush(); time.sleep(3600)", "time.sleep(3600)"]
)
def test_a_process_that_fails_is_replaced(does: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends, answers nonsense, or does not answer while a newer version waits."""
    monkeypatch.setattr(background, "COMMAND", script(tmp_path, FIRST.format(mark=str(tmp_path / "mark"), does=does)))
    monkeypatch.setattr(background, "PATIENCE", 0.1)
    ((text, report),) = asyncio.run(reports([GOOD, BAD], 1))
    assert text == BAD and [f.code for f in report.findings] == ["NX102"]
