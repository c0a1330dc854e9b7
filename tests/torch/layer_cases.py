"""Scalars of layers and losses of the library, and the same in PyTorch's own functions (see cases.py)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional

from tests.torch.cases import Model, N, case, first_to_last, h
from tests.torch.harness import Parameters, bracket

LAYERS: dict[str, tuple[str, Model]] = {}
READ = "f = sum[i](i * <v|sin(z[i])>)"
Y = torch.tensor([1.0, -1.0, 1.0])


def read(p: Parameters, z: Any) -> Any:
    """READ"""
    return (first_to_last() * bracket(p["v"], torch.sin(z))).sum()


def logits(p: Parameters) -> Any:
    """f[i,d] = <v|tanh(W |h[i]> + |u[d]>)>"""
    return bracket(p["v"], torch.tanh((h(p) @ p["W"].T)[:, None] + p["u"]))


def layer(text: str) -> Any:
    return case(f"import layers\n{text}", LAYERS)


LOGITS = "p[i,d] = <v|tanh(W |h[i]> + |u[d]>)>\n"


# -- losses ----------------------------------------------------------------------------------------------------
@layer(LOGITS + "data y[i] = [1, -1, 1]\nf = mse[i,d](p[i,d], y[i])")
def mean_squared_error(p: Parameters) -> Any:
    return functional.mse_loss(logits(p), Y[:, None].expand(3, 2).to(torch.float64))


@layer(LOGITS + "f = mean[i](cross_entropy[d](p[i,d], tok[i]))")
def cross_entropy_of_classes(p: Parameters) -> Any:
    return functional.cross_entropy(logits(p), torch.tensor([1, 0, 1]))


@layer(LOGITS + "f = sum[i](cross_entropy[d](p[i,d], exp(-i * d)))")
def cross_entropy_of_probabilities(p: Parameters) -> Any:
    target = torch.exp(-first_to_last()[:, None] * torch.tensor([1.0, 2.0])).to(torch.float64)
    return functional.cross_entropy(logits(p), target, reduction="sum")


@layer("f = mean[i](cross_entropy[j](<h[i]|W|h[j]>, i))")
def contrastive_loss(p: Parameters) -> Any:
    x = h(p)
    return functional.cross_entropy(x @ p["W"] @ x.T / N, torch.arange(3))


@layer(LOGITS + "data y[i] = [1, -1, 1]\nf = mean[i](logistic(p[i,2], y[i]))")
def logistic_loss(p: Parameters) -> Any:
    return functional.binary_cross_entropy_with_logits(logits(p)[:, 1], ((Y + 1) / 2).to(torch.float64))


# -- normalisation ---------------------------------------------------------------------------------------------
@layer("|z[i]> = layernorm(W |h[i]>)\n" + READ)
def layer_norm(p: Parameters) -> Any:
    return read(p, functional.layer_norm(h(p) @ p["W"].T, (N,)))


@layer("|z[i]> = rmsnorm(W |h[i]>, eps = 0.01)\n" + READ)
def rms_norm(p: Parameters) -> Any:
    return read(p, functional.rms_norm(h(p) @ p["W"].T, (N,), eps=0.01))


@layer("|z[i]> = batchnorm[i](W |h[i]>)\n" + READ)
def batch_norm(p: Parameters) -> Any:
    return read(p, functional.batch_norm(h(p) @ p["W"].T, None, None, training=True))


# -- blocks ----------------------------------------------------------------------------------------------------
@layer("|z[i]> = dropout(W |h[i]>, |q>, 0.3)\n" + READ)
def dropout_mask(p: Parameters) -> Any:
    kept = torch.special.ndtr(p["q"].detach()) > 0.3
    return read(p, (h(p) @ p["W"].T) * kept / 0.7)


@layer("|z[i]> = swiglu(|h[i]>, W, A[1], A[2])\n" + READ)
def gated_block(p: Parameters) -> Any:
    x, a = h(p), p["A"]
    return read(p, (functional.silu(x @ p["W"].T) * (x @ a[0].T)) @ a[1].T)


# -- attention -------------------------------------------------------------------------------------------------
@layer("|z[i]> = attention[i,i](W |h[i]>, A[1] |h[i]>, A[2] |h[i]>, causal = 1, scale = 2)\n" + READ)
def causal_attention(p: Parameters) -> Any:
    x, a = h(p)[None], p["A"]
    q, k, v = x @ p["W"].T, x @ a[0].T, x @ a[1].T
    return read(p, functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=2 / N)[0])


@layer(
    """
    axis e : 4
    data group[e] = [1, 1, 2, 2]
    |s[i,e]> = e * (W |h[i]>)
    |k[i,l]> = A[l] |h[i]>
    |w[i,l]> = l * |h[i]>
    |z[i]> = sum[e](attention[i,i](|s[i,e]>, |k[i,group[e]]>, |w[i,group[e]]>))
    """
    + READ
)
def grouped_queries(p: Parameters) -> Any:
    x, a = h(p), p["A"]
    q = torch.stack([(e + 1) * (x @ p["W"].T) for e in range(4)])[None]
    k = torch.stack([x @ a[g].T for g in range(2)])[None]
    v = torch.stack([(g + 1) * x for g in range(2)])[None]
    z = functional.scaled_dot_product_attention(q, k, v, scale=1 / N, enable_gqa=True)
    return read(p, z[0].sum(0))


@layer(
    """
    |y[i,l]> = A[l] |h[i]>
    |z[i]> = rotary_attention[i,i,l](|y[i,l]>, |y[i,l]>, W |h[i]>, frequencies(|q>, 100), causal = 1)
    """
    + READ
)
def rotary_embeddings(p: Parameters) -> Any:
    """Pairs of neurons as complex numbers, multiplied by exp(i position frequency)."""
    x, a = h(p), p["A"]
    frequency = 100.0 ** -torch.special.ndtr(p["q"].detach())
    turn = torch.polar(torch.ones(3, N, dtype=torch.float64), first_to_last()[:, None] * frequency)
    y = torch.complex(x @ a[0].T, x @ a[1].T) * turn
    logit = (y @ y.conj().T).real / (2 * N)
    mask = torch.full((3, 3), -math.inf, dtype=torch.float64).triu(1)
    return read(p, torch.softmax(logit + mask, -1) @ (x @ p["W"].T))


# -- convolution and pooling -----------------------------------------------------------------------------------
@layer("|z[i]> = conv1d[i,i,l](|h[i]>, A[l], padding = 1)\n" + READ)
def convolution(p: Parameters) -> Any:
    weight = p["A"].permute(1, 2, 0)
    return read(p, functional.conv1d(h(p).T[None], weight, padding=1)[0].T[:3])


@layer("axis o : 2\n|z[o]> = conv1d[o,i,l](|h[i]>, A[l], stride = 2, padding = 1)\nf = sum[o](o * <v|sin(z[o])>)")
def strided_convolution(p: Parameters) -> Any:
    z = functional.conv1d(h(p).T[None], p["A"].permute(1, 2, 0), stride=2, padding=1)[0].T
    return (torch.tensor([1.0, 2.0]) * bracket(p["v"], torch.sin(z))).sum()


@layer(
    """
    axis y : 4
    axis m : 2
    axis o, e : 2
    K[l,m] = m * A[l]
    |p[y,i]> = sin(y * |h[i]>)
    |z[y,o]> = conv2d[y,o,y,i,l,m](|p[y,i]>, K[l,m], padding = 1)
    |t[e,o]> = avg_pool2d[e,o,y,o,l,m](|z[y,o]>, 2)
    f = sum[y,o](y * o * <v|sin(z[y,o])>) + sum[e,o](e * o * <v|cos(t[e,o])>)
    """
)
def planar_convolution(p: Parameters) -> Any:
    x = torch.sin(torch.arange(1.0, 5)[:, None, None] * h(p))
    weight = torch.stack([p["A"], 2 * p["A"]], -1).permute(1, 2, 0, 3)
    z = functional.conv2d(x.permute(2, 0, 1)[None], weight, padding=1)[0, :, :4, :2]
    pooled = functional.avg_pool2d(functional.pad(z, (0, 2))[None], 2)[0]
    weights = torch.arange(1.0, 5)[:, None] * torch.tensor([1.0, 2.0])
    first = (weights * bracket(p["v"], torch.sin(z.permute(1, 2, 0)))).sum()
    return first + (weights[:2] * bracket(p["v"], torch.cos(pooled.permute(1, 2, 0)))).sum()


@layer("axis o : 2\n|z[o]> = max_pool1d[o,i,l](W |h[i]>)\nf = sum[o](o * <v|sin(z[o])>)")
def maximal_pooling(p: Parameters) -> Any:
    z = functional.max_pool1d((h(p) @ p["W"].T).T[None], 2, stride=1)[0].T
    return (torch.tensor([1.0, 2.0]) * bracket(p["v"], torch.sin(z))).sum()
