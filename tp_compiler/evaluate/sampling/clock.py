"""Progress and time while replicates run in parallel: training steps done, and when to stop."""

from __future__ import annotations

import time
from threading import Lock
from typing import TYPE_CHECKING

from tp_compiler.diagnostics import Diagnostic
from tp_compiler.evaluate.options import Options

if TYPE_CHECKING:
    from tp_compiler.evaluate.sampling.plan import SamplingPlan


class OutOfTime(Exception):
    """`max_time` has passed; raised at a step of training, or inside an average over copies."""


class ProgressClock:
    """Shared by the threads of a run. Time is checked before every instruction and in averages over copies."""

    def __init__(self, plan: SamplingPlan, options: Options, start: float):
        loop = plan.phases.loop
        self.steps = loop.steps if loop is not None else 0
        self.options = options
        self.deadline = start + options.max_time if options.max_time is not None else float("inf")
        self.lock = Lock()
        self.done = 0  # steps of all replicates at this level
        self.stopped = False
        self.note = ""

    def begin(self, note: str) -> None:
        self.done, self.note = 0, note

    def pause(self) -> None:
        """Raises OutOfTime if the work must end here."""
        if self.stopped or time.monotonic() > self.deadline:
            raise OutOfTime

    def tick(self, replicates: int = 1) -> None:
        """One step of some replicates is done."""
        self.pause()
        with self.lock:
            self.done += replicates
            if self.options.progress is not None:
                total = self.steps * self.options.replicates
                step = self.done // self.options.replicates
                self.options.progress(self.done, total, f"{self.note}, step {step} of {self.steps}")

    def finished(self, count: int) -> None:
        """`count` replicates are done; of programs without training, and elsewhere, this is the progress."""
        if self.options.progress is not None and (not self.steps or self.options.crew is not None):
            self.options.progress(count, self.options.replicates, self.note)

    def stop(self) -> None:
        self.stopped = True

    def too_slow(self, samples: int) -> Diagnostic:
        """Nothing was computed in the time allowed."""
        total = self.steps * self.options.replicates
        done = f": {self.done} of {total} steps with M = {samples}" if total else f", M = {samples}"
        message = f"the time limit was reached during the smallest run{done}"
        return Diagnostic("NX433", message, None, "raise `--max-time`, or use fewer steps or a smaller `--replicates`")
