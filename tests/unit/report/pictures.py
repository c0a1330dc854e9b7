"""Pictures that are kept, small, in tests/golden/pictures: `python -m tests.unit.report.pictures` draws them anew."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tp_compiler as tpc
from tests.unit.report.fabricate import estimate
from tp_compiler.finite.converge import OutputCheck, Verification
from tp_compiler.results import Run

FOLDER = Path(__file__).resolve().parents[2] / "golden" / "pictures"
#: Dots per inch of what is kept.
DPI = 24


def _run(**outputs: Any) -> Run:
    return Run("picture.nexort", "limit", outputs, settings={"seed": 0})


def curves(theme: str) -> Any:
    steps = np.arange(31)[:, None]
    value = np.sin(0.3 * np.arange(16)) * (1 - np.exp(-steps / 8))
    few = estimate(value[:, :5], 0.04, ("step", "i"))
    return _run(many=estimate(value, 0.0, ("step", "i")), few=few).plot(theme=theme)


def maps(theme: str) -> Any:
    x = np.linspace(-1, 1, 6)
    return _run(
        positive=estimate(np.exp(-((x[:, None] - x) ** 2)), 0.0, ("i", "j")),
        signs=estimate(np.sin(3 * (x[:, None] + x)), 0.0, ("i", "j")),
    ).plot(theme=theme)


def laws(theme: str) -> Any:
    covariance = np.array([[1.0, 0.5, -0.3], [0.5, 2.0, 0.1], [-0.3, 0.1, 0.25]])
    return _run(f=estimate([0.0, 0.5, 0.0], 0.0, ("i",), law="gaussian", covariance=covariance)).plot(theme=theme)


def verification(theme: str) -> Any:
    widths = (64, 128, 256)
    rate = OutputCheck("K", widths, (1.5, 0.7, 2.0), 1.1, 3.0, 4.2, (0.08, 0.057, 0.04), -0.5, (-0.6, -0.4), 9, True)
    law = OutputCheck("f", widths, (1.0, 2.0, 0.5), 0.4, 0.1, 4.2, (0.9, 1.1, 1.0), None, None, 3, True, law="gaussian")
    return Verification((rate, law), 1e-3, 12, True).plot(theme=theme)


def classes(theme: str) -> Any:
    return tpc.scale("examples/train_mlp.nexort").plot(theme=theme)


def graph(theme: str) -> Any:
    return tpc.equations("examples/tied_weights.nexort").graph().plot(theme=theme)


PICTURES: dict[str, Callable[[str], Any]] = {
    function.__name__: function for function in (curves, maps, laws, verification, classes, graph)
}


def rendered(picture: Any) -> bytes:
    buffer = io.BytesIO()
    picture.savefig(buffer, format="png", dpi=4 * DPI)
    return buffer.getvalue()


def small(picture: Any) -> Any:
    """The picture in few pixels, each the mean of many."""
    from PIL import Image

    image = Image.open(io.BytesIO(rendered(picture))).convert("RGB")
    width, height = (round(float(x) * DPI) for x in picture.get_size_inches())
    return np.asarray(image.resize((width, height), Image.Resampling.BOX), dtype=float)


def kept(name: str, theme: str) -> Any:
    from PIL import Image

    return np.asarray(Image.open(FOLDER / f"{name}_{theme}.png"), dtype=float)


def tolerance() -> float:
    """The RMS difference allowed, of 255: versions of matplotlib place things differently (14 between 3.8 and 3.11)."""
    import matplotlib

    return 3.0 if (FOLDER / "matplotlib").read_text(encoding="utf-8").strip() == matplotlib.__version__ else 16.0


def main() -> None:
    import matplotlib
    from PIL import Image

    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "matplotlib").write_text(f"{matplotlib.__version__}\n", encoding="utf-8")
    for name, make in PICTURES.items():
        for theme in ("light", "dark"):
            pixels = small(make(theme)).astype(np.uint8)
            Image.fromarray(pixels).save(FOLDER / f"{name}_{theme}.png", optimize=True)


if __name__ == "__main__":
    main()
