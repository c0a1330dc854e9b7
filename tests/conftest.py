"""Options of the whole test suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# No deadline, and no health check that measures time: a busy machine breaks no test (times are marked `timed`).
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the expected texts of tests/golden")
    parser.addoption("--backend", default="numpy", help="the array library with which limits are sampled")


@pytest.fixture(autouse=True, scope="session")
def sampled_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """Limits are sampled with the library of `--backend`."""
    name = request.config.getoption("--backend")
    with pytest.MonkeyPatch.context() as patch:
        if name != "numpy":
            from tp_compiler.evaluate.backend import backend
            from tp_compiler.evaluate.options import Options

            patch.setattr(Options, "library", property(lambda _: backend(name)))
        yield


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))
