"""From a text to the arrays that word2vec.nexort reads.

    python examples/word2vec/corpus.py TEXT... --out FOLDER [--vocabulary 2000] [--updates 5000] ...

Words are runs of the letters a-z after lower-casing (as in text8); a context does not cross a line. Frequent words are
skipped at random, windows shrink at random, and negative samples follow the unigram distribution to the power 3/4, all
as in Mikolov et al.'s word2vec. The same arrays feed the limit and the networks of finite width.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Recipe:
    """How samples are drawn."""

    vocabulary: int = 2000
    updates: int = 5000
    batch: int = 32
    window: int = 4
    negative: int = 5
    subsample: float = 1e-3
    held: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("vocabulary", 2), ("subsample", 0), ("seed", 0)):
            at_least(name, getattr(self, name), least)
        for name in ("updates", "batch", "window", "negative", "held"):
            at_least(name, getattr(self, name), 1)


def at_least(name: str, value: float, least: float) -> None:
    """Raises ValueError where an option is too small."""
    if value < least:
        raise ValueError(f"--{name} is {value:g}, and must be at least {least}")


def lines(paths: Iterable[Path]) -> Iterator[list[str]]:
    """The words of every line."""
    for path in paths:
        for line in text_of(path).replace("<unk>", " ").lower().splitlines():
            if words := re.findall("[a-z]+", line):
                yield words


def text_of(path: Path) -> str:
    """The text of a file. Raises OSError, and ValueError if it is not valid UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not valid UTF-8 text") from None


def vocabulary(text: Iterable[list[str]], size: int) -> list[str]:
    """The most frequent words, in descending order."""
    found = [w for w, _ in Counter(w for line in text for w in line).most_common(size)]
    if len(found) < size:
        raise ValueError(f"the text has {len(found)} different words, fewer than --vocabulary {size}")
    return found


def analogies(path: Path, words: Sequence[str]) -> NDArray[np.int64]:
    """The questions `a is to b as c is to d` within the vocabulary, words counted from 0."""
    place = {w: k for k, w in enumerate(words)}
    rows = [line.lower().split() for line in text_of(path).splitlines() if line.strip() and not line.startswith(":")]
    odd = next((r for r in rows if len(r) != 4), None)
    if odd is not None:
        raise ValueError(f"{path}: `{' '.join(odd)}` is not a question of four words")
    return np.array([[place[w] for w in r] for r in rows if all(w in place for w in r)]).reshape(-1, 4)


class Sampler:
    """Positions of a text with their context and negative samples, in random order, epoch after epoch."""

    def __init__(self, text: list[NDArray[np.int64]], recipe: Recipe):
        self.text, self.recipe = text, recipe
        self.random = np.random.default_rng(recipe.seed)
        counts = np.bincount(np.concatenate(text), minlength=recipe.vocabulary)
        self.keep = np.ones(len(counts))
        if recipe.subsample:  # 0: none is skipped
            share = counts / (recipe.subsample * counts.sum())
            with np.errstate(divide="ignore"):
                self.keep = np.minimum(1, (np.sqrt(share) + 1) / share)
        self.unigram = counts**0.75 / (counts**0.75).sum()

    def epoch(self) -> list[tuple[int, NDArray[np.int64]]]:
        """(word, words around it) of every position left after subsampling."""
        found = []
        for line in self.text:
            left = line[self.random.random(len(line)) < self.keep[line]]
            reach = self.random.integers(1, self.recipe.window + 1, len(left))
            for k, r in enumerate(reach):
                around = np.concatenate([left[max(0, k - r) : k], left[k + 1 : k + r + 1]])
                if around.size:
                    found.append((int(left[k]), around))
        self.random.shuffle(found)
        return found

    def draw(self, count: int) -> dict[str, Array]:
        """Arrays of `count` positions; words count from 1."""
        positions: list[tuple[int, NDArray[np.int64]]] = []
        while len(positions) < count:
            more = self.epoch()
            if not more:
                raise ValueError("no word is left with others around it: give more text, or a larger --subsample")
            positions += more
        width, r = 2 * self.recipe.window, self.recipe
        context, share = np.ones((count, width)), np.zeros((count, width))
        word = np.ones((count, 1 + r.negative))
        word[:, 1:] += self.random.choice(r.vocabulary, (count, r.negative), p=self.unigram)
        for k, (centre, around) in enumerate(positions[:count]):
            word[k, 0] = centre + 1
            context[k, : around.size] = around + 1
            share[k, : around.size] = 1 / around.size
        weight = np.ones_like(word)
        weight[:, 1:] = word[:, 1:] != word[:, :1]
        return {"context": context, "share": share, "word": word, "weight": weight}


def arrays(text: list[list[str]], words: Sequence[str], recipe: Recipe) -> dict[str, Array]:
    """What word2vec.nexort reads. The last tenth is held out: of the lines, or, where they are few, of each."""
    place = {w: k for k, w in enumerate(words)}
    numbers = [np.array([place[w] for w in line if w in place], dtype=np.int64) for line in text]
    numbers = [line for line in numbers if line.size > 1]
    trained, kept = split(numbers)
    drawn = Sampler(trained, recipe).draw((recipe.updates + 1) * recipe.batch)
    found = {name: x.reshape(recipe.updates + 1, recipe.batch, -1) for name, x in drawn.items()}
    held = Sampler(kept, recipe).draw(recipe.held)
    found |= {f"held_{name}": x for name, x in held.items()}
    return found | {"sign": np.array([1.0] + [-1.0] * recipe.negative)}


def split(numbers: list[NDArray[np.int64]]) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """The text to train with, and the text held out."""
    if len(numbers) >= 10:
        cut = len(numbers) - len(numbers) // 10
        return numbers[:cut], numbers[cut:]
    cuts = [line.size - line.size // 10 for line in numbers]
    kept = [line[cut:] for line, cut in zip(numbers, cuts, strict=True) if line.size - cut > 1]
    if not kept:
        raise ValueError("the text is too short: a tenth of it is held out")
    return [line[:cut] for line, cut in zip(numbers, cuts, strict=True)], kept


def sizes(found: dict[str, Array], vocabulary: int) -> dict[str, float]:
    """The settings (`--set`) that go with the arrays."""
    steps, batch, around = found["context"].shape
    held, samples = found["held_word"].shape
    return {"updates": steps - 1, "b": batch, "c": around, "k": samples, "m": held, "v": vocabulary}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("text", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for word2vec.npz, words.txt and the program")
    for name, value in vars(Recipe()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    options = vars(parser.parse_args())
    paths = options.pop("text")
    out: Path = options.pop("out")
    try:
        recipe = Recipe(**options)
        text = list(lines(paths))
        words = vocabulary(text, recipe.vocabulary)
        found = arrays(text, words, recipe)
        out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as problem:
        parser.error(str(problem))
    np.savez(out / "word2vec.npz", **found)
    (out / "words.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    (out / "word2vec.nexort").write_text(
        Path(__file__).with_name("word2vec.nexort").read_text(encoding="utf-8"), encoding="utf-8"
    )
    settings = " ".join(f"--set {k}={v}" for k, v in sizes(found, recipe.vocabulary).items())
    print(f"tpc limit {out / 'word2vec.nexort'} {settings}")


if __name__ == "__main__":
    main()
