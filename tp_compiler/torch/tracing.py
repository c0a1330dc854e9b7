"""From a factory of modules to a program: `trace`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tp_compiler.torch.record import Traced, traced
from tp_compiler.torch.refusals import refusal, whole_widths
from tp_compiler.torch.text import ModuleText, write
from tp_compiler.torch.walk import Factory, Walk, Walked, arguments, build, export, output_names


def trace(
    factory: Factory,
    inputs: Any,
    widths: tuple[int, int] = (64, 128),
    *,
    base_width: int | None = None,
    training: bool = False,
) -> Traced:
    """The program of a PyTorch module, from two instances of it at different widths.

    factory      builds the module from a width: `lambda n: MLP(n)`
    inputs       the arguments of `forward`: example tensors of fixed shape, or one such tensor; they become data of the program
    widths       two widths; dimensions and numbers that differ between them follow powers of n
    base_width   where the variance of matrices is read if it does not fall as 1/n (default: the first width)
    training     trace batch statistics as in training; dropout with p > 0 is refused

    Raises ProgramError NX701 to NX710, with the module and the operation, for what has no limit or is not supported.
    """
    remedy = "give two different whole numbers of at least 2, such as widths=(64, 128)"
    sizes = whole_widths(widths, "NX708", remedy)
    if len(sizes) != 2:
        raise refusal("NX708", f"widths are {widths!r}", remedy)
    one, other = sizes
    inputs = arguments(inputs)
    built = (build(factory, one, training), build(factory, other, training))
    programs = [export(b, inputs, n) for b, n in zip(built, (one, other), strict=True)]

    def walk(x: Sequence[Any]) -> Walked:
        return Walk(built, programs, (one, other)).run(x, output_names(programs[0]))

    def again(x: Sequence[Any]) -> ModuleText:
        return _written(walk(x), (one, other), base_width or one)

    walked = walk(inputs)
    if not walked.outputs:
        raise refusal("NX708", "the module returns no tensor", "return numbers: readouts, or means")
    written = _written(walked, (one, other), base_width or one)
    names = [name.partition("[")[0] for name in written.outputs]
    return traced(written, names, inputs, (one, other), training, walked.weights, again)


def _written(walked: Walked, widths: tuple[int, int], base: int) -> ModuleText:
    written = write(walked, widths, base)
    weights = walked.weights.values()
    if weights and all(a.shape == b.shape for a, b in (weight.values for weight in weights)):
        written.notes.insert(0, "no parameter grows with the width: the factory does not use it")
    return written
