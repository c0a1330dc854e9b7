"""Gaussian conditioning: products with initial matrices, given all that these have met."""
