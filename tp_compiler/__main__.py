"""`python -m tp_compiler` is `tpc`."""

from __future__ import annotations

import gc
import sys

from tp_compiler.cli import main

if __name__ == "__main__":
    code = main()
    gc.freeze()  # nothing is collected when the process ends
    sys.exit(code)
