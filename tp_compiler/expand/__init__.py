"""A checked program as NEXORT text again, with gradients, tangent kernels and the gradients of training written out."""
