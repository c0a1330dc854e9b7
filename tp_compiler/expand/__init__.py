"""A checked program as NEXORT text again, with gradients, tangent kernels and the gradients of training written out."""

from tp_compiler.expand.program import expand

__all__ = ["expand"]
