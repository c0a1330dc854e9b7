"""The command `tpc` before anything is imported: Ctrl-C ends it at once, without a word."""

from __future__ import annotations

import os
import signal
from typing import Any


def main() -> int:
    """`tp_compiler.cli.main`; it takes over the signal as soon as it runs."""

    def leave(number: int, frame: Any) -> None:
        os._exit(130)

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, leave)
    from tp_compiler.cli import main as run

    return run()
