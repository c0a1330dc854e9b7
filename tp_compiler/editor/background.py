"""Checks in a process of their own, one at a time: the latest version of each program, a moment after the last change."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

from tp_compiler.editor.checking import Report, from_line
from tp_compiler.editor.program import Open

#: Seconds without a change before a check starts, and seconds after which the check of an outdated version is ended.
PAUSE = 0.2
PATIENCE = 2.0
COMMAND = (sys.executable, "-m", "tp_compiler.editor.checking")
_LONGEST_LINE = 2**28


class Checks:
    """`done` is called with every report, and the program that was checked."""

    def __init__(self, done: Callable[[str, Open, Report], None]):
        self.done = done
        self.waiting: dict[str, Open] = {}
        self._changed = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._task = asyncio.create_task(self._run())

    def request(self, uri: str, program: Open) -> None:
        """Checks a program soon, in place of its earlier versions."""
        self.waiting[uri] = program
        self._changed.set()

    async def stop(self) -> None:
        """Ends the process, and waits for its end."""
        self._task.cancel()
        process = self._process
        self._kill()
        if process is not None:
            await process.wait()

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            while self._changed.is_set():
                self._changed.clear()
                await asyncio.sleep(PAUSE)
            while self.waiting and not self._changed.is_set():
                uri = next(iter(self.waiting))
                program = self.waiting.pop(uri)
                found = await self._checked(uri, program)
                if found is not None:
                    self.done(uri, program, found)

    async def _checked(self, uri: str, program: Open) -> Report | None:
        """The report; None if a newer version has made it useless, or if the process has ended."""
        process = await self._started()
        assert process.stdin is not None and process.stdout is not None
        request = json.dumps({"text": program.text, "path": program.path}) + "\n"
        try:
            process.stdin.write(request.encode())
            await process.stdin.drain()
            return await self._answer(uri, process.stdout)
        except (OSError, ValueError):  # the process has ended, or its answer is not a report
            self._kill()
            return None

    async def _answer(self, uri: str, output: asyncio.StreamReader) -> Report | None:
        answer = asyncio.ensure_future(output.readline())
        await asyncio.wait([answer], timeout=PATIENCE)
        while not answer.done():
            if uri in self.waiting:
                answer.cancel()
                self._kill()
                return None
            await asyncio.wait([answer], timeout=PAUSE)
        return from_line(answer.result())

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *COMMAND,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LONGEST_LINE,
                cwd=Path(__file__).parents[2],
            )  # fmt: skip
        return self._process

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        self._process = None
