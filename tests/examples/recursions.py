"""Word2Vec and first-order MAML at infinite width as ordinary small networks in NumPy, written without the compiler.

A linear network with one hidden layer of infinite width under SGD is the linear network of width d + d_out whose
weights start at identity blocks (Tensor Programs IV, Theorem D.1): kets are rows over the initial Gaussian vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any


def word2vec(
    data: dict[str, Array], vocabulary: int, rate: float, floor: float, decay: float, features: float, e: Array = None
) -> dict[str, Array]:
    """Losses of the steps, loss on the positions held out, Gram matrix. `e`: other initial embeddings than the limit's,
    one row per word, with inner products already in natural units."""
    e = np.eye(vocabulary) if e is None else e.copy()
    o = np.zeros_like(e)
    steps = len(data["context"]) - 1
    sign = data["sign"]

    def forward(context: Array, share: Array, word: Array, weight: Array) -> tuple[Array, Array, Array]:
        h = np.einsum("bc,bcx->bx", share, e[context])
        margin = -sign * np.einsum("bx,bkx->bk", h, o[word])
        return h, margin, (weight * np.logaddexp(0, margin)).sum() / weight.sum()

    losses = []
    for t in range(steps + 1):
        context, word = data["context"][t].astype(int) - 1, data["word"][t].astype(int) - 1
        share, weight = data["share"][t], data["weight"][t]
        h, margin, loss = forward(context, share, word, weight)
        losses.append(loss)
        if t == steps:
            break
        chi = -sign * weight / (1 + np.exp(-margin))
        signal = np.einsum("bk,bkx->bx", chi, o[word])
        read = decay * (share > 0)[:, :, None] * e[context]
        de, do = np.zeros_like(e), np.zeros_like(o)
        np.add.at(de, context, share[:, :, None] * signal[:, None, :] + read)
        np.add.at(do, word, chi[:, :, None] * h[:, None, :])
        lr = rate * max(floor, 1 - t / steps)
        e -= features * lr * de
        o -= lr * do
    places = [data[f"held_{name}"].astype(int) - 1 for name in ("context", "word")]
    held = forward(places[0], data["held_share"], places[1], data["held_weight"])[2]
    return {"loss": np.array(losses), "held": held, "gram": e @ e.T}


def softmax(f: Array) -> Array:
    p = np.exp(f - f.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def judged(f: Array) -> tuple[float, float]:
    """Cross-entropy and accuracy of outputs (..., image, class); image k has class k."""
    own = np.diagonal(f, axis1=-2, axis2=-1)
    top = f.max(axis=-1)
    others = np.log(np.exp(f - top[..., None]).sum(axis=-1)) + top
    return float((others - own).mean()), float((own >= top).mean())


def maml(
    data: dict[str, Array], rate: float, inner: float, alpha: float, spread: float, bound: float, adaptations: int,
    features: float = 1.0, start: tuple[Array, Array] | None = None,
) -> dict[str, Array]:  # fmt: skip
    """First-order MAML, task after task. `start`: other initial (u, v) than the limit's."""
    image = data["image"]
    d, classes = image.shape[1], len(data["label"])
    if start is None:
        u, v = np.eye(d, d + classes), spread * np.eye(classes, d + classes, k=d)
    else:
        u, v = start[0].copy(), start[1].copy()
    b = np.zeros(u.shape[1])
    target = np.eye(classes)

    def adapted(x: Array, count: int) -> tuple[Array, Array, Array]:
        u1, v1, b1 = u, v, b
        for _ in range(count):
            h = x @ u1 + alpha * b1
            chi = (softmax(h @ v1.T) - target) / classes
            dh = chi @ v1
            u1, v1, b1 = (
                u1 - features * inner * x.T @ dh,
                v1 - inner * chi.T @ h,
                b1 - features * inner * alpha * dh.sum(axis=0),
            )
        return u1, v1, b1

    def rows(places: Array) -> Array:
        return image[places.astype(int) - 1]

    losses, accuracies = [], []
    steps = len(data["support"]) - 1
    for t in range(steps + 1):
        du, dv, db, outputs = np.zeros_like(u), np.zeros_like(v), np.zeros_like(b), []
        for support, query in zip(data["support"][t], data["query"][t], strict=True):
            u1, v1, b1 = adapted(rows(support), 1)
            x = rows(query)
            g = x @ u1 + alpha * b1
            f = g @ v1.T
            outputs.append(f)
            chi = (softmax(f) - target) / classes
            du += x.T @ (chi @ v1)
            dv += chi.T @ g
            db += alpha * (chi @ v1).sum(axis=0)
        loss, accuracy = judged(np.array(outputs))
        losses.append(loss)
        accuracies.append(accuracy)
        norm = np.sqrt((du**2).sum() + (dv**2).sum() + (db**2).sum())
        scale = min(1.0, bound / (norm + 1e-6)) if t < steps else 0.0
        u, v, b = u - features * rate * scale * du, v - rate * scale * dv, b - features * rate * scale * db
    outputs = []
    for support, query in zip(data["held_support"], data["held_query"], strict=True):
        u1, v1, b1 = adapted(rows(support), adaptations)
        outputs.append((rows(query) @ u1 + alpha * b1) @ v1.T)
    held = judged(np.array(outputs))
    return {"loss": np.array(losses), "accuracy": np.array(accuracies), "held_loss": held[0], "held_accuracy": held[1]}
