"""The covariance of a `clt` output as a separate average E[v x v' x'], exact whenever the average is."""

from __future__ import annotations

from typing import Any

import numpy as np

from tp_compiler.diagnostics import Span
from tp_compiler.evaluate import errors
from tp_compiler.evaluate.sampling.estimates import base, covariance_of
from tp_compiler.evaluate.sampling.plan import SamplingPlan
from tp_compiler.ir import nodes as ir
from tp_compiler.ir.build import MAX_STEPS, Builder
from tp_compiler.ir.program import Output, Program
from tp_compiler.ir.types import Index
from tp_compiler.results import Estimate


def covariance_node(build: Builder, a: ir.Clt, b: ir.Clt, span: Span) -> tuple[ir.Node, tuple[Index, ...]]:
    """E[v x v' x'] of two families of `clt` scalars, and the indices of both sides."""
    apart = {i: build.fresh(i) for i in b.type.indices}
    other = [build.rename(x, {**apart}, span) for x in b.args]
    return build.contract((*a.args, *other), (), (0,), span), (*a.type.indices, *apart.values())


def covariances(program: Program, outputs: list[Output]) -> dict[str, Output]:
    """The covariances of the families read by outputs that are known to be Gaussian in the limit."""
    problems = SamplingPlan(program, {o.name for o in outputs}).problems
    build = Builder(fresh_from=MAX_STEPS)
    found = {}
    for o in outputs:
        clt = base(o.node)
        if isinstance(clt, ir.Clt) and clt not in problems:
            node, indices = covariance_node(build, clt, clt, o.span)
            found[o.name] = Output(o.name, indices, node, o.span)
    return found


def estimate(output: Output, found: Estimate) -> Estimate:
    """The law of an output whose covariance has been found without sampling: its mean is 0."""
    size = base(output.node).type.size()
    kernel, off = (np.broadcast_to(x, found.value.shape).reshape(size, size) for x in (found.value, found.stderr))
    covariance: Any = covariance_of(output, kernel)
    shape = tuple(i.size for i in output.indices)
    axes = tuple(i.name for i in output.indices)
    probed = errors.probed(lambda moved: covariance_of(output, moved[0]), [kernel], [off], covariance)
    error = errors.shown(covariance, probed, found.method == "quadrature")
    return Estimate(np.zeros(shape), np.zeros(shape), axes, found.method, "gaussian", covariance, error, found.note)
