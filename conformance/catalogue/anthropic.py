"""The Anthropic-compatible route."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conformance.catalogue.building import MISSING, PIXEL, TOOL, Exchange, post, say
from conformance.subject import Subject

__all__ = ["exchanges"]

_GROUP, _PATH = "anthropic messages", "/v1/messages"
_TOPICS = {"image": ("incapable",), "missing model": ("error of a stream",)}


def exchanges(subject: Subject) -> Iterator[Exchange]:
    """Messages whole and streamed, and what is refused."""
    if not subject.at_least(0, 14):
        return
    base: dict[str, Any] = {"model": subject.model, "max_tokens": 8, "temperature": 0, "messages": say()}
    streams = {"stream omitted": {}, "stream true": {"stream": True}, "stream false": {"stream": False}}
    for label, stream in streams.items():
        yield post(_GROUP, label, _PATH, {**base, **stream})
    yield post(_GROUP, "beta query", f"{_PATH}?beta=true", base)
    for label, more in _variants(subject).items():
        for flag in (True, False):
            topics = _TOPICS.get(label, ())
            body = {**base, **more, "stream": flag}
            yield post(_GROUP, f"{label}, stream {str(flag).lower()}", _PATH, body, *topics)
    for key in ("max_tokens", "messages", "model"):
        yield post(_GROUP, f"without {key}", _PATH, {name: value for name, value in base.items() if name != key})
    yield post(_GROUP, "max_tokens zero", _PATH, {**base, "max_tokens": 0})
    yield post(_GROUP, "no messages", _PATH, {**base, "messages": []})


def _variants(subject: Subject) -> dict[str, dict[str, Any]]:
    function = TOOL["function"]
    tool = {"name": function["name"], "description": "The weather.", "input_schema": function["parameters"]}
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "11 degrees"}
    used = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Rome"}}
    asked = [*say("Weather?"), {"role": "assistant", "content": [used]}, {"role": "user", "content": [result]}]
    variants: dict[str, dict[str, Any]] = {
        "system text": {"system": "Be brief."},
        "system blocks": {"system": [{"type": "text", "text": "Be brief."}]},
        "text blocks": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello."}]}]},
        "thinking": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        "image": {"messages": [{"role": "user", "content": [image]}]},
        "tool result": {"messages": asked},
        "missing model": {"model": MISSING},
    }
    if subject.tools:
        weather = say("Use the tool: what is the weather in Rome?")
        variants["tools"] = {"model": subject.tools, "tools": [tool], "messages": weather}
    return variants
