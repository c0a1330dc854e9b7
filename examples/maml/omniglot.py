"""From Omniglot archives to the arrays that maml.nexort reads.

    python examples/maml/omniglot.py ARCHIVE.zip... --out FOLDER [--updates 500] [--tasks 32] ...

An archive holds ALPHABET/CHARACTER/DRAWING.png, whatever stands before. Every drawing is shrunk to 28 x 28 pixels with
ink 1 and paper 0 (`--paper 1`: ink 0 and paper 1, as torchvision reads the files). The rotations of a character by 90,
180 and 270 degrees are characters of their own while training. Characters are split at random into those of the
training and those held out. A task is five characters with one drawing each to adapt to, and another to be tested on.
"""

from __future__ import annotations

import argparse
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: Images by character: {(alphabet, character): (drawings, height, width)}.
Characters = dict[tuple[str, str], Array]


@dataclass(frozen=True)
class Recipe:
    """How tasks are drawn."""

    updates: int = 500
    tasks: int = 32
    classes: int = 5
    held: int = 100
    size: int = 28
    paper: int = 0
    fraction: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"classes": 2, "paper": 0, "seed": 0}
        for name in ("updates", "tasks", "classes", "held", "size", "paper", "seed"):
            if getattr(self, name) < least.get(name, 1):
                raise ValueError(f"--{name} is {getattr(self, name)}, and must be at least {least.get(name, 1)}")
        if not 0 < self.fraction < 1 or self.paper > 1:
            raise ValueError("--fraction lies between 0 and 1, and --paper is 0 or 1")


# ------------------------------------------------------------------------------------------------------------ reading
def png(data: bytes) -> Array:
    """The pixels, 0 to 1, of a grey or black-and-white PNG without interlacing (RFC 2083, sections 4 and 6)."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("not a PNG")
    at, packed = 8, b""
    width = height = depth = 0
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", body)
            if colour != 0 or depth not in (1, 2, 4, 8) or interlaced:
                raise ValueError("a PNG that is not plain grey")
        elif kind == b"IDAT":
            packed += body
        at += length + 12
    stride = (width * depth + 7) // 8
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, stride + 1)
    plain = unfiltered(rows[:, 0], rows[:, 1:].astype(np.int64))
    bits = np.unpackbits(plain.astype(np.uint8), axis=1).reshape(height, -1, depth)
    values = bits @ (1 << np.arange(depth)[::-1])
    return np.asarray(values[:, :width] / (2**depth - 1))


def unfiltered(filters: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Scanlines from their differences; one byte, or less, is a pixel."""
    out = np.zeros_like(rows)
    above = np.zeros_like(rows[0])
    for k, (kind, row) in enumerate(zip(filters, rows, strict=True)):
        if kind in (0, 2):
            out[k] = (row + (above if kind == 2 else 0)) % 256
        else:
            left = corner = 0
            for j, x in enumerate(row):
                up = int(above[j])
                guess = left if kind == 1 else (left + up) // 2 if kind == 3 else paeth(left, up, corner)
                left = out[k, j] = (int(x) + guess) % 256
                left, corner = int(left), up
        above = out[k]
    return out


def paeth(left: int, up: int, corner: int) -> int:
    """The neighbour that is nearest to left + up - corner."""
    p = left + up - corner
    return min((left, up, corner), key=lambda x: abs(p - x))


def shrunk(images: Array, size: int) -> Array:
    """Averages over the pixels of a coarser grid, by overlap of areas."""
    return np.asarray(overlap(images.shape[-2], size) @ images @ overlap(images.shape[-1], size).T)


def overlap(before: int, after: int) -> Array:
    """Row i: how much of the i-th new pixel each old pixel makes up."""
    edges = np.arange(after + 1) * (before / after)
    old = np.arange(before)
    part = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    return np.asarray(np.maximum(part, 0) * (after / before))


def named(read: Callable[[bytes], Array], files: zipfile.ZipFile, archive: Path, name: str) -> Array:
    """A file of an archive; errors say which."""
    try:
        return read(files.read(name))
    except (ValueError, IndexError, struct.error, zlib.error, zipfile.BadZipFile) as problem:
        raise ValueError(f"{archive}: {name}: {problem}") from None


def characters(archives: list[Path], size: int, paper: int = 0) -> Characters:
    """All drawings of archives (in the files paper is 1); a character that stands in several is read once."""
    found: dict[tuple[str, str], dict[str, Array]] = {}
    for archive in archives:
        with zipfile.ZipFile(archive) as files:
            for name in sorted(files.namelist()):
                path = PurePosixPath(name)
                if path.suffix == ".png" and len(path.parts) >= 3:
                    drawings = found.setdefault((path.parts[-3], path.parts[-2]), {})
                    if path.name not in drawings:
                        drawings[path.name] = named(png, files, archive, name)
    for key, drawings in found.items():
        if len({x.shape for x in drawings.values()}) > 1:
            raise ValueError(f"the drawings of {'/'.join(key)} have different sizes")
    images = {key: shrunk(np.array(list(drawings.values())), size) for key, drawings in sorted(found.items())}
    return images if paper else {key: 1 - x for key, x in images.items()}


# -------------------------------------------------------------------------------------------------------------- tasks
def split(found: Characters, fraction: float, random: np.random.Generator) -> tuple[list[Array], list[Array]]:
    """The drawings of the characters to train with, rotated ones included, and of those held out."""
    keys = list(found)
    random.shuffle(keys)
    cut = len(keys) - round(fraction * len(keys))
    turned = [np.rot90(found[key], k, axes=(1, 2)) for key in keys[:cut] for k in range(4)]
    return turned, [found[key] for key in keys[cut:]]


def tasks(
    first: int, groups: list[Array], count: int, classes: int, random: np.random.Generator
) -> tuple[Array, Array]:
    """Which images each task adapts to and is tested on; the images of the groups are numbered from `first`."""
    starts = first + np.cumsum([0, *(len(g) for g in groups[:-1])])
    support, query = np.empty((count, classes)), np.empty((count, classes))
    for k in range(count):
        for c, g in enumerate(random.choice(len(groups), classes, replace=False)):
            support[k, c], query[k, c] = starts[g] + random.choice(len(groups[g]), 2, replace=False)
    return support, query


def arrays(found: Characters, recipe: Recipe) -> dict[str, Array]:
    """What maml.nexort reads: the images that occur in a task, and the tasks by the numbers of their images."""
    random = np.random.default_rng(recipe.seed)
    trained, kept = split(found, recipe.fraction, random)
    if min(len(trained), len(kept)) < recipe.classes:
        raise ValueError("there are fewer characters than a task has classes")
    if min(map(len, (*trained, *kept))) < 2:
        raise ValueError("a character has one drawing: a task adapts to one and is tested on another")
    count = (recipe.updates + 1) * recipe.tasks
    drawn = [*tasks(0, trained, count, recipe.classes, random)]
    drawn += tasks(sum(map(len, trained)), kept, recipe.held, recipe.classes, random)
    used, place = np.unique(np.concatenate([x.ravel() for x in drawn]), return_inverse=True)
    images = np.concatenate([*trained, *kept]).reshape(-1, recipe.size**2)[used.astype(int)]
    parts = np.split(place + 1.0, np.cumsum([x.size for x in drawn])[:-1])
    support, query, held_support, held_query = (p.reshape(x.shape) for p, x in zip(parts, drawn, strict=True))
    shape = (recipe.updates + 1, recipe.tasks, recipe.classes)
    return {
        "image": images, "support": support.reshape(shape), "query": query.reshape(shape),
        "held_support": held_support, "held_query": held_query, "label": np.arange(1.0, recipe.classes + 1),
    }  # fmt: skip


def sizes(found: dict[str, Array]) -> dict[str, float]:
    """The settings (`--set`) that go with the arrays."""
    steps, count, classes = found["support"].shape
    images, pixels = found["image"].shape
    return {
        "updates": steps - 1, "t": count, "s": classes, "c": classes, "i": images, "d": pixels,
        "z": len(found["held_support"]),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("archive", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for omniglot.npz and the program")
    for name, value in vars(Recipe()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    options = vars(parser.parse_args())
    archives, out = options.pop("archive"), options.pop("out")
    try:
        recipe = Recipe(**options)
        found = arrays(characters(archives, recipe.size, recipe.paper), recipe)
        out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError, zipfile.BadZipFile) as problem:
        parser.error(str(problem))
    np.savez(out / "omniglot.npz", **found)
    program = Path(__file__).with_name("maml.nexort").read_text(encoding="utf-8")
    (out / "maml.nexort").write_text(program, encoding="utf-8")
    settings = " ".join(f"--set {k}={v}" for k, v in sizes(found).items())
    print(f"tpc limit {out / 'maml.nexort'} {settings}")


if __name__ == "__main__":
    main()
