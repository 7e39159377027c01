"""/v1/messages and /v1/responses: content blocks, items, and the order of their events."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator, StreamError

pytestmark = pytest.mark.anyio

MESSAGE = {"model": "qwen3:8b", "max_tokens": 6, "messages": [{"role": "user", "content": "say hi"}]}
TOOL = {"name": "now", "input_schema": {"type": "object", "properties": {"zone": {"type": "string"}}}}


def events(answer: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    """Name and data of each event."""
    found = []
    for block in answer.text.split("\n\n"):
        if block:
            name, data = block.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


async def test_message(http: httpx.AsyncClient) -> None:
    """A whole message: thinking and text blocks, a stop reason, usage."""
    answer = await http.post("/v1/messages", json=MESSAGE)
    body = answer.json()
    assert (body["type"], body["role"], body["model"]) == ("message", "assistant", "qwen3:8b")
    assert [one["type"] for one in body["content"]] == ["thinking", "text"]
    assert body["content"][1]["text"] == "word0 word1"
    assert (body["stop_reason"], body["usage"]) == ("max_tokens", {"input_tokens": 2, "output_tokens": 6})


async def test_message_events_in_order(http: httpx.AsyncClient) -> None:
    """message_start, blocks with start, deltas and stop, message_delta, message_stop; names equal types."""
    answer = await http.post("/v1/messages", json={**MESSAGE, "stream": True})
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache"
    found = events(answer)
    assert all(name == data["type"] for name, data in found)
    assert [name for name, _ in found] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 4,
        "content_block_stop",
        "content_block_start",
        *["content_block_delta"] * 2,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert [data["index"] for _, data in found if "index" in data] == [0] * 6 + [1] * 4
    delta = found[-2][1]
    assert delta["delta"] == {"stop_reason": "max_tokens"}
    assert delta["usage"] == {"input_tokens": 2, "output_tokens": 6}


async def test_message_tool_use(http: httpx.AsyncClient) -> None:
    """A tool call is a block; streamed, its input arrives as JSON text."""
    body = {**MESSAGE, "tools": [TOOL], "messages": [{"role": "user", "content": "use now"}]}
    body |= {"thinking": {"type": "disabled"}}
    whole = (await http.post("/v1/messages", json=body)).json()
    (block,) = whole["content"]
    assert (block["type"], block["name"], block["input"]) == ("tool_use", "now", {"zone": "value"})
    assert whole["stop_reason"] == "tool_use"
    found = events(await http.post("/v1/messages", json={**body, "stream": True}))
    deltas = [data["delta"] for name, data in found if name == "content_block_delta"]
    assert deltas == [{"type": "input_json_delta", "partial_json": '{"zone":"value"}'}]


async def test_tool_results_are_not_called_again(http: httpx.AsyncClient) -> None:
    """After a tool result the model answers with text."""
    history = [
        {"role": "user", "content": "use now"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "now", "input": {}}]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "12:00"}],
        },
    ]
    body = {**MESSAGE, "tools": [TOOL], "messages": history, "thinking": {"type": "disabled"}}
    assert (await http.post("/v1/messages", json=body)).json()["content"][0]["type"] == "text"


async def test_thinking_is_relaxed(http: httpx.AsyncClient) -> None:
    """Thinking asked of a model that cannot think is ignored here, unlike on /api/chat."""
    body = {**MESSAGE, "model": "llama3.1:8b", "thinking": {"type": "enabled", "budget_tokens": 1024}}
    assert (await http.post("/v1/messages", json=body)).status_code == 200


@pytest.mark.parametrize(
    ("change", "status", "kind", "text"),
    [
        ({"model": ""}, 400, "invalid_request_error", "model is required"),
        ({"max_tokens": 0}, 400, "invalid_request_error", "max_tokens is required and must be positive"),
        ({"messages": []}, 400, "invalid_request_error", "messages is required"),
        ({"model": "nope"}, 404, "not_found_error", "model 'nope' not found"),
    ],
)
async def test_message_errors(
    http: httpx.AsyncClient, change: dict[str, Any], status: int, kind: str, text: str
) -> None:
    """Anthropic's shape, with a request id."""
    answer = await http.post("/v1/messages", json={**MESSAGE, **change})
    body = answer.json()
    assert answer.status_code == status
    assert (body["type"], body["error"]) == ("error", {"type": kind, "message": text})
    assert body["request_id"].startswith("req_")


async def test_message_errors_in_the_stream_are_swallowed(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """No error event and no message_stop: the stream just ends."""
    sim.misbehave(StreamError(after_chunks=3))
    names = [name for name, _ in events(await http.post("/v1/messages", json={**MESSAGE, "stream": True}))]
    assert names == ["message_start", "content_block_start", "content_block_delta"]


async def test_response(http: httpx.AsyncClient) -> None:
    """A whole response: reasoning and message items, usage, echoed options."""
    body = {"model": "qwen3:8b", "input": "say hi", "instructions": "be brief", "max_output_tokens": 6}
    answer = (await http.post("/v1/responses", json=body)).json()
    assert (answer["object"], answer["status"], answer["instructions"]) == ("response", "completed", "be brief")
    reasoning, message = answer["output"]
    assert reasoning["type"] == "reasoning"
    assert message["content"][0]["text"] == "word0 word1"
    assert answer["usage"]["total_tokens"] == answer["usage"]["input_tokens"] + 6


async def test_response_events_in_order(http: httpx.AsyncClient) -> None:
    """Created, in progress, items with parts and deltas, completed; sequence numbers count from 0."""
    body = {"model": "llama3.1:8b", "input": [{"role": "user", "content": "hi"}], "stream": True}
    found = events(await http.post("/v1/responses", json={**body, "max_output_tokens": 2}))
    assert [name.removeprefix("response.") for name, _ in found] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [data["sequence_number"] for _, data in found] == list(range(10))
    response = found[-1][1]["response"]
    assert response["output"][0]["content"][0]["text"] == "word0 word1"
    assert response["usage"]["output_tokens"] == 2


async def test_response_function_calls(http: httpx.AsyncClient) -> None:
    """A tool call is an item of its own with its arguments as text."""
    tool = {"type": "function", "name": "now", "parameters": TOOL["input_schema"]}
    body = {"model": "llama3.1:8b", "input": "use now", "tools": [tool]}
    (item,) = (await http.post("/v1/responses", json=body)).json()["output"]
    assert (item["type"], item["name"], item["arguments"]) == ("function_call", "now", '{"zone":"value"}')
    found = events(await http.post("/v1/responses", json={**body, "stream": True}))
    assert "response.function_call_arguments.done" in [name for name, _ in found]
    assert found[-1][1]["response"]["output"][0]["type"] == "function_call"


async def test_response_errors(http: httpx.AsyncClient) -> None:
    """OpenAI's shape; unknown items are named by their index."""
    body = {"model": "llama3.1:8b", "input": [{"type": "video"}]}
    answer = await http.post("/v1/responses", json=body)
    expected = 'input[0]: unknown input item type: "video"'
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, expected)


async def test_response_reasoning_comes_first(http: httpx.AsyncClient) -> None:
    """Thoughts are an item of their own, closed before the message item opens."""
    body = {"model": "qwen3:8b", "input": "hi", "stream": True, "max_output_tokens": 5}
    found = events(await http.post("/v1/responses", json=body))
    names = [name.removeprefix("response.") for name, _ in found]
    assert names[2:9] == [
        "output_item.added",
        *["reasoning_summary_text.delta"] * 4,
        "reasoning_summary_text.done",
        "output_item.done",
    ]
    indexes = [data["output_index"] for _, data in found if "output_index" in data]
    assert indexes == sorted(indexes)
    assert [one["type"] for one in found[-1][1]["response"]["output"]] == ["reasoning", "message"]


async def test_response_errors_in_the_stream_are_swallowed(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """No error event and no response.completed."""
    sim.misbehave(StreamError(after_chunks=5))
    body = {"model": "llama3.1:8b", "input": "hi", "stream": True}
    names = [name for name, _ in events(await http.post("/v1/responses", json=body))]
    assert names[-1] == "response.output_text.delta"


@pytest.mark.parametrize(
    ("item", "status"),
    [
        ({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}, 200),
        ({"type": "function_call", "call_id": "c", "name": "now", "arguments": "{}"}, 200),
        ({"type": "function_call_output", "call_id": "c", "output": "12:00"}, 200),
        ({"type": "reasoning", "encrypted_content": "hm"}, 200),
        ({"content": "hi"}, 400),
        ("hi", 400),
    ],
)
async def test_response_input_items(http: httpx.AsyncClient, item: object, status: int) -> None:
    """The items of a conversation are read; one without type and role is refused."""
    body = {"model": "llama3.1:8b", "input": [item]}
    assert (await http.post("/v1/responses", json=body)).status_code == status


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ({"type": "base64", "media_type": "image/png", "data": "aGk="}, 200),
        ({"type": "url", "url": "https://example.com/a.png"}, 400),
        (None, 400),
    ],
)
async def test_message_images(http: httpx.AsyncClient, source: object, status: int) -> None:
    """Images come as base64 only, and a system prompt may be a list of blocks."""
    content = [{"type": "text", "text": "what is this"}, {"type": "image", "source": source}]
    body = {**MESSAGE, "model": "gemma3:12b", "messages": [{"role": "user", "content": content}]}
    body |= {"system": [{"type": "text", "text": "be brief"}]}
    assert (await http.post("/v1/messages", json=body)).status_code == status
