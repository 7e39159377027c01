"""Requests of `/v1/completions`: one plain prompt."""

from __future__ import annotations

from typing import Any

from ollama_router_core.translate.codec import HostTraits
from ollama_router_core.translate.conversation import Conversation, Message, ReplyOptions, Role, Text
from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.json_reader import Dropped, JsonReader
from ollama_router_core.translate.message_parts import joined_text
from ollama_router_core.translate.openai.read_requests import read_sampling, refuse_many, wants_usage
from ollama_router_core.translate.openai.write_requests import write_sampling

__all__ = ["read_completion", "write_completion"]


def read_completion(body: JsonReader) -> Conversation:
    """Parse a completion request as a conversation with one message.

    Raises:
        UntranslatableRequest: the request has several prompts or tokens, or requests several responses or an echo.
    """
    refuse_many(body, "n")
    refuse_many(body, "best_of")
    body.refuse("echo", "is supported by OpenAI only")
    prompts = body.texts("prompt")
    if len(prompts) > 1:
        raise UntranslatableRequest("prompt: the other dialects accept one prompt per request")
    return Conversation(
        messages=tuple(Message(Role.USER, (Text(prompt),)) for prompt in prompts if prompt),
        sampling=read_sampling(body),
        stream=body.flag("stream") is True,
        reply_options=ReplyOptions(include_usage=wants_usage(body)),
        suffix=body.text("suffix") or None,
    )


def write_completion(conversation: Conversation, traits: HostTraits, dropped: Dropped) -> dict[str, Any]:
    """Return the body of a completion request, without the model.

    Raises:
        UntranslatableRequest: there is more than one plain-text prompt, or there are tools or a format.
    """
    messages = conversation.messages
    if len(messages) != 1 or not all(isinstance(part, Text) for part in messages[0].parts):
        raise UntranslatableRequest("/v1/completions takes one prompt of plain text")
    if conversation.tools or conversation.format is not None:
        raise UntranslatableRequest("/v1/completions supports neither tools nor formats")
    dropped.add_given({"think": conversation.thinking, "verbosity": conversation.verbosity})
    body = write_sampling(conversation, traits, dropped)
    if traits.max_tokens_key in body:
        # The older route does not support the newer name.
        body["max_tokens"] = body.pop(traits.max_tokens_key)
    if conversation.suffix is not None:
        body["suffix"] = conversation.suffix
    return {"prompt": joined_text(messages[0].parts, "\n"), **body}
