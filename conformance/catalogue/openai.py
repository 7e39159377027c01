"""The OpenAI-compatible routes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conformance.catalogue.building import MISSING, PIXEL, TOOL, Exchange, post, raw, say
from conformance.subject import Subject

__all__ = ["exchanges"]

_CHAT, _COMPLETIONS, _EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
_GREEDY: dict[str, Any] = {"temperature": 0, "seed": 1, "max_tokens": 8}
_BOUNDARY = "conformance-boundary"
_STREAM: dict[str, dict[str, Any]] = {
    "stream omitted": {},
    "stream true": {"stream": True},
    "stream false": {"stream": False},
    "stream with usage": {"stream": True, "stream_options": {"include_usage": True}},
}


def exchanges(subject: Subject) -> Iterator[Exchange]:
    """Chat, completions, embeddings, responses, transcriptions."""
    yield from _chat(subject)
    yield from _completions(subject)
    yield from _embeddings(subject)
    if subject.at_least(0, 13, 3):
        yield from _responses(subject)
    if subject.at_least(0, 20):
        yield from _transcriptions(subject)


def _chat(subject: Subject) -> Iterator[Exchange]:
    group = "openai chat"
    base: dict[str, Any] = {"model": subject.model, "messages": say(), **_GREEDY}
    for label, asked in _STREAM.items():
        yield post(group, label, _CHAT, {**base, **asked})
    parts = [{"type": "text", "text": "Hello."}]
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    schema = {"name": "age", "schema": {"type": "object", "properties": {"age": {"type": "integer"}}}}
    variants: dict[str, dict[str, Any]] = {
        "content parts": {"messages": [{"role": "user", "content": parts}]},
        "image": {"messages": [{"role": "user", "content": [*parts, picture]}]},
        "image by address": {
            "model": subject.vision or subject.model,
            "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "http://x"}]}],
        },
        "content of no meaning": {"messages": [{"role": "user", "content": 5}]},
        "json object": {"response_format": {"type": "json_object"}},
        "json schema": {"response_format": {"type": "json_schema", "json_schema": schema}},
        "effort none": {"reasoning_effort": "none"},
        "effort of no meaning": {"reasoning_effort": "enormous"},
        "max_completion_tokens": {"max_completion_tokens": 4},
        "stop": {"stop": ["three"]},
        "no messages": {"messages": []},
        "missing model": {"model": MISSING},
        "empty model": {"model": ""},
    }
    for label, more in variants.items():
        for stream in (True, False):
            topics = ("incapable",) if label.startswith("image") else ()
            body = {**base, **more, "stream": stream}
            yield post(group, f"{label}, stream {str(stream).lower()}", _CHAT, body, *topics)
    if subject.tools:
        tools = {"model": subject.tools, "tools": [TOOL], "messages": say("Use the tool: what is the weather in Rome?")}
        for stream in (True, False):
            yield post(group, f"tools, stream {str(stream).lower()}", _CHAT, {**base, **tools, "stream": stream})


def _completions(subject: Subject) -> Iterator[Exchange]:
    group = "openai completions"
    base: dict[str, Any] = {"model": subject.model, "prompt": "One, two,", **_GREEDY}
    for label, asked in _STREAM.items():
        yield post(group, label, _COMPLETIONS, {**base, **asked})
    yield post(group, "missing model", _COMPLETIONS, {**base, "model": MISSING})
    yield post(group, "missing model, streamed", _COMPLETIONS, {**base, "model": MISSING, "stream": True})
    yield post(group, "list of prompts", _COMPLETIONS, {**base, "prompt": ["One,", "two,"]})


def _embeddings(subject: Subject) -> Iterator[Exchange]:
    group = "openai embeddings"
    yield post(group, "missing model", _EMBEDDINGS, {"model": MISSING, "input": "x"})
    variants: dict[str, dict[str, Any]] = {
        "text": {"input": "Hello."},
        "texts": {"input": ["Hello.", "Good bye."]},
        "float": {"input": "Hello.", "encoding_format": "float"},
        "base64": {"input": "Hello.", "encoding_format": "base64"},
        "encoding of no meaning": {"input": "Hello.", "encoding_format": "hex"},
        "no input": {},
        "empty list": {"input": []},
    }
    for label, more in variants.items():
        if subject.embedding:
            yield post(group, label, _EMBEDDINGS, {"model": subject.embedding, **more})


def _responses(subject: Subject) -> Iterator[Exchange]:
    group, path = "openai responses", "/v1/responses"
    base: dict[str, Any] = {"model": subject.model, "input": "Hello.", "temperature": 0, "max_output_tokens": 8}
    for label in ("stream omitted", "stream true", "stream false"):
        yield post(group, label, path, {**base, **_STREAM[label]})
    yield post(group, "instructions", path, {**base, "instructions": "Be brief."})
    yield post(group, "items", path, {**base, "input": [{"role": "user", "content": "Hello."}]})
    yield post(group, "items of no meaning", path, {**base, "input": [{"type": "nothing"}]})
    yield post(group, "input of no meaning", path, {**base, "input": 5})
    yield post(group, "missing model", path, {**base, "model": MISSING})
    nobody = {**base, "model": MISSING, "stream": True}
    yield post(group, "missing model, streamed", path, nobody, "error of a stream")


def _transcriptions(subject: Subject) -> Iterator[Exchange]:
    group = "openai transcriptions"
    heard = subject.hearing or subject.model
    yield _upload(group, "model without ears", {"model": subject.model}, "incapable", file=True)
    if subject.hearing:
        yield _upload(group, "model with ears", {"model": heard}, file=True)
        yield _upload(group, "as text", {"model": heard, "response_format": "text"}, file=True)
        yield _upload(group, "field after the file", {"model": heard}, file=True, file_first=True)
    yield _upload(group, "missing model", {"model": MISSING}, file=True)
    yield _upload(group, "no file", {"model": heard}, "two mistakes", file=False)
    yield _upload(group, "no model", {"language": "en"}, file=True)
    yield post(group, "JSON instead of a form", "/v1/audio/transcriptions", {"model": heard}, "bad body")


def _upload(
    group: str, name: str, fields: dict[str, str], *topics: str, file: bool, file_first: bool = False
) -> Exchange:
    mark = f"--{_BOUNDARY}\r\nContent-Disposition: form-data; "
    lines = [f'{mark}name="{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()]
    if file:
        sound = f'{mark}name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\nRIFF....WAVE\r\n'
        lines.insert(0 if file_first else len(lines), sound)
    body = "".join([*lines, f"--{_BOUNDARY}--\r\n"]).encode()
    headers = (("Content-Type", f"multipart/form-data; boundary={_BOUNDARY}"),)
    return raw(group, name, "/v1/audio/transcriptions", body, *topics, headers=headers)
