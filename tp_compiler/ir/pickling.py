"""Pickling of programs, for other processes. Nodes are written one by one, so that long chains do not exhaust the stack."""

from __future__ import annotations

import copyreg
import io
import pickle
from collections import deque
from itertools import islice
from typing import Any

from tp_compiler.ir import nodes as ir
from tp_compiler.ir.model import Compiled
from tp_compiler.ir.program import Program


class _Writer(pickle.Pickler):
    """Nodes are written as numbers; each is visited once."""

    def __init__(self, file: io.BytesIO):
        super().__init__(file, protocol=5)
        self.nodes: list[ir.Node] = []
        self._place: dict[ir.Node, int] = {}

    def persistent_id(self, x: object) -> int | None:
        if not isinstance(x, ir.Node):
            return None
        if x not in self._place:
            self._place[x] = len(self.nodes)
            self.nodes.append(x)
        return self._place[x]

    def reducer_override(self, x: object) -> Any:
        """A program inside a program shares its nodes."""
        return (object.__new__, (type(x),), x.__dict__) if isinstance(x, Program) else NotImplemented


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, nodes: list[ir.Node]):
        super().__init__(file)
        self.nodes = nodes

    def persistent_load(self, place: Any) -> ir.Node:
        return self.nodes[int(place)]


def packed(program: Program) -> tuple[type[Program], list[type[ir.Node]], bytes]:
    """The classes of the program and of all nodes, and the fields of the program and of each node, one after the other."""
    file = io.BytesIO()
    writer = _Writer(file)
    writer.dump(program.__dict__)
    written = 0
    while written < len(writer.nodes):
        writer.dump(writer.nodes[written].__dict__)
        written += 1
    return type(program), [type(n) for n in writer.nodes], file.getvalue()


def unpacked(own: type[Program], kinds: list[type[ir.Node]], fields: bytes) -> Program:
    """The program again. What is built from its nodes from now on is numbered after them: that order is topological."""
    nodes = [object.__new__(kind) for kind in kinds]
    reader = _Reader(io.BytesIO(fields), nodes)
    program = object.__new__(own)
    program.__dict__.update(reader.load())
    for node in nodes:
        node.__dict__.update(reader.load())
    last = max((n.serial for n in nodes), default=0)
    deque(islice(ir._serial, max(0, last - next(ir._serial))), maxlen=0)
    return program


for _kind in (Program, Compiled):
    copyreg.pickle(_kind, lambda program: (unpacked, packed(program)))
