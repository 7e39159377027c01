"""The request bodies of every route, as the fields Go declares for them."""

from __future__ import annotations

from ollama_router_core.testing.gojson import ANY, BOOL, FLOAT, INT, MAP, STRING, TEXTS, Kind, ListOf, Struct

__all__ = [
    "CHAT",
    "COPY",
    "CREATE",
    "DELETE",
    "EMBED",
    "EMBEDDINGS",
    "GENERATE",
    "MESSAGES",
    "OPENAI_CHAT",
    "OPENAI_COMPLETION",
    "OPENAI_EMBED",
    "PULL",
    "PUSH",
    "RESPONSES",
    "SHOW",
]

_INFER: dict[str, Kind] = {
    "model": STRING,
    "stream": BOOL,
    "format": ANY,
    "keep_alive": ANY,
    "options": MAP,
    "think": ANY,
}
_INFER |= {"truncate": BOOL, "shift": BOOL, "logprobs": BOOL, "top_logprobs": INT, "_debug_render_only": BOOL}

_MESSAGE = Struct(
    "Message",
    {
        "role": STRING,
        "content": STRING,
        "thinking": STRING,
        "images": ListOf(STRING, "[]api.ImageData"),
        "tool_calls": ListOf(MAP, "[]api.ToolCall"),
        "tool_name": STRING,
        "tool_call_id": STRING,
    },
)

GENERATE = Struct(
    "GenerateRequest",
    {
        **_INFER,
        "prompt": STRING,
        "suffix": STRING,
        "system": STRING,
        "template": STRING,
        "context": ListOf(INT, "[]int"),
        "raw": BOOL,
        "images": ListOf(STRING, "[]api.ImageData"),
    },
)
CHAT = Struct(
    "ChatRequest",
    {**_INFER, "messages": ListOf(_MESSAGE, "[]api.Message"), "tools": ListOf(MAP, "api.Tools")},
)
EMBED = Struct(
    "EmbedRequest",
    {
        "model": STRING,
        "input": ANY,
        "keep_alive": ANY,
        "truncate": BOOL,
        "dimensions": INT,
        "options": MAP,
    },
)
EMBEDDINGS = Struct("EmbeddingRequest", {"model": STRING, "prompt": STRING, "keep_alive": ANY, "options": MAP})
SHOW = Struct(
    "ShowRequest",
    {
        "model": STRING,
        "name": STRING,
        "system": STRING,
        "template": STRING,
        "verbose": BOOL,
        "options": MAP,
    },
)
DELETE = Struct("DeleteRequest", {"model": STRING, "name": STRING})
COPY = Struct("CopyRequest", {"source": STRING, "destination": STRING})
_TRANSFER: dict[str, Kind] = {"model": STRING, "name": STRING, "insecure": BOOL, "username": STRING}
_TRANSFER |= {"password": STRING, "stream": BOOL}
PULL = Struct("PullRequest", _TRANSFER)
PUSH = Struct("PushRequest", _TRANSFER)
CREATE = Struct(
    "CreateRequest",
    {
        "model": STRING,
        "name": STRING,
        "stream": BOOL,
        "quantize": STRING,
        "from": STRING,
        "remote_host": STRING,
        "files": TEXTS,
        "adapters": TEXTS,
        "draft_files": TEXTS,
        "template": STRING,
        "license": ANY,
        "system": STRING,
        "parameters": MAP,
        "messages": ListOf(_MESSAGE, "[]api.Message"),
    },
)

_TOOL_CALLS = ListOf(MAP, "[]openai.ToolCall")
_OPENAI_MESSAGE = Struct(
    "Message",
    {
        "role": STRING,
        "content": ANY,
        "reasoning": STRING,
        "name": STRING,
        "tool_calls": _TOOL_CALLS,
        "tool_call_id": STRING,
    },
)
_STREAM_OPTIONS = Struct("StreamOptions", {"include_usage": BOOL})
_SAMPLING: dict[str, Kind] = {"seed": INT, "stop": ANY, "temperature": FLOAT, "top_p": FLOAT, "max_tokens": INT}
_SAMPLING |= {"frequency_penalty": FLOAT, "presence_penalty": FLOAT}

OPENAI_CHAT = Struct(
    "ChatCompletionRequest",
    package="openai",
    fields={
        **_SAMPLING,
        "model": STRING,
        "messages": ListOf(_OPENAI_MESSAGE, "[]openai.Message"),
        "stream": BOOL,
        "stream_options": _STREAM_OPTIONS,
        "response_format": MAP,
        "tools": ListOf(MAP, "[]api.Tool"),
        "reasoning": MAP,
        "reasoning_effort": STRING,
    },
)
OPENAI_COMPLETION = Struct(
    "CompletionRequest",
    package="openai",
    fields={
        **_SAMPLING,
        "model": STRING,
        "prompt": STRING,
        "suffix": STRING,
        "stream": BOOL,
        "stream_options": _STREAM_OPTIONS,
    },
)
OPENAI_EMBED = Struct(
    "EmbedRequest",
    package="openai",
    fields={"model": STRING, "input": ANY, "dimensions": INT, "encoding_format": STRING},
)
RESPONSES = Struct(
    "ResponsesRequest",
    package="openai",
    fields={
        "model": STRING,
        "input": ANY,
        "instructions": STRING,
        "stream": BOOL,
        "tools": ListOf(MAP, "[]openai.ResponsesTool"),
        "max_output_tokens": INT,
        "temperature": FLOAT,
        "top_p": FLOAT,
        "truncation": STRING,
        "reasoning": MAP,
        "background": BOOL,
    },
)
MESSAGES = Struct(
    "MessagesRequest",
    package="anthropic",
    fields={
        "model": STRING,
        "max_tokens": INT,
        "messages": ListOf(Struct("MessageParam", {"role": STRING, "content": ANY}), "[]MessageParam"),
        "system": ANY,
        "stream": BOOL,
        "temperature": FLOAT,
        "top_p": FLOAT,
        "top_k": INT,
        "stop_sequences": ListOf(STRING),
        "tools": ListOf(MAP, "[]anthropic.Tool"),
        "tool_choice": MAP,
        "thinking": MAP,
        "output_config": MAP,
    },
)
