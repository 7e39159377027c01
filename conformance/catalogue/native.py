"""Ollama's own routes that use a model: generate, chat, embed, embeddings, show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conformance.catalogue.building import GREEDY, MISSING, PIXEL, TOOL, Exchange, post, raw, say
from conformance.subject import Subject

__all__ = ["exchanges"]

_SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
_STREAM: dict[str, dict[str, Any]] = {
    "stream omitted": {},
    "stream true": {"stream": True},
    "stream false": {"stream": False},
    "stream null": {"stream": None},
}


def exchanges(subject: Subject) -> Iterator[Exchange]:
    """Everything that the four inference routes and show are used for."""
    yield from _generate(subject)
    yield from _chat(subject)
    yield from _capabilities(subject)
    yield from _embed(subject)
    yield from _show(subject)
    yield from _residency(subject)


def _generate(subject: Subject) -> Iterator[Exchange]:
    group, path = "generate", "/api/generate"
    base: dict[str, Any] = {"model": subject.model, "prompt": "Count from one to five.", "options": GREEDY}
    for label, asked in _STREAM.items():
        yield post(group, label, path, {**base, **asked})
    variants: dict[str, dict[str, Any]] = {
        "system": {"system": "Be brief."},
        "raw": {"raw": True},
        "format json": {"format": "json"},
        "format schema": {"format": _SCHEMA},
        "format of no meaning": {"format": 5},
        "suffix": {"suffix": " and six."},
        "context": {"context": [1, 2, 3]},
        "keep_alive text": {"keep_alive": "5m"},
        "keep_alive number": {"keep_alive": 300},
        "keep_alive of no meaning": {"keep_alive": "soon"},
        "unknown key": {"colour": "blue"},
        "unknown option": {"options": {**GREEDY, "colour": "blue"}},
        "no options": {"options": {**GREEDY, "num_predict": 2}},
        "stop": {"options": {**GREEDY, "stop": ["three"]}},
        "top_logprobs too many": {"top_logprobs": 21},
        "unicode": {"prompt": "¿Qué tal? 你好 🙂 \u2028 \u0000"},
    }
    for label, more in variants.items():
        for stream in (True, False):
            body = {**base, **more, "stream": stream}
            topics = ("incapable",) if label == "suffix" else ()
            yield post(group, f"{label}, stream {str(stream).lower()}", path, body, *topics)


def _chat(subject: Subject) -> Iterator[Exchange]:
    group, path = "chat", "/api/chat"
    base: dict[str, Any] = {"model": subject.model, "messages": say(), "options": GREEDY}
    for label, asked in _STREAM.items():
        yield post(group, label, path, {**base, **asked})
    variants: dict[str, dict[str, Any]] = {
        "system message": {"messages": [{"role": "system", "content": "Be brief."}, *say()]},
        "conversation": {"messages": [*say("Hello."), {"role": "assistant", "content": "Hi."}, *say()]},
        "format json": {"format": "json"},
        "format schema": {"format": _SCHEMA},
        "tool result": {"messages": [*say(), {"role": "tool", "content": "11 degrees", "tool_name": "get_weather"}]},
        "top_logprobs too many": {"top_logprobs": 21},
        "unknown role": {"messages": [{"role": "nobody", "content": "Hello."}]},
    }
    for label, more in variants.items():
        for stream in (True, False):
            body = {**base, **more, "stream": stream}
            yield post(group, f"{label}, stream {str(stream).lower()}", path, body)


def _capabilities(subject: Subject) -> Iterator[Exchange]:
    """What some models can and others cannot: both, where the server has both kinds."""
    group = "capabilities"
    image = [{"role": "user", "content": "What is this?", "images": [PIXEL]}]
    asked: dict[str, tuple[str | None, dict[str, Any]]] = {
        "tools": (subject.tools, {"tools": [TOOL], "messages": say("What is the weather in Rome? Use the tool.")}),
        "thinking": (subject.thinking, {"think": True}),
        "thinking off": (subject.thinking, {"think": False}),
        "images": (subject.vision, {"messages": image}),
    }
    for label, (able, more) in asked.items():
        for name in dict.fromkeys((subject.model, able)):
            for stream in (True, False) if name else ():
                kind, topics = ("model that can", ()) if name == able else ("smallest model", ("incapable",))
                body = {"model": name, "messages": say(), "options": GREEDY, "stream": stream, **more}
                yield post(group, f"{label}, {kind}, stream {str(stream).lower()}", "/api/chat", body, *topics)
    odd = {"model": subject.model, "messages": say(), "think": "enormously"}
    yield post(group, "thinking of no meaning", "/api/chat", odd)
    if subject.embedding:
        talk = {"model": subject.embedding, "messages": say()}
        yield post(group, "chat with an embedding model", "/api/chat", talk, "incapable")
        prompt = _prompt(subject.embedding)
        yield post(group, "generate with an embedding model", "/api/generate", prompt, "incapable")
    yield post(group, "embed with a model that speaks", "/api/embed", {"model": subject.model, "input": "Hello."})
    yield post(group, "embeddings with a model that speaks", "/api/embeddings", _prompt(subject.model))


def _prompt(model: str) -> dict[str, Any]:
    return {"model": model, "prompt": "Hello.", "options": GREEDY}


def _embed(subject: Subject) -> Iterator[Exchange]:
    group = "embed"
    inputs: dict[str, Any] = {
        "text": {"input": "Hello."},
        "texts": {"input": ["Hello.", "Good bye."]},
        "no texts": {"input": []},
        "empty text": {"input": ""},
        "no input": {},
        "number": {"input": 5},
        "dimensions": {"input": "Hello.", "dimensions": 16},
        "stream is ignored": {"input": "Hello.", "stream": True},
        "too long": {"input": "word " * 40_000, "truncate": False},
    }
    for label, more in inputs.items():
        if subject.embedding:
            yield post(group, label, "/api/embed", {"model": subject.embedding, **more})
    for label, more in {"prompt": {"prompt": "Hello."}, "empty prompt": {"prompt": ""}, "no prompt": {}}.items():
        if subject.embedding:
            yield post("embeddings", label, "/api/embeddings", {"model": subject.embedding, **more})
    for path in ("/api/embed", "/api/embeddings"):
        yield post(group, f"missing model {path}", path, {"model": MISSING, "input": "x", "prompt": "x"})


def _show(subject: Subject) -> Iterator[Exchange]:
    group, path = "show", "/api/show"
    yield post(group, "model", path, {"model": subject.model})
    yield post(group, "name", path, {"name": subject.model})
    yield post(group, "model wins over name", path, {"model": subject.model, "name": MISSING})
    yield post(group, "empty model, then name", path, {"model": "", "name": subject.model})
    yield post(group, "verbose", path, {"model": subject.model, "verbose": True})
    yield post(group, "missing", path, {"model": MISSING})
    yield post(group, "missing, with a namespace", path, {"model": f"nobody/{MISSING}:v1"})
    if subject.embedding:
        yield post(group, "embedding model", path, {"model": subject.embedding})


def _residency(subject: Subject) -> Iterator[Exchange]:
    """Loading and unloading are requests without a prompt."""
    group, model = "residency", subject.model
    yield post(group, "load by generate", "/api/generate", {"model": model})
    yield post(group, "load by chat", "/api/chat", {"model": model, "messages": []})
    yield post(group, "load, not streamed", "/api/generate", {"model": model, "stream": False})
    yield post(group, "unload by generate", "/api/generate", {"model": model, "keep_alive": 0})
    yield post(group, "unload by chat", "/api/chat", {"model": model, "keep_alive": "0s"})
    yield post(group, "unload what is missing", "/api/generate", {"model": MISSING, "keep_alive": 0})
    yield post(group, "load again", "/api/generate", {"model": model})
    surrogate = b'{"model":"%s","prompt":"\\ud800 \\udc00","stream":false,"options":{"num_predict":2,"seed":1}}'
    yield raw("generate", "lone surrogates", "/api/generate", surrogate % model.encode())
    huge = b'{"model":"%s","prompt":"x","stream":false,"options":{"num_predict":2,"seed":1},"x":[1e400,%s]}'
    yield raw("generate", "huge numbers in unknown keys", "/api/generate", huge % (model.encode(), b"9" * 30))
