"""Text that changes with each request and means nothing to a model is left out where a rule says so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.api.requests import ParsedRequest, parse_request
from ollama_router_core.config.model_settings import ModelRule, ModelSettings
from ollama_router_core.routing.noise import without_noise
from ollama_router_core.routing.policy import apply_policy

BILLING = "x-anthropic-billing-header: cc_version=2.1.37.fbe; cc_entrypoint=cli; cch=%s;"
YOU = "You are Claude Code."


def request(path: str = "/v1/messages", **body: Any) -> ParsedRequest:
    """A request with these members."""
    return parse_request(match_endpoint("POST", path), json.dumps({"model": "m", **body}).encode())


def texts(*parts: str) -> list[dict[str, str]]:
    """Parts of text."""
    return [{"type": "text", "text": part} for part in parts]


@pytest.mark.parametrize(
    ("key", "said", "left"),
    [
        ("system", texts(BILLING % "a1b2c", YOU), texts(YOU)),
        ("system", f"{BILLING % 'a1b2c'}\n{YOU}", YOU),
        ("system", texts(f"{BILLING % '0'}\n{YOU}"), texts(YOU)),
        (
            "messages",
            [{"role": "system", "content": texts(BILLING % "9", YOU)}],
            [{"role": "system", "content": texts(YOU)}],
        ),
        ("messages", [{"role": "user", "content": "build cch=0fe31; now"}], [{"role": "user", "content": "build now"}]),
        (
            "messages",
            [{"role": "user", "content": "<environment_details>\n# Current Time\n11/29/2026, 2:00:01 PM\n\n# Files\n"}],
            [{"role": "user", "content": "<environment_details>\n# Files\n"}],
        ),
    ],
)  # fmt: skip
def test_what_is_known_is_left_out(key: str, said: Any, left: Any) -> None:
    """Wherever it stands; a part of nothing else goes with it."""
    found, names = without_noise(request(**{"messages": [], key: said}))
    assert found.document is not None
    assert found.document.get(key) == left
    assert names


@pytest.mark.parametrize(
    "content",
    [
        "what is an x-anthropic-billing-header?",
        "the branch=main and catch=all",
        "ouch=abc;",
        "## Current Time zones",
    ],
)
def test_what_people_write_about_it_stays(content: str) -> None:
    """Byte for byte, whole bodies included."""
    asked = request(messages=[{"role": "user", "content": content}])
    assert without_noise(asked) == (asked, ())


def test_what_the_model_said_stays() -> None:
    """An answer that quotes it is part of the conversation."""
    said = [{"role": "assistant", "content": BILLING % "a"}]
    assert without_noise(request(messages=said))[1] == ()


def test_two_requests_are_the_same_without_it() -> None:
    """Which is what a cache of prompts needs."""
    bodies = {without_noise(request(system=texts(BILLING % n, YOU), messages=[]))[0].body for n in ("a1b2c", "9f8e7")}
    assert len(bodies) == 1


def test_a_number_that_json_cannot_hold_stays_as_it_is() -> None:
    """Nothing is left out of such a value, rather than something else broken."""
    body = b'{"model":"m","system":"x","messages":[{"role":"user","content":"cch=a1b2c;","n":1e400}]}'
    asked = parse_request(match_endpoint("POST", "/v1/messages"), body)
    assert without_noise(asked)[0].body == body


@pytest.mark.parametrize("strips", [True, False])
def test_a_rule_decides(strips: bool) -> None:
    """Off unless it says so, and then it is said."""
    settings = ModelSettings(rules=(ModelRule(pattern="m", strip_noise=strips),))
    applied = apply_policy(request(system=texts(BILLING % "a", YOU), messages=[]), settings)
    assert applied.dropped == (("claude-code-billing",) if strips else ())
    assert applied.changes == (("claude-code-billing left out",) if strips else ())
