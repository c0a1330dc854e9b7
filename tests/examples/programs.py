"""The example programs, and the options of `tpc verify` in their comments."""

from __future__ import annotations

import re
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROGRAMS = sorted(EXAMPLES.glob("*.nexort"))


def verify_options(path: Path) -> list[str]:
    """The words after `# verify:`; none for a program without that comment."""
    found = re.search(r"^# verify:(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1].split() if found else []
