"""A simulator and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator
from support.plain_http import async_client

MODELS = ["llama3.1:8b", "qwen3:8b", "gemma3:12b", "nomic-embed-text"]


@pytest.fixture
async def sim() -> AsyncIterator[OllamaSimulator]:
    """A server with a model that talks, one that thinks, one that sees and one that embeds."""
    async with OllamaSimulator(models=MODELS, registry=["mistral:7b"]) as simulator:
        yield simulator


@pytest.fixture
async def http(sim: OllamaSimulator) -> AsyncIterator[httpx.AsyncClient]:
    """A client that follows no redirect and waits at most 20 seconds."""
    async with async_client(sim.url) as client:
        yield client
