"""Instructions to instructions, and no syntax: gradients, tangent kernels, lowering."""
