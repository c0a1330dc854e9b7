"""Random valid programs of every kind through every command: no crash, no leaked warning, no disagreement.

`python -m tests.campaigns.random_programs --programs 1500 --first 0` prints every fault, and how many programs have one.
"""

from __future__ import annotations

import argparse
import random
import sys

from tests.campaigns import instructions, training_programs
from tests.campaigns.commands import campaign
from tests.property.index_programs import index_program
from tests.property.test_random_programs import Writer


def program(seed: int) -> tuple[str, str]:
    """(kind, text) of one program; the kinds come in turn."""
    rng = random.Random(seed)
    match seed % 4:
        case 0:
            return "kets and copies", Writer(seed).text(rng.randint(3, 8))
        case 1:
            return "indices", index_program(seed, 1 + rng.randrange(4), 2).text(seed)
        case 2:
            return "training", training_programs.program(seed)
    construct, ket, scalar = (
        rng.choice(list(x)) for x in (instructions.constructs(), instructions.KETS, instructions.SCALARS)
    )
    return f"{construct} | {ket} | {scalar}", instructions.program(construct, ket, scalar, rng.randint(1, 3))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=1500)
    parser.add_argument("--first", type=int, default=0)
    chosen = parser.parse_args()
    seeds = range(chosen.first, chosen.first + chosen.programs)
    return campaign((f"{seed}: {kind}", text) for seed in seeds for kind, text in (program(seed),))


if __name__ == "__main__":
    sys.exit(main())
