"""Entry point of the command `tpc`: until the package is imported, Ctrl-C exits at once and prints nothing."""

from __future__ import annotations

import gc
import os
import signal
from typing import Any


def main() -> int:
    """Call `tp_compiler.cli.main`, which installs its own signal handler as soon as it runs."""

    def leave(number: int, frame: Any) -> None:
        os._exit(130)

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, leave)
    from tp_compiler.cli import main as run

    code = run()
    gc.freeze()  # nothing is collected when the process ends
    return code
