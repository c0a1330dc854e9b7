"""Transformations of instructions, without syntax: gradients, tangent kernels, lowering."""
