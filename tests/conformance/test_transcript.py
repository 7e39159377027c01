"""What a running Ollama answered, against the simulator and against the router in front of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path

import pytest
from anyio import to_thread

import conformance
from conformance.by_design import row_for
from conformance.catalogue import exchanges
from conformance.subject import Subject
from conformance.transcript import Recorded, compare_with_record, read_transcript, recorded_models
from conformance.wire import Answer, Server
from ollama_router_core.testing import OllamaSimulator, SimulatedModel
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

_TRANSCRIPT = Path(conformance.__file__).parent / "recorded" / "ollama-0.33.0-rc2.jsonl.gz"
_SUBJECT = Subject(version="0.33.0-rc2", model="gemma3:270m", thinking="toolish:latest", tools="toolish:latest")
_NONCE = "a8b3f30768ce"
_WEIGHTS = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"


@cache
def recorded() -> Sequence[Recorded]:
    """The transcript, with the names and topics of the catalogue."""
    return read_transcript(_TRANSCRIPT, exchanges(_SUBJECT, nonce=_NONCE, destructive=True))


def simulated() -> OllamaSimulator:
    """A server with the models that the recorded one had: three names on one file, on a machine without a GPU."""
    models = [
        SimulatedModel(
            name=entry["name"],
            size=entry["size"],
            digest=entry["digest"],
            weights=_WEIGHTS,
            parent_model=entry["details"]["parent_model"],
            family="gemma3",
            parameter_size="268.10M",
            context_length=entry["details"]["context_length"],
            embedding_length=entry["details"]["embedding_length"],
            block_count=18,
            head_count=4,
            head_count_kv=1,
            key_length=256,
            capabilities=tuple(entry["capabilities"]),
            parameters={"stop": ["<end_of_turn>"]},
            modified_at=datetime.fromisoformat(entry["modified_at"][:19] + "+00:00").timestamp(),
            plain=True,
        )
        for entry in recorded_models(recorded())
    ]
    return OllamaSimulator(models=models, version="0.33.0-rc2", vram=0)


def replay(server: Server) -> list[tuple[Recorded, list[Answer]]]:
    """Send every recorded request, in order."""
    return [(one, server.ask_all(one.exchange.requests)) for one in recorded()]


async def test_the_transcript_is_read_whole() -> None:
    """521 of 523 exchanges can be sent again; two have bodies that were not kept. All but one are the catalogue's."""
    assert len(recorded()) == 521
    assert [one.exchange.name for one in recorded() if one.exchange.group == "recorded"] == ["POST /api/chat, line 489"]


async def test_the_simulator_answers_as_a_running_ollama_did() -> None:
    """Statuses, headers, framing, texts of errors, keys and their order: no difference."""
    async with simulated() as sim:
        answers = await to_thread.run_sync(replay, Server(url=sim.url, timeout=20))
    assert {
        f"{one.exchange.group}: {one.exchange.name}": differences
        for one, got in answers
        if (differences := compare_with_record(one, got))
    } == {}


async def test_the_router_answers_as_a_running_ollama_did(tmp_path: Path) -> None:
    """What differs is in the table of wanted differences."""
    async with (
        simulated() as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        server = Server(url=router.url, token=router.admin_token, timeout=20)
        answers = await to_thread.run_sync(replay, server)
    assert {
        f"{one.exchange.group}: {one.exchange.name}": unexplained
        for one, got in answers
        if (
            unexplained := [
                difference
                for difference in compare_with_record(one, got)
                if row_for(one.exchange, difference, one.answers, got) is None
            ]
        )
    } == {}
