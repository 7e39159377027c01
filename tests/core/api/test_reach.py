"""What a body reaches for beyond an answer is found, by the name of its member."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_router_core.api.reach import Reach, hosted_kind, reaches
from ollama_router_core.api.strict_json import parse_object

INSIDE = "http://169.254.169.254/latest"


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ({"models": ["a", "b"]}, (Reach.MODELS, "models")),
        ({"Models": ["a"]}, (Reach.MODELS, "Models")),
        ({"plugins": [{"id": "web"}]}, (Reach.MODELS, "plugins")),
        ({"fallbacks": ["c"]}, (Reach.MODELS, "fallbacks")),
        ({"mcp_servers": [{"url": "https://x.example"}]}, (Reach.TOOLS, "mcp_servers")),
        ({"container": "c_1"}, (Reach.TOOLS, "container")),
        ({"web_search_options": {"x": 1}}, (Reach.TOOLS, "web_search_options")),
        ({"search_parameters": {"mode": "on"}}, (Reach.TOOLS, "search_parameters")),
        ({"tools": [{"type": "function"}, {"type": "web_search"}]}, (Reach.TOOLS, "tools[1] (web_search)")),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, (Reach.TOOLS, "tools[0] (web_search_20250305)")),
        ({"tools": [{"type": "mcp", "server_url": "https://x"}]}, (Reach.TOOLS, "tools[0] (mcp)")),
        ({"tools": [{"google_search": {}}]}, (Reach.TOOLS, "tools[0] (google_search)")),
        ({"tools": [{"type": "namespace", "tools": [{"type": "mcp"}]}]}, (Reach.TOOLS, "tools[0].tools[0] (mcp)")),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]}, (Reach.STORED, "tools[0].vector_store_ids")),
        ({"tools": [{"type": "image_generation", "model": "m2"}]}, (Reach.MODELS, "tools[0].model")),
        ({"previous_response_id": "r"}, (Reach.STORED, "previous_response_id")),
        ({"conversation": {"id": "c"}}, (Reach.STORED, "conversation")),
        ({"prompt": {"id": "p"}}, (Reach.STORED, "prompt")),
        ({"input": [{"type": "item_reference", "id": "i"}]}, (Reach.STORED, "input[0].type")),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
         (Reach.STORED, "input[0].content[0].file_id")),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": INSIDE}}]}]},
         (Reach.URLS, "messages[0].content[0].image_url.url")),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "file:///etc/passwd"}]}]},
         (Reach.URLS, "messages[0].content[0].image_url")),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": INSIDE}}]}]},
         (Reach.URLS, "messages[0].content[0].source.url")),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [{"file_url": INSIDE}]}]}]},
         (Reach.URLS, "messages[0].content[0].content[0].file_url")),
        ({"input": [{"content": [{"type": "input_image", "image_url": INSIDE}]}]},
         (Reach.URLS, "input[0].content[0].image_url")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encode", [json.dumps, lambda value: json.dumps(value, separators=(",", ":"), indent=1)])
def test_every_kind_of_reach_is_found(member: dict[str, Any], expected: tuple[Reach, str], encode: Any) -> None:
    """Whichever provider's member it is, and however the body is written."""
    assert expected in [*reaches(parse_object(encode({"model": "m", **member}).encode()))]


def test_an_escaped_key_is_found() -> None:
    """JSON has more than one spelling of a key."""
    body = rb'{"model": "m", "messages": [{"content": [{"image_\u0075rl": "file:///x"}]}]}'
    assert [kind for kind, _ in reaches(parse_object(body))] == [Reach.URLS]


@pytest.mark.parametrize(
    "member",
    [
        {"models": [], "plugins": None, "container": "", "mcp_servers": [], "background": False},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"url": {}}}}}]},
        {"tools": [{"name": "f", "input_schema": {}}, {"type": "bash_20250124", "name": "bash"}]},
        {"tools": [{"type": "custom", "name": "apply"}, {"type": "local_shell"}, {"type": "apply_patch"}]},
        {"prompt": "look at http://localhost/"},
        {"messages": [{"role": "user", "content": "look at file:///etc/passwd"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.org/a"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;,"}}]}]},
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "input": {"url": INSIDE}}]}]},
        {"input": [{"type": "function_call", "name": "get", "arguments": json.dumps({"url": INSIDE})}]},
    ],
)
def test_what_reaches_nothing(member: dict[str, Any]) -> None:
    """Empty members, tools that the client runs, their arguments, and what people talk about."""
    assert [*reaches(parse_object(json.dumps({"model": "m", **member}).encode()))] == []


@pytest.mark.parametrize(
    ("tool", "kind"),
    [
        ({"type": "shell", "environment": {"type": "local"}}, None),
        ({"type": "shell", "environment": {"type": "container_auto"}}, "shell"),
        ({"type": "function", "TYPE": "web_search"}, "web_search"),
        ({"type": "tool_search"}, None),
        ("web_search", None),
    ],
)
def test_where_a_tool_runs(tool: object, kind: str | None) -> None:
    """A type that some server could read counts."""
    assert hosted_kind(tool) == kind
