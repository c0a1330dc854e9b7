"""The table of docs/training.md section 6: `python -m tests.torch.limits_table mlp rnn`; `resnet:adam` is one row.

One row for each architecture and optimizer, printed as soon as it is known. Without arguments: all of them.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from tests.torch.architectures import ARCHITECTURES
from tests.torch.test_limits import OPTIMIZERS, compared


def row(name: str, optimizer: str) -> str:
    start = time.perf_counter()
    limit, check = compared(name, optimizer)
    slope = "none fitted" if check.slope is None else f"{check.slope:.2f}"
    cells = [name, optimizer, str(check.widths[-1]), f"{check.z_corrected:.1f}", f"{check.threshold:.1f}", slope]
    cells += [f"{np.max(limit.stderr):.1e}", "yes" if check.passed else f"no: {check.reason}"]
    return " | ".join([*cells, f"{time.perf_counter() - start:.0f}"])


def main(names: list[str]) -> None:
    print("| architecture | optimizer | largest width | largest z | allowed | slope | stderr of f | passes | s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in names or ARCHITECTURES:
        architecture, _, one = name.partition(":")
        for optimizer in [one] if one else OPTIMIZERS:
            print(f"| {row(architecture, optimizer)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
