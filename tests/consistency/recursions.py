"""Closed forms and quadrature for Gaussian expectations, written for the tests and independent of the package."""

from __future__ import annotations

from math import comb

import numpy as np


def relu_kernel(covariance):
    """E relu(a) relu(b), for every pair of centred Gaussians (Cho and Saul 2009, degree 1)."""
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    cosine = np.clip(covariance / scale, -1, 1)
    angle = np.arccos(cosine)
    return scale * (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi)


def erf_kernel(covariance):
    """E erf(a) erf(b), for every pair of centred Gaussians (Williams 1997)."""
    root = np.sqrt(1 + 2 * np.diag(covariance))
    return 2 / np.pi * np.arcsin(2 * covariance / np.outer(root, root))


def expectation(f, covariance, points=80):
    """E f(a) f(b) for every pair of centred Gaussians by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    weights = weights / weights.sum()
    size = len(covariance)
    result = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            a, b, c = covariance[i, i], covariance[j, j], covariance[i, j]
            x = np.sqrt(a) * nodes[:, None]
            y = c / np.sqrt(a) * nodes[:, None] + np.sqrt(max(b - c * c / a, 0.0)) * nodes[None, :]
            result[i, j] = weights @ (f(x) * f(y)) @ weights
    return result


def catalan(k):
    return comb(2 * k, k) // (k + 1)


def marchenko_pastur(k, rho):
    """The k-th moment of RᵀR, R : m x n with entries of variance 1/n, m/n = rho: a Narayana polynomial."""
    return sum(comb(k, r) * comb(k, r - 1) / k * rho**r for r in range(1, k + 1))


def recurrent_kernel(tokens, steps, nonlinearity, var_w, var_u, var_b, features):
    """Covariances of h[i,s] = f(W h[i,s-1] + Σ_d tok[i,s,d] u[d] / √features + b): shape (i, s, i, s)."""
    batch = tokens.shape[0]
    size = batch * steps
    flat = tokens[:, :steps].reshape(size, -1)
    inputs = var_u * flat @ flat.T / features + var_b
    past = np.full((size, size), np.nan)
    for _ in range(steps):
        shifted = np.zeros((batch, steps, batch, steps))
        if not np.isnan(past).all():
            shifted[:, 1:, :, 1:] = past.reshape(batch, steps, batch, steps)[:, :-1, :, :-1]
        past = expectation(nonlinearity, var_w * shifted.reshape(size, size) + inputs)
    return past.reshape(batch, steps, batch, steps)
