"""Word2Vec and MAML: the loaders on made-up data, and the programs against recursions written in NumPy."""

from __future__ import annotations

import importlib.util
import struct
import sys
import zipfile
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tp_compiler as tpc
from tests.examples import recursions
from tests.examples.programs import EXAMPLES


def script(name: str) -> ModuleType:
    """A script of the examples as a module."""
    path = EXAMPLES / name
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


corpus = script("word2vec/corpus.py")
omniglot = script("maml/omniglot.py")


def program(folder: Path, path: Path, name: str, found: dict[str, Any], settings: dict[str, float]) -> Any:
    """The example, compiled in the folder of its arrays."""
    np.savez(folder / name, **found)
    (folder / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    return tpc.compile(folder / path.name, settings=settings)


# ----------------------------------------------------------------------------------------------------------- word2vec
def text(lines: int = 60, words: int = 30) -> str:
    """Lines of made-up words, some more frequent than others; a word is likely to occur next to its neighbours."""
    random = np.random.default_rng(1)
    names = ["".join(chr(97 + (k // 26**j) % 26) for j in range(3)) for k in range(words)]
    rows = []
    for _ in range(lines):
        centre = words * random.random() ** 2
        near = np.clip(centre + 3 * random.normal(size=random.integers(2, 12)), 0, words - 1)
        rows.append(" ".join(names[int(k)] for k in near).title() + " , 42 <unk> .")
    return "\n".join(rows)


RECIPE = corpus.Recipe(vocabulary=20, updates=25, batch=6, window=3, negative=3, subsample=0.05, held=15)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("text")
    (folder / "text.txt").write_text(text(), encoding="utf-8")
    read = list(corpus.lines([folder / "text.txt"]))
    words = corpus.vocabulary(read, RECIPE.vocabulary)
    return folder, read, words, corpus.arrays(read, words, RECIPE)


def compiled(corpora: Any, **changed: float) -> Any:
    folder, _, words, found = corpora
    settings = corpus.sizes(found, len(words)) | changed
    return program(folder, EXAMPLES / "word2vec" / "word2vec.nexort", "word2vec.npz", found, settings)


def test_words_are_read_and_counted(corpora: Any) -> None:
    _, read, words, _ = corpora
    assert all(w.isalpha() and w.islower() and w != "unk" for line in read for w in line)
    counts = [sum(line.count(w) for line in read) for w in words]
    assert counts == sorted(counts, reverse=True) and len(set(words)) == 20
    with pytest.raises(ValueError, match="fewer than --vocabulary 1000"):
        corpus.vocabulary(read, 1000)


def test_samples_are_those_of_word2vec(corpora: Any) -> None:
    _, _, words, found = corpora
    assert found["context"].shape == (26, 6, 6) and found["word"].shape == (26, 6, 4)
    assert found["held_word"].shape == (15, 4) and found["sign"].tolist() == [1, -1, -1, -1]
    for name in ("context", "word", "held_context", "held_word"):
        assert found[name].min() >= 1 and found[name].max() <= len(words)
    around = (found["share"] > 0).sum(axis=-1)
    assert around.min() >= 1 and set(np.unique(around)) > {1, 2, 3}
    np.testing.assert_allclose(found["share"].sum(axis=-1), 1)
    same = found["word"][..., 1:] == found["word"][..., :1]
    assert same.any() and (found["weight"][..., 1:] == ~same).all() and (found["weight"][..., 0] == 1).all()


def test_frequent_words_are_skipped() -> None:
    recipe = corpus.Recipe(vocabulary=2, subsample=0.01, window=1, negative=1)
    line = np.array([0] * 99 + [1])
    sampler = corpus.Sampler([line] * 400, recipe)
    assert sampler.keep[1] == 1
    assert sampler.keep[0] == pytest.approx((np.sqrt(99) + 1) / 99, rel=1e-12)
    words = [word for word, _ in sampler.epoch()]
    assert words.count(0) / words.count(1) == pytest.approx(99 * sampler.keep[0], rel=0.1)


def test_analogies_are_questions_within_the_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text(": family\nBoy Girl King Queen\nBoy Girl Duke Duchess\n", encoding="utf-8")
    assert corpus.analogies(path, ["king", "boy", "queen", "girl"]).tolist() == [[1, 3, 0, 2]]
    assert corpus.analogies(path, ["king"]).shape == (0, 4)


@pytest.mark.parametrize("features", [1.0, 0.0])
def test_word2vec_is_the_small_dense_network(corpora: Any, features: float) -> None:
    found = tpc.limit(compiled(corpora, features=features, decay=0.02, rate=0.5), method="exact")
    expected = recursions.word2vec(corpora[3], 20, 0.5, 1e-4, 0.02, features)
    for name, value in expected.items():
        assert found.outputs[name].method == "exact"
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-9)
    moved = np.abs(found["gram"] - np.eye(20)).max()
    assert moved == 0 if features == 0 else moved > 0.1


def test_word2vec_with_many_words_is_updated_in_place(corpora: Any) -> None:
    """A vocabulary beyond the size from which a step changes the rows it touches only; unused words stay."""
    found = tpc.limit(compiled(corpora, v=100, decay=0.02, rate=0.5), method="exact")
    expected = recursions.word2vec(corpora[3], 100, 0.5, 1e-4, 0.02, 1.0)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-9)


CBOW = """
axis v : 6
axis b : 2
axis c : 2
axis k : 2
data context[step,b,c] = [[[1, 2], [3, 4]], [[2, 2], [5, 1]], [[6, 3], [1, 1]], [[2, 5], [4, 6]]]
data word[step,b,k] = [[[3, 2], [1, 4]], [[2, 6], [3, 1]], [[4, 3], [5, 1]], [[2, 5], [4, 6]]]
data sign[k] = [1, -1]
data share[c] = [0.3, 0.7]
ket |e[v]> ~ N(0, 1)
ket |o[v]> = 0
train steps = 3 {
    |h[b]> = sum[c](share[c] |e[context[step,b,c]]>)
    loss = sum[b](sum[k](softplus(-sign[k] * (<h[b]|o[word[step,b,k]]>))))
    minimize loss
    update all with SGD(lr = 0.5)
}
output loss[step]
"""


def test_the_kernel_limit_trains_the_output_embeddings_alone() -> None:
    """With output embeddings that start at 0 the neural tangent limit is that of a network whose features stay."""
    tangent = tpc.limit("parametrization ntk" + CBOW.replace("<h[b]|", "clt <h[b]|"))["loss"]
    frozen = tpc.limit(CBOW.replace("update all", "update |o>"))["loss"]
    np.testing.assert_allclose(tangent, frozen, rtol=1e-12)
    assert np.abs(tangent - tpc.limit(CBOW)["loss"]).max() > 1e-3


@pytest.mark.slow
def test_word2vec_at_finite_width_comes_close(corpora: Any) -> None:
    """The deviation of loss and Gram matrix is of order n^-1/2."""
    both = compiled(corpora, rate=0.5)
    limit = tpc.limit(both, method="exact")
    for name in ("held", "gram"):
        deviations = []
        for width in (64, 1024):
            runs = [tpc.simulate(both, width=width, seeds=1, seed=s)[name] for s in range(6)]
            deviations.append(np.sqrt(np.mean([np.square(r - limit[name]) for r in runs])))
        slope = np.log(deviations[1] / deviations[0]) / np.log(16)
        assert -0.75 < slope < -0.3, (name, slope)


# --------------------------------------------------------------------------------------------------------------- maml
def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def encoded(image: Any, depth: int, filters: list[int]) -> bytes:
    """A grey PNG whose lines are filtered as told."""
    height, width = image.shape
    bits = (image.astype(np.uint8)[:, :, None] >> np.arange(depth)[::-1]) & 1
    lines = np.packbits(bits.reshape(height, -1), axis=1).astype(int)
    body, above = b"", np.zeros(lines.shape[1], int)
    for kind, line in zip(filters, lines, strict=True):
        left, corner = np.concatenate([[0], line[:-1]]), np.concatenate([[0], above[:-1]])
        p = left + above - corner
        near = np.abs(np.array([left, above, corner]) - p)
        guess = [
            0, left, above, (left + above) // 2, np.choose(near.argmin(axis=0), [left, above, corner])
        ][kind]  # fmt: skip
        body += bytes([kind]) + ((line - guess) % 256).astype(np.uint8).tobytes()
        above = line
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("depth", [1, 4, 8])
def test_drawings_are_decoded(depth: int) -> None:
    random = np.random.default_rng(depth)
    image = random.integers(0, 2**depth, (10, 13))
    data = encoded(image, depth, [0, 1, 2, 3, 4, 4, 3, 2, 1, 0])
    np.testing.assert_allclose(omniglot.png(data), image / (2**depth - 1), rtol=1e-15)
    with pytest.raises(ValueError, match="not a PNG"):
        omniglot.png(b"GIF89a")


def test_images_shrink_by_areas() -> None:
    image = np.arange(36.0).reshape(1, 6, 6)
    np.testing.assert_allclose(omniglot.shrunk(image, 3), image.reshape(1, 3, 2, 3, 2).mean(axis=(2, 4)), rtol=1e-14)
    np.testing.assert_allclose(omniglot.shrunk(image, 4).mean(), image.mean(), rtol=1e-14)


def archive(path: Path, alphabets: int = 2, letters: int = 6, drawings: int = 4, size: int = 10) -> Path:
    """An archive as Omniglot's, every letter a pattern with some noise."""
    random = np.random.default_rng(2)
    with zipfile.ZipFile(path, "w") as files:
        for a in range(alphabets):
            for k in range(letters):
                pattern = random.random((size, size)) < 0.6
                for s in range(drawings):
                    image = pattern ^ (random.random((size, size)) < 0.1)
                    name = f"images/Alphabet{a}/character{k:02}/{a}{k}_{s:02}.png"
                    files.writestr(name, encoded(image, 1, [0] * size))
    return path


TASKS = omniglot.Recipe(updates=6, tasks=3, classes=3, held=4, size=5, fraction=0.3)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("images")
    found = omniglot.characters([archive(folder / "a.zip"), folder / "a.zip"], TASKS.size)
    return folder, found, omniglot.arrays(found, TASKS)


def test_tasks_are_made_of_characters(drawn: Any) -> None:
    _, characters, found = drawn
    assert len(characters) == 12 and all(x.shape == (4, 5, 5) for x in characters.values())
    assert found["support"].shape == (7, 3, 3) and found["held_query"].shape == (4, 3)
    used = {int(k) for name in ("support", "query", "held_support", "held_query") for k in found[name].ravel()}
    assert used == set(range(1, len(found["image"]) + 1))
    assert (found["support"] != found["query"]).all()
    training = {int(k) for name in ("support", "query") for k in found[name].ravel()}
    held = {int(k) for name in ("held_support", "held_query") for k in found[name].ravel()}
    assert not training & held


def maml(drawn: Any, **changed: float) -> Any:
    folder, _, found = drawn
    return program(folder, EXAMPLES / "maml" / "maml.nexort", "omniglot.npz", found, omniglot.sizes(found) | changed)


@pytest.mark.parametrize("features", [1.0, 0.0])
@pytest.mark.parametrize("bound", [0.5, 100.0])
def test_maml_is_the_small_dense_network(drawn: Any, features: float, bound: float) -> None:
    settings = {"rate": 0.2, "inner": 0.3, "alpha": 0.7, "spread": 0.5, "bound": bound}
    found = tpc.limit(maml(drawn, features=features, **settings), method="exact")
    expected = recursions.maml(drawn[2], **settings, adaptations=20, features=features)
    for name, value in expected.items():
        assert found.outputs[name].method == "exact"
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_maml_at_finite_width_comes_close(drawn: Any) -> None:
    """Initial readouts are of order n^-1/2 at finite width and vanish in the limit."""
    both = maml(drawn, spread=0.5)
    limit = tpc.limit(both, method="exact", only=["loss"])["loss"]
    deviations = []
    for width in (64, 1024):
        runs = [tpc.simulate(both, width=width, seeds=1, seed=s, only=["loss"])["loss"] for s in range(6)]
        deviations.append(np.sqrt(np.mean([np.square(r - limit) for r in runs])))
    slope = np.log(deviations[1] / deviations[0]) / np.log(16)
    assert -1.2 < slope < -0.3, slope


def said(
    module: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> str:
    """The message of a script that refuses its arguments."""
    monkeypatch.setattr(sys, "argv", ["script", *arguments])
    with pytest.raises(SystemExit):
        module.main()
    return capsys.readouterr().err


def test_the_loaders_refuse_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text, out = tmp_path / "text", str(tmp_path / "out")
    text.write_text("one two three two one\n" * 30, encoding="utf-8")
    (tmp_path / "latin").write_bytes(b"caf\xe9 one two")
    (tmp_path / "one").write_text("one", encoding="utf-8")
    for arguments, words in (
        ((str(tmp_path / "none"),), "No such file"),
        ((str(tmp_path),), "directory"),
        ((str(tmp_path / "latin"),), "not valid UTF-8"),
        ((str(text), "--vocabulary", "0"), "at least 2"),
        ((str(text), "--window", "0"), "at least 1"),
        ((str(text), "--vocabulary", "9"), "fewer than"),
        ((str(tmp_path / "one"), "--vocabulary", "2"), "fewer than"),
    ):
        assert words in said(corpus, capsys, monkeypatch, *arguments, "--out", out)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("images/Greek/alpha/1.png", b"no picture")
    for arguments, words in (
        ((str(tmp_path / "none.zip"),), "No such file"),
        ((str(text),), "not a zip"),
        ((str(tmp_path / "bad.zip"),), "alpha/1.png: not a PNG"),
        ((str(tmp_path / "bad.zip"), "--size", "0"), "at least 1"),
        ((str(tmp_path / "bad.zip"), "--paper", "5"), "0 or 1"),
    ):
        assert words in said(omniglot, capsys, monkeypatch, *arguments, "--out", out)


def test_a_text_of_one_line_is_held_out_in_part() -> None:
    line = np.arange(500) % 7
    trained, kept = corpus.split([line])
    np.testing.assert_array_equal(np.concatenate([*trained, *kept]), line)
    assert kept[0].size == 50
    with pytest.raises(ValueError, match="too short"):
        corpus.split([line[:9]])


def test_no_subsampling_keeps_every_word() -> None:
    recipe = corpus.Recipe(vocabulary=7, updates=2, batch=2, subsample=0.0)
    assert (corpus.Sampler([np.arange(70) % 7], recipe).keep == 1).all()
