"""Tests of the relay and of faults run on both drivers of the exchange, cold and warm."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest

from support.digests import cheap_digests
from support.exchange_modes import MODES, Mode, using

ROOMS = ("relay", "faults")
_FRONT_COLD, _FRONT_WARM, *_ASGI = MODES


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test that may start a router: on the front cold and warm, under ASGI one of the two; or one of the three."""
    if "exchange_mode" not in metafunc.fixturenames:
        return
    modes: list[Mode | None] = [None]
    if metafunc.definition.path.parent.name in ROOMS and hasattr(metafunc.module, "running_router"):
        warm_only = metafunc.definition.get_closest_marker("warm_only") is not None
        modes = [_FRONT_WARM] if warm_only else [_FRONT_COLD, _FRONT_WARM]
        chance = zlib.crc32(metafunc.definition.name.encode())
        if metafunc.definition.get_closest_marker("front_only") is None:
            modes.append(_ASGI[1 if warm_only else chance % 2])
        if metafunc.config.getoption("--exchange-modes") == "one":
            modes = [modes[chance // 2 % len(modes)]]
    metafunc.parametrize("exchange_mode", modes, ids=[str(mode) if mode else "" for mode in modes], indirect=True)


@pytest.fixture(autouse=True)
def exchange_mode(request: pytest.FixtureRequest) -> Iterator[Mode | None]:
    """The mode that routers of a test run in."""
    mode: Mode | None = getattr(request, "param", None)
    if mode is None:
        yield None
        return
    with using(mode) as driven:
        yield mode
    if mode.driver == "asgi":
        assert driven["front"] == 0, "a router ran on another driver than the test said"


@pytest.fixture(scope="session", autouse=True)
def made_quickly() -> Iterator[None]:
    """Users are made without the cost of their digests."""
    with cheap_digests():
        yield
