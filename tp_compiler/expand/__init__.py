"""A checked program as NEXORT text, with gradients, tangent kernels and the gradients of training written out."""
