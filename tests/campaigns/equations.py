"""The third road: the equations of random programs, evaluated as they are printed, give the numbers of the limit.

`python -m tests.campaigns.equations --programs 300 --first 0` prints every program whose equations do not.
"""

from __future__ import annotations

import argparse
import sys
import traceback

from tests.campaigns.commands import campaign
from tests.property.test_expand import with_gradients, with_training
from tests.unit.equations.test_reading import agrees, plain

WRITERS = {"plain": plain, "gradients": with_gradients, "training": with_training}
PARTICLES = 128


def program(number: int) -> tuple[str, str]:
    """(kind, text) of one program; the kinds come in turn."""
    kind = list(WRITERS)[number % len(WRITERS)]
    seed = 1000 + number // len(WRITERS)
    return f"{number}: {kind}", WRITERS[kind](seed, 3 + seed % 5)


def faults(text: str) -> list[str]:
    """The faults in the equations of one program."""
    try:
        agrees(text, PARTICLES)
    except Exception:
        return [traceback.format_exc(limit=-3)]
    return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    chosen = parser.parse_args()
    return campaign((program(k) for k in range(chosen.first, chosen.first + chosen.programs)), faults)


if __name__ == "__main__":
    sys.exit(main())
