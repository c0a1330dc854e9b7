"""Expectations of functions of jointly Gaussian variables: closed forms and quadrature."""
