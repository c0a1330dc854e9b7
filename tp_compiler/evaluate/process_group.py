"""The processes that share the particles of a replicate: a group of torch.distributed, or this process alone."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np


class Processes:
    """This process alone."""

    rank, size = 0, 1

    def gathered(self, one: Any) -> list[Any]:
        """What every process has, in their order."""
        return [one]


class TorchProcesses(Processes):
    """The processes of a group of torch.distributed, which all run the same program."""

    def __init__(self, distributed: Any):
        self.distributed = distributed
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()

    def gathered(self, one: Any) -> list[Any]:
        import torch

        if not isinstance(one, np.ndarray):
            found: list[Any] = [None] * self.size
            self.distributed.all_gather_object(found, one)
            return found
        own = torch.from_numpy(np.ascontiguousarray(one))
        parts = [torch.empty_like(own) for _ in range(self.size)]
        self.distributed.all_gather(parts, own)
        return [part.numpy() for part in parts]


def launched() -> bool:
    """Whether a launcher such as torchrun has started several of this process."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def processes() -> Processes:
    """Those that share the particles: of the default group of torch.distributed, or those that torchrun has started."""
    if "torch" not in sys.modules and not launched():
        return Processes()
    import torch.distributed as distributed

    if not distributed.is_available():
        return Processes()
    if not distributed.is_initialized() and launched():
        distributed.init_process_group("gloo")
    return TorchProcesses(distributed) if distributed.is_initialized() else Processes()
