"""Pictures, by what is drawn in them. They need the plot extra, which the default tests do not install: hence slow."""

from __future__ import annotations

import dataclasses
import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.integrate import trapezoid

import tp_compiler as tpc
from tests.unit.report.fabricate import estimate
from tests.unit.report.pictures import PICTURES, kept, small, tolerance
from tp_compiler import cli
from tp_compiler.finite.converge import Verification
from tp_compiler.results import Estimate, Run

pytestmark = pytest.mark.slow
pytest.importorskip("matplotlib")


def made(run: Run, **outputs: Any) -> Run:
    return dataclasses.replace(run, outputs=outputs, failed={}, coordinates={})


def lines(axes: Any) -> list[Any]:
    """The curves: lines of more than one point, without the zero line."""
    return [line for line in axes.get_lines() if len(line.get_xdata()) > 2]


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("ending", [".png", ".pdf", ".svg"])
def test_files_are_the_same_from_run_to_run(run: Run, tmp_path: Path, ending: str, theme: str) -> None:
    one, two = tmp_path / f"one{ending}", tmp_path / f"two{ending}"
    some = made(run, **{name: run.outputs[name] for name in ("f", "nngp", "g")})
    some.plot(one, theme=theme)
    some.plot(two, theme=theme)
    assert one.read_bytes() == two.read_bytes() and one.stat().st_size > 1000


def test_the_text_of_an_svg_is_text(run: Run) -> None:
    page = run.plot()._repr_svg_()
    assert "nngp[i, j]" in page and "not computed: k" in page and "$a_b$" in page


def test_a_theme_that_does_not_exist(run: Run) -> None:
    with pytest.raises(ValueError, match="the themes are light, dark"):
        run.plot(theme="sepia")


def test_networks_are_results(run: Run) -> None:
    for wrong in ([64], 64, [run], run):
        with pytest.raises(TypeError, match="results of simulate"):
            run.plot(networks=wrong)  # type: ignore[arg-type]


def test_trajectories_have_bands_of_two_standard_errors(run: Run) -> None:
    value, error = np.arange(12.0).reshape(4, 3) ** 2, np.full((4, 3), 0.25)
    error[:, 1] = 0
    (axes,) = made(run, f=estimate(value, error, ("step", "i"))).plot().axes
    curves = lines(axes)
    for k, curve in enumerate(curves):
        np.testing.assert_array_equal(curve.get_xdata(), range(4))
        np.testing.assert_array_equal(curve.get_ydata(), value[:, k])
    assert len(curves) == 3 and axes.get_xlabel() == "step"
    assert texts(axes) == ["i = 1", "i = 2", "i = 3"]
    assert [t.get_color() for t in axes.texts] == [c.get_color() for c in curves]
    bands = [np.asarray(band.get_paths()[0].vertices) for band in axes.collections]
    assert len(bands) == 2  # an exact curve has no band
    for band, k in zip(bands, (0, 2), strict=True):
        last = band[np.isclose(band[:, 0], 3), 1]
        assert (last.min(), last.max()) == (value[3, k] - 0.5, value[3, k] + 0.5)


@pytest.mark.parametrize("count", [2, 6, 7, 16, 90])
def test_no_two_curves_have_the_same_colour(run: Run, count: int) -> None:
    (axes,) = made(run, f=estimate(np.random.default_rng(0).random((4, count)), 0.0, ("step", "i"))).plot().axes
    colours = {tuple(np.round(np.atleast_1d(_rgb(line.get_color())), 6)) for line in lines(axes)}
    assert len(lines(axes)) == len(colours) == count
    shown = texts(axes)
    assert shown[0] == "i = 1" and shown[-1] == f"i = {count}" and len(shown) == min(count, 12)


def _rgb(colour: Any) -> Any:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def test_labels_do_not_overlap(run: Run) -> None:
    value = np.zeros((4, 6))
    value[-1] = [0.5, 0.5, 0.501, 0.1, 0.9, 0.9]
    picture = made(run, f=estimate(value, 0.0, ("step", "i"))).plot()
    picture.draw_without_rendering()
    boxes = sorted((t.get_window_extent().y0, t.get_window_extent().y1) for t in picture.axes[0].texts)
    assert all(below[1] <= above[0] + 1 for below, above in itertools.pairwise(boxes))


@pytest.mark.parametrize("case", range(40))
def test_places_are_moved_as_little_as_possible(case: int) -> None:
    """Against SciPy's least squares with the same constraints."""
    from scipy.optimize import minimize

    from tp_compiler.report.plots.spacing import spread

    places = np.sort(np.random.default_rng(case).normal(size=6) * 3)
    found = np.array(spread(list(places), [1.0] * 5))
    assert (np.diff(found) >= 1 - 1e-9).all()
    apart = {"type": "ineq", "fun": lambda x: np.diff(x) - 1}
    best = minimize(
        lambda x: np.sum((x - places) ** 2), places[0] + np.arange(6.0), constraints=[apart], method="SLSQP"
    )
    np.testing.assert_allclose(found, best.x, atol=2e-4)


def test_networks_are_drawn_over_the_limit(run: Run) -> None:
    value = np.arange(4.0)
    limit = made(run, f=estimate(value, 0.1, ("step",)))
    network = dataclasses.replace(
        made(run, f=estimate(value + 1, 0.2, ("step",))), command="simulate", settings={"width": 64}
    )
    picture = limit.plot(networks=[network])
    assert [list(line.get_ydata()) for line in lines(picture.axes[0])] == [list(value), list(value + 1)]
    styles = {line.get_linestyle() for line in lines(picture.axes[0])}
    assert len(styles) == 2
    assert [t.get_text() for t in picture.legends[0].get_texts()] == ["limit", "n = 64"]


def test_kernels_are_maps_with_their_values(run: Run) -> None:
    kernel = np.array([[1.0, 0.25], [0.25, 2.0]])
    axes = made(run, K=estimate(kernel, 0.0, ("i", "j"))).plot().axes[0]
    image = axes.get_images()[0]
    np.testing.assert_array_equal(image.get_array(), kernel)
    assert texts(axes) == ["1.00", "0.25", "0.25", "2.00"]
    assert image.get_clim() == (0.25, 2.0) and image.get_cmap().name == "viridis"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_where_signs_differ_the_map_is_divergent_about_zero(run: Run, theme: str) -> None:
    picture = made(run, K=estimate([[1.0, -0.25], [-0.25, 3.0]], 0.0, ("i", "j"))).plot(theme=theme)
    image = picture.axes[0].get_images()[0]
    assert image.get_clim() == (-3.0, 3.0)
    below, zero, above = (np.array(image.cmap(image.norm(v))[:3]) for v in (-3.0, 0.0, 3.0))
    assert below[2] > below[0] + 0.3 and above[0] > above[2] + 0.3  # blue below, red above
    assert np.ptp(zero) < 0.06 and np.abs(zero - _rgb(picture.theme.paper)).max() < 0.1  # 0 fades into the paper


def test_values_are_left_out_where_they_do_not_fit(run: Run) -> None:
    axes = made(run, K=estimate(np.eye(30), 0.0, ("i", "j"))).plot().axes[0]
    assert texts(axes) == []


def test_values_in_cells_have_contrast() -> None:
    from tp_compiler.report.plots.heat_map import ink_on

    for grey in np.linspace(0, 1, 41):
        ink = 0.0 if ink_on((grey, grey, grey)) == "black" else 1.0
        assert contrast((grey,) * 3, (ink,) * 3) > 4.5


def test_random_outputs_are_distributions(run: Run) -> None:
    covariance = np.array([[1.0, 0.25], [0.25, 4.0]])
    output = estimate([0.0, 0.5], 0.0, ("i",), law="gaussian", covariance=covariance)
    violins, correlation, *_ = made(run, f=output).plot().axes
    for k, (centre, deviation) in enumerate([(0.0, 1.0), (0.5, 2.0)]):
        outline = np.asarray(violins.collections[k].get_paths()[0].vertices)
        widest = outline[np.argmax(outline[:, 0])]
        np.testing.assert_allclose(widest[1], centre, atol=0.05)
        one = outline[np.argmin(np.abs(outline[:, 1] - centre - deviation) + (outline[:, 0] < k))]
        np.testing.assert_allclose((one[0] - k) / (widest[0] - k), np.exp(-0.5), atol=0.02)
    np.testing.assert_allclose(correlation.get_images()[0].get_array(), [[1, 0.125], [0.125, 1]])
    assert correlation.get_images()[0].get_clim() == (-1, 1)


def test_the_density_of_one_random_number(run: Run) -> None:
    output = estimate(0.3, 0.0, law="gaussian", covariance=np.array([[4.0]]))
    (axes,) = made(run, f=output).plot().axes
    curve = axes.get_lines()[0]
    x, y = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
    np.testing.assert_allclose(trapezoid(y, x), 1, atol=2e-3)
    np.testing.assert_allclose([trapezoid(x * y, x), y.max()], [0.3, 1 / np.sqrt(8 * np.pi)], atol=1e-3)


def test_outputs_over_learning_rates(run: Run) -> None:
    rates = [0.001, 0.1, 0.01]
    value = np.arange(12.0).reshape(4, 3)
    outputs = {"loss": estimate(value, 0.0, ("step", "r")), "last": estimate(value[-1], 0.0, ("r",))}
    lr = dataclasses.replace(run, outputs=outputs, failed={}, coordinates={"r": {"lr": rates}})
    steps, last = lr.plot().axes
    assert texts(steps) == ["lr = 0.001", "lr = 0.1", "lr = 0.01"] and steps.get_xlabel() == "step"
    assert last.get_xscale() == "log" and last.get_xlabel() == "lr"
    np.testing.assert_array_equal(last.get_lines()[0].get_xdata(), sorted(rates))
    np.testing.assert_array_equal(last.get_lines()[0].get_ydata(), [9, 11, 10])
    first = lr.plot(x="lr").axes[0]
    assert first.get_xlabel() == "lr" and texts(first) == [f"step = {k}" for k in range(4)]
    with pytest.raises(ValueError, match=r"no output has an index 'rate'.*there are step, r, lr"):
        lr.plot(x="rate")


def test_positive_values_over_many_orders_are_on_a_logarithmic_axis(run: Run) -> None:
    value = np.array([1e-4, 1.0, 50.0])
    for values, scale in ((value, "log"), (value - 1, "linear"), (value[1:], "linear")):
        assert made(run, f=estimate(values, 0.0, ("step",))).plot().axes[0].get_yscale() == scale


def test_every_kind_of_output_at_once(run: Run) -> None:
    shown = [axes.get_title(loc="left") for axes in run.plot().axes]
    for title in ("numbers", "f[i]", "nngp[i, j]", "t[i, s, t], i = 2", "g[i]", "correlation of g[i]"):
        assert title in shown
    assert "there are no outputs" in texts(dataclasses.replace(run, outputs={}).plot())


# ------------------------------------------------------------------------------------------------------ verification
def test_deviations_beside_the_expected_rate(verification: Verification) -> None:
    good, bad, exact = verification.plot().axes
    networks, guide = good.get_lines()
    np.testing.assert_array_equal(networks.get_ydata(), [0.04, 0.028, 0.02])
    np.testing.assert_allclose(np.diff(np.log(guide.get_ydata())) / np.diff(np.log(guide.get_xdata())), -0.5)
    assert "slope -0.50" in networks.get_label()
    assert bad.get_title(loc="right") == "FAIL" and texts(exact) == ["equal at every width"]


def test_outputs_that_stay_random_have_no_rate(verification: Verification) -> None:
    """Their networks do not approach a number: the guide would ask for what the theorem does not say."""
    random = dataclasses.replace(verification.checks[1], law="gaussian", deviation=(0.9, 1.1, 1.0), z=(1.0, 2.0, 0.5))
    (axes,) = dataclasses.replace(verification, checks=(random,)).plot().axes
    networks, corrected, allowed = axes.get_lines()
    np.testing.assert_array_equal(networks.get_ydata(), random.z)
    assert set(allowed.get_ydata()) == {random.threshold} and list(corrected.get_ydata()) == [random.z_corrected]
    assert not any("n^{-1/2}" in str(line.get_label()) for line in axes.get_lines())
    assert "|z|" in axes.get_ylabel()


def test_a_program_with_both_kinds_of_outputs() -> None:
    program = "ket |u> ~ N(0, 1)\nket |v> ~ N(0, 1)\noutput f = clt <v|tanh(u)>\noutput k = <tanh(u)|u>\n"
    random, number = tpc.verify(program, widths=(16, 32, 64), seeds=8).plot().axes
    assert "|z|" in random.get_ylabel() and "RMS" in number.get_ylabel()


# ------------------------------------------------------------------------------------------------------------ themes
#: Linear maps of linear RGB: what is left of colours without one kind of cone (Machado et al. 2009, severity 1).
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(colour: Any) -> Any:
    c = np.array(_rgb(colour))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(one: Any, two: Any) -> float:
    dark, light = sorted(float(np.dot([0.2126, 0.7152, 0.0722], linear(c))) for c in (one, two))
    return (light + 0.05) / (dark + 0.05)


def lab(rgb: Any) -> Any:
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
    xyz = np.array(to_xyz) @ np.clip(rgb, 0, 1) / [0.95047, 1, 1.08883]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_can_be_told_apart(theme: str, sight: str) -> None:
    from tp_compiler.report.plots.theme import THEMES

    colours = THEMES[theme].curves
    seen = [lab(np.array(SIGHT[sight]) @ linear(c)) for c in colours]
    distances = [np.linalg.norm(a - b) for k, a in enumerate(seen) for b in seen[:k]]
    assert min(distances) > 29
    assert min(contrast(c, THEMES[theme].paper) for c in colours) >= 3  # WCAG, graphical objects


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_print_has_contrast(theme: str) -> None:
    from tp_compiler.report.plots.theme import THEMES

    chosen = THEMES[theme]
    for paper in (chosen.paper, chosen.stable, chosen.unstable):
        assert contrast(chosen.ink, paper) >= 7 and contrast(chosen.muted, paper) >= 3.9
    assert (
        contrast(chosen.ordered_map(0.0), chosen.paper) >= 1.6
        and contrast(chosen.ordered_map(1.0), chosen.paper) >= 1.6
    )


# ------------------------------------------------------------------------------------------------------- the command
def test_the_commands_draw_alike(tmp_path: Path, capsys: Any) -> None:
    program = tmp_path / "kernel.nexort"
    program.write_text("axis i, j : 2\nket |u[i]> ~ N(0, 1)\noutput K[i,j] = <u[i]|tanh(u[j])>\n", encoding="utf-8")
    commands = {
        "limit": [],
        "simulate": ["--width", "16", "--seeds", "2"],
        "verify": ["--widths", "16,32", "--seeds", "2"],
        "scale": [],
        "equations": [],
    }
    for command, options in commands.items():
        target = tmp_path / f"{command}.svg"
        cli.main([command, str(program), *options, "--plot", str(target), "--theme", "dark", "--quiet"])
        capsys.readouterr()
        assert "#14171c" in target.read_text(encoding="utf-8"), command


def test_networks_and_learning_rates_from_the_command(tmp_path: Path, capsys: Any) -> None:
    program = tmp_path / "rates.nexort"
    program.write_text(RATES, encoding="utf-8")
    target = tmp_path / "rates.svg"
    options = ["--plot", str(target), "--networks", "16,32", "--x", "lr", "--samples", "64", "--quiet"]
    assert cli.main(["limit", str(program), *options]) == 0
    page = target.read_text(encoding="utf-8")
    assert ">n = 16<" in page and ">n = 32<" in page and ">lr<" in page and ">step = 1<" in page
    capsys.readouterr()
    assert cli.main(["limit", str(program), "--x", "lr"]) == 2 and "--x needs --plot" in capsys.readouterr().err
    assert cli.main(["limit", str(program), "--plot", str(target), "--x", "rate"]) == 2
    assert "there are step, r, lr" in capsys.readouterr().err


RATES = """
axis r : 3
data lr[r] = [0.001, 0.01, 0.1]
ket |u[r]> ~ N(0, 1)
ket |v[r]> ~ N(0, 1)
train steps = 1 {
    f[r] = <v[r]|tanh(u[r])>
    minimize sum[r](lr[r] * (f[r] - 1)^2)
    update all with SGD(lr = 1)
}
output f[step,r]
"""


def test_the_graph_of_a_limit() -> None:
    graph = tpc.equations(RATES).graph()
    axes = graph.plot().axes[0]
    labels = texts(axes)
    assert {"|u_{t,r}⟩", "f_{t,r}", "|v_{0,r}⟩"} <= set(labels) and len(labels) == len(graph.vertices)
    output = next(t for t in axes.texts if t.get_text() == "f_{t,r}")
    assert output.get_weight() == "bold"
    picture = graph.plot(theme="dark")
    picture.draw_without_rendering()
    corners = [t.get_window_extent() for t in picture.axes[0].texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(corners, 2))
    assert "from an earlier step" in [t.get_text() for t in picture.legends[0].get_texts()]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PICTURES)
def test_pictures_look_as_they_did(name: str, theme: str) -> None:
    """Small enough that a version of matplotlib or of FreeType does not matter; `python -m tests.unit.report.pictures`
    draws them anew."""
    found, before = small(PICTURES[name](theme)), kept(name, theme)
    assert found.shape == before.shape
    assert np.sqrt(np.mean((found - before) ** 2)) < tolerance()


def test_pictures_need_no_window(run: Run) -> None:
    """A PNG is rendered by Agg whatever the user's backend is."""
    buffer = io.BytesIO()
    run.plot().savefig(buffer, format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize("number", [0, 4, 5, 11])
def test_networks_of_a_width_have_one_colour_in_every_panel(number: int) -> None:
    """However many widths there are; the first colour is the limit's."""
    from tp_compiler.report.plots.distributions import draw_density
    from tp_compiler.report.plots.scalars import draw_scalars
    from tp_compiler.report.plots.theme import LIGHT, Picture

    one = Estimate(np.array(1.0), np.array(0.1), (), "exact")
    picture = Picture(LIGHT, (3, 3))
    dots, density = picture.panels(2)
    draw_scalars(picture, dots, ["k"], [one], [[one]] * (number + 1))
    draw_density(picture, density, 0.0, 1.0, [(0.0, 1.0)] * (number + 1))
    colours = {LIGHT.network(number), dots.containers[-1].lines[0].get_color(), density.lines[-1].get_color()}
    assert len(colours) == 1 and LIGHT.curves[0] not in colours
