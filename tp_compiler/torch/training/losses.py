"""What training minimizes: losses of torch by name, or an expression, of a program's outputs and of targets that become data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tp_compiler.torch.lines import family, listed
from tp_compiler.torch.refusals import refusal
from tp_compiler.torch.text import ModuleText
from tp_compiler.torch.training.indices import fitted, ident, nodes, parsed

#: What `loss` may be, besides an expression.
LOSSES = ("mse", "cross_entropy")


@dataclass(eq=False)
class Objective:
    """The loss as lines of a program."""

    name: str  # what is minimized
    axes: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # of the loop


@dataclass(eq=False)
class LossReader:
    """Turns a loss and its targets into lines; `written` has the outputs, and every name that is taken."""

    written: ModuleText
    steps: int
    new: dict[str, int] = field(default_factory=dict)  # sizes of axes that only targets have

    @property
    def sizes(self) -> dict[str, int]:
        return self.written.sizes | self.new

    def read(self, loss: Any, targets: Any) -> Objective:
        if not isinstance(loss, str) or not loss.strip():
            raise refusal("NX720", f"the loss {loss!r} is not text", f"write {_known()}")
        loss = loss.strip()
        if loss in LOSSES:
            return self._named(loss, targets)
        if re.fullmatch(r"\w+", loss) and loss not in self._outputs():
            raise refusal("NX720", f"there is no loss `{loss}`", f"write {_known()}")
        return self._expression(loss, targets)

    def _outputs(self) -> dict[str, list[list[str]]]:
        """The indices of each output, for each dimension of its tensor."""
        return {name.partition("[")[0]: dims for name, dims in self.written.dimensions.items()}

    def _bound(self, made: Objective, value: str) -> Objective:
        made.lines.append(f"{made.name} = {value}")
        return made

    def _objective(self) -> Objective:
        return Objective(self.written.namer.unique("loss"))

    # ------------------------------------------------------------------------------------------------ losses of torch

    def _named(self, loss: str, targets: Any) -> Objective:
        outputs = self._outputs()
        if len(outputs) != 1:
            raise refusal(
                "NX720",
                f"the module has {len(outputs)} outputs, and `{loss}` is of one",
                f"write an expression of {', '.join(self.written.dimensions)}, such as "
                f'"{_example(next(iter(self.written.dimensions)))}"',
            )
        if targets is None or isinstance(targets, Mapping):
            raise refusal("NX721", f"`{loss}` needs targets", "give one tensor: `targets=tensor`")
        ((name, dims),) = outputs.items()
        values = _array(targets)
        return self._mse(name, dims, values) if loss == "mse" else self._cross_entropy(name, dims, values)

    def _mse(self, name: str, dims: list[list[str]], values: np.ndarray) -> Objective:
        (shape,) = self.written.shapes.values()
        clock = self._clock(values.shape, shape, f"`{name}`")
        made, indices = self._objective(), _flat(dims)
        target = self._data(made, "target", clock, indices, values.astype(float))
        if not indices:
            return self._bound(made, f"square({name} - {target})")
        return self._bound(made, f"mse{family(indices)}({name}{family(indices)}, {target})")

    def _cross_entropy(self, name: str, dims: list[list[str]], values: np.ndarray) -> Objective:
        (shape,) = self.written.shapes.values()
        if not shape or shape[-1] < 2:
            raise refusal(
                "NX720",
                f"`{name}` has shape {shape}: `cross_entropy` needs an axis of classes, the last one",
                "return one logit for each class",
            )
        made, classes, others = self._objective(), dims[-1], _flat(dims[:-1])
        logits = name + family(_flat(dims))
        probabilities = values.dtype.kind == "f"
        clock = self._clock(values.shape, shape if probabilities else shape[:-1], f"the classes of `{name}`")
        if not probabilities:
            values = _classes(values, shape[-1])
        if len(classes) > 1 and not probabilities:  # the axis is split: positions become rows of 0 and 1
            values, probabilities = np.eye(shape[-1])[values - 1], True
        if probabilities:
            target = self._data(made, "target", clock, [*others, *classes], values)
            of = family(classes)
            each = (
                f"cross_entropy{of}({logits}, {target})"
                if len(classes) == 1
                else f"sum{of}({target} * (logsumexp{of}({logits}) - {logits}))"
            )
        else:
            target = self._data(made, "target", clock, others, values) if others or clock else str(int(values))
            each = f"cross_entropy{family(classes)}({logits}, {target})"
        return self._bound(made, f"mean{family(others)}({each})" if others else each)

    def _clock(self, found: tuple[int, ...], wanted: tuple[int, ...], what: str) -> list[str]:
        """`step` if there are targets for every step."""
        if found == wanted:
            return []
        if found[1:] == wanted and found[0] in (self.steps, self.steps + 1):
            return ["step"]
        raise refusal(
            "NX721",
            f"targets have shape {found}, and {what} have shape {wanted}",
            f"give targets of shape {wanted}, or one for each step: {(self.steps, *wanted)}",
        )

    def _data(self, made: Objective, wanted: str, clock: list[str], indices: list[str], values: np.ndarray) -> str:
        """Declares targets; how they are written."""
        name = self.written.namer.unique(wanted)
        over = family([*clock, *indices])
        sizes = self.sizes
        shaped = values.reshape([*values.shape[: len(clock)], *(sizes[i] for i in indices)])
        made.data.append(f"data {name}{over} = {listed(shaped)}")
        return name + over

    # ---------------------------------------------------------------------------------------------------- expressions

    def _expression(self, loss: str, targets: Any) -> Objective:
        outputs = {name: _flat(dims) for name, dims in self._outputs().items()}
        if loss in outputs:
            made, tree = Objective(loss), ()
        else:
            made, loss = self._objective(), fitted(loss, outputs, self.written)
            tree = parsed(loss)
        given = {} if targets is None else targets if isinstance(targets, Mapping) else {"target": targets}
        for name, tensor in given.items():
            self._target(made, name, _array(tensor), tree)
        return made if made.name == loss else self._bound(made, loss)

    def _target(self, made: Objective, name: str, values: np.ndarray, tree: Any) -> None:
        mentions = [node for node in nodes(tree) if ident(node) == name]
        if not mentions:
            raise refusal(
                "NX721",
                f"the loss does not use the targets `{name}`",
                f"write it, such as `{name}[..]`, or leave it out",
            )
        if not self.written.namer.claim(name):
            raise refusal(
                "NX721", f"`{name}` is a name of the program already", 'name targets yourself: `targets={"y": tensor}`'
            )
        indices = self._indices(name, mentions, values.shape)
        shape = [size for size in values.shape if size != 1] if len(indices) != values.ndim else list(values.shape)
        if len(shape) != len(indices):
            raise refusal(
                "NX721", f"`{name}` has shape {values.shape}, and {len(indices)} indices in the loss",
                "write one index for each dimension larger than 1"
            )  # fmt: skip
        for index, size in zip(indices, shape, strict=True):
            self._fit(made, name, index, size)
        if values.dtype.kind in "iu":
            _check_positions(name, tree)
            values = _classes(values, None)
        made.data.append(f"data {name}{family(indices)} = {listed(values.reshape(shape))}")

    def _indices(self, name: str, mentions: list[Any], shape: tuple[int, ...]) -> list[str]:
        """The indices of targets, as the loss writes them."""
        for node in mentions:
            found = [ident(i) for i in node.indices or ()]
            if all(found) and len(set(found)) == len(found):
                return [str(i) for i in found]
        raise refusal(
            "NX721", f"the loss picks single entries of `{name}`", f"write `{name}` with the indices of its {len(shape)} dimensions once"
        )  # fmt: skip

    def _fit(self, made: Objective, name: str, index: str, size: int) -> None:
        sizes = {**self.sizes, "step": self.steps}
        allowed = (sizes.get(index), self.steps + 1 if index == "step" else None)
        if index not in sizes:
            made.axes.append(f"axis {index} : {size}")
            self.new[index] = size
        elif size not in allowed:
            raise refusal(
                "NX721", f"`{name}` has {size} entries along `{index}`, which has {sizes[index]}", "give targets that fit the outputs"
            )  # fmt: skip


def _known() -> str:
    return '"mse", "cross_entropy", or an expression of the outputs and of `target`'


def _example(output: str) -> str:
    inner = output.partition("[")[2].rstrip("]")
    square = f"square({output} - target{family([inner]) if inner else ''})"
    return f"mean[{inner}]({square})" if inner else square


def _flat(dims: Sequence[Sequence[str]]) -> list[str]:
    return [index for names in dims for index in names]


def _array(targets: Any) -> np.ndarray:
    tensor = targets.detach().cpu() if isinstance(targets, torch.Tensor) else torch.as_tensor(np.asarray(targets))
    if tensor.is_complex():
        raise refusal("NX721", "targets are complex", "give real numbers, or classes")
    values: np.ndarray = (tensor.double() if tensor.is_floating_point() else tensor.long()).numpy()
    if not np.isfinite(values).all():
        raise refusal("NX721", "targets have entries that are not finite", "give finite numbers")
    return values


def _classes(values: np.ndarray, count: int | None) -> np.ndarray:
    """Classes 0, 1, ... of torch as positions 1, 2, ... of the language."""
    if (values == -100).any():
        raise refusal(
            "NX721", "targets have the class -100, torch's `ignore_index`", 
            "leave those positions out, or give probabilities that are 0 there"
        )  # fmt: skip
    if values.size and (values.min() < 0 or (count is not None and values.max() >= count)):
        worst = values.min() if values.min() < 0 else values.max()
        raise refusal(
            "NX721", f"targets have the class {worst}", f"classes are 0, ..., {'V - 1' if count is None else count - 1}"
        )
    return values + 1


def _check_positions(name: str, tree: Any) -> None:
    """Integers are classes: they may be what `cross_entropy` is given, or an index, and nothing else."""
    allowed = {id(inner) for node in nodes(tree) for position in _positions(node) for inner in nodes(position)}
    if any(ident(node) == name and id(node) not in allowed for node in nodes(tree)):
        raise refusal(
            "NX721", f"`{name}` has integers, which are classes, and the loss computes with them", "give numbers: `targets.double()`"
        )  # fmt: skip


def _positions(node: Any) -> list[Any]:
    """Where an expression needs a position: the class of a cross-entropy, and indices."""
    fn = getattr(node, "fn", None)
    if ident(fn) == "cross_entropy" and len(node.args) == 2:
        return [node.args[1]]
    return [] if fn is not None else list(getattr(node, "indices", None) or ())
