"""Noise in prompts is left out on the wire, and the answer says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_router_core.testing import OllamaSimulator, model
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

MODEL = "llama3.1:8b"
BILLING = "x-anthropic-billing-header: cc_version=2.1.37.fbe; cc_entrypoint=cli; cch=%s;"


@pytest.mark.parametrize("strips", [True, False])
async def test_requests_of_claude_code_begin_alike(tmp_path: Path, strips: bool) -> None:
    """With the rule, a server gets the same beginning of a prompt each time."""
    rules = [{"pattern": "llama*", "strip_noise": strips}]
    async with (
        OllamaSimulator(models=[model(MODEL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, model_config={"rules": rules}) as router,
        router.client() as client,
    ):
        for number in ("a1b2c", "0fe31"):
            system = [{"type": "text", "text": BILLING % number}, {"type": "text", "text": "You are Claude Code."}]
            said = {"model": MODEL, "max_tokens": 9, "system": system, "messages": [{"role": "user", "content": "hi"}]}
            answer = await client.post("/v1/messages", json=said)
            assert answer.status_code == 200
        rows = await router.rows(2)
    first, second = (sent.json["system"] for sent in sim.requests_to("/v1/messages"))
    assert (first == second) is strips
    assert answer.headers.get("x-router-dropped") == ("noise.claude-code-billing" if strips else None)
    assert ("claude-code-billing left out" in rows[0].reason) is strips
