"""`python -m tp_compiler` is `tpc`."""

from __future__ import annotations

import sys

from tp_compiler.cli import main

if __name__ == "__main__":
    sys.exit(main())
