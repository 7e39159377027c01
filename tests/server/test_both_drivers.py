"""Neither driver, and neither temperature, is left out by the tests of the relay and of faults."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from ollama_router_core.testing import OllamaSimulator
from support.exchange_modes import MODES, Mode, using
from support.raw_client import chat
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
FRONT_ONLY, WARM_ONLY = 8, 4
"""The most tests that may be about the front alone, or about connections that are used again."""


def test_every_test_with_a_router_runs_in_every_mode(request: pytest.FixtureRequest) -> None:
    """On the front cold and warm, under ASGI in one of the two, and all four are run."""
    modes: dict[str, set[str]] = defaultdict(set)
    for item in request.session.items:
        mode = getattr(item, "callspec", None) and item.callspec.params.get("exchange_mode")  # type: ignore[attr-defined]
        if isinstance(mode, Mode):
            modes[f"{item.path.name}::{item.originalname}"].add(str(mode))  # type: ignore[attr-defined]
    if len(modes) > 50:  # not when one file is run
        assert {mode for found in modes.values() for mode in found} == {str(mode) for mode in MODES}
    if request.config.getoption("--exchange-modes") == "one":
        return
    assert all("front-warm" in found for found in modes.values())
    warm_only = [name for name, found in modes.items() if "front-cold" not in found]
    assert len(warm_only) <= WARM_ONLY, warm_only
    front_only = [name for name, found in modes.items() if not any(mode.startswith("asgi") for mode in found)]
    assert len(front_only) <= FRONT_ONLY, front_only


@pytest.mark.parametrize("mode", MODES, ids=str)
async def test_a_mode_is_what_it_says(tmp_path: Path, mode: Mode) -> None:
    """Each exchange is run by the driver, with a connection of its own if it is cold."""
    with using(mode) as driven:
        async with (
            OllamaSimulator(models=[MODEL]) as simulator,
            running_router(tmp_path, {"one": server_entry(simulator)}) as router,
            router.client() as client,
        ):
            verified = router.services.authenticator.verifications
            for _ in range(3):
                assert (await client.post("/api/chat", content=chat(stream=False))).status_code == 200
            bcrypt = router.services.authenticator.verifications - verified
            idle = router.services.upstream.idle_connections
    assert driven == {mode.driver: 3}
    assert bcrypt == (1 if mode.temperature == "cold" else 0)
    assert (idle > 0) == (mode.temperature == "warm")
