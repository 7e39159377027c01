"""Reasoning in the formats of OpenAI-compatible hosts.

`reasoning_content` (DeepSeek, llama.cpp, older vLLM), `reasoning` (Ollama, OpenRouter, vLLM), `thinking`,
`reasoning_text` (Copilot), parts of `content` (Mistral), `reasoning_details` (OpenRouter, with proofs).
A host accepts its reasoning back in the member in which it sent it. So the member's name, or the whole
`reasoning_details`, serves as the signature, see `signatures`.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.accepts import OPENAI_DEFAULT
from ollama_router_core.translate.codec import HostTraits
from ollama_router_core.translate.conversation import Text, Thinking
from ollama_router_core.translate.json_reader import Dropped
from ollama_router_core.translate.json_text import encode
from ollama_router_core.translate.lenient_json import decoded, list_of, object_of, text_of
from ollama_router_core.translate.signatures import is_tagged, own_signature, read_signature

__all__ = [
    "CONTENT",
    "DETAILS",
    "Details",
    "client_details",
    "content_parts",
    "member_signature",
    "read_client_thoughts",
    "read_thoughts",
    "write_thoughts",
]

DETAILS = "reasoning_details"
CONTENT = "content"
"""The name for reasoning in parts of the content."""
_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_text")
_TEXTS = ("text", "summary")
_LONGEST_DETAILS = 1024 * 1024
"""Maximum characters of `reasoning_details`; longer ones have no proof."""


def read_thoughts(message: dict[str, Any]) -> tuple[str, str]:
    """Return the plain reasoning in a message or a delta and its member's name; two empty texts without any."""
    for field in _FIELDS:
        if text := text_of(message.get(field)):
            return text, field
    return "", ""


def content_parts(value: Any) -> list[Text | Thinking]:
    """Parse a content: a text, or a list of texts, reasoning and refusals."""
    if isinstance(value, str):
        return [Text(value)] if value else []
    found: list[Text | Thinking] = []
    for item in list_of(value):
        part = _content_part(item)
        if part is not None and part.text:
            found.append(part)
    return found


def _content_part(item: Any) -> Text | Thinking | None:
    if isinstance(item, str):
        return Text(item)
    part = object_of(item)
    match part.get("type"):
        case "thinking" | "reasoning":
            inner = part.get("thinking", part.get("reasoning", part.get("text")))
            return Thinking("".join(found.text for found in content_parts(inner)), member_signature(CONTENT))
        case "refusal":
            return Text(text_of(part.get("refusal")))
        case _:
            return Text(text_of(part.get("text")) or text_of(part.get("content")))


def member_signature(field: str) -> str:
    """Return the signature of reasoning that a host of the dialect sent in this member."""
    return read_signature(field, Family.OPENAI)


class Details:
    """Collect the `reasoning_details` of a reply, which may arrive in pieces.

    Attributes:
        proven: whether any entry since the last `proof` has a signature or encrypted data.
    """

    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []
        self.proven = False
        self._room = _LONGEST_DETAILS

    def add(self, value: Any) -> str:
        """Add entries; return their text."""
        texts: list[str] = []
        for item in list_of(value):
            entry = object_of(item)
            texts.extend(text for key in _TEXTS if (text := text_of(entry.get(key))))
            self._room -= 1 + sum(len(text_of(part)) for part in entry.values())
            if self._room > 0:
                self.proven = self.proven or bool(entry.get("signature") or entry.get("data"))
                self._entries.append(entry)
        return "".join(texts)

    def proof(self) -> str:
        """Return the signature of the entries since the last call; empty if a host could verify nothing."""
        entries, self._entries = self._entries, []
        proven, self.proven = self.proven and self._room > 0, False
        return read_signature(encode(_merged(entries)).decode(), Family.OPENAI) if proven else ""


def _merged(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join the pieces of each entry: neighbours with the same type, index and id."""
    groups = groupby(entries, lambda entry: (str(entry.get("type")), str(entry.get("index")), str(entry.get("id"))))
    return [_joined(list(pieces)) for _, pieces in groups]


def _joined(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    whole = {key: value for piece in pieces for key, value in piece.items() if value is not None}
    for key in {*_TEXTS, "data"} & whole.keys():
        whole[key] = "".join(text_of(piece.get(key)) for piece in pieces)
    return whole


def read_client_thoughts(text: str, details: Any) -> list[Thinking]:
    """Parse the reasoning that a client sends back: plain `text`, and `reasoning_details` of a host or the router."""
    found: list[Thinking] = []
    own = Details()
    for item in list_of(details):
        entry = object_of(item)
        proof = text_of(entry.get("signature")) or text_of(entry.get("data"))
        thought = next((value for key in _TEXTS if (value := text_of(entry.get(key)))), "")
        if is_tagged(proof):
            found.append(Thinking(thought, proof))
        else:
            own.add([entry])
            found.extend([Thinking(thought)] if thought else [])
    if whole := own.proof():
        found.append(Thinking("", whole))
    if text and not any(part.text for part in found):
        proven = len(found) == 1
        return [Thinking(text, found[0].signature)] if proven else [Thinking(text), *found]
    return found


def client_details(thoughts: Iterable[Thinking]) -> list[dict[str, Any]]:
    """Return signatures as `reasoning_details` for a client; several have their texts, a single one does not."""
    parts = list(thoughts)
    if len(parts) == 1:
        return [{"type": "reasoning.encrypted", "data": part.signature, "index": 0} for part in parts if part.signature]
    return [
        {"type": "reasoning.text", "text": part.text, "signature": part.signature or None, "index": index}
        for index, part in enumerate(parts)
        if part.text or part.signature
    ]


def write_thoughts(thoughts: list[Thinking], content: Any, traits: HostTraits, dropped: Dropped) -> dict[str, Any]:
    """Return the members of an assistant's message with its reasoning; unsupported reasoning is listed as dropped.

    `content` is the message's other content.
    """
    text = "".join(part.text for part in thoughts)
    member = _accepted_member(thoughts, traits)
    if member == DETAILS:
        proofs = (own_signature(part.signature, Family.OPENAI) for part in thoughts)
        details = [entry for proof in proofs for entry in list_of(decoded(proof))]
        return {"reasoning": text, DETAILS: details} if text else {DETAILS: details}
    if not member or not text:
        dropped.add("messages.thinking")
        return {}
    if member == CONTENT:
        thought = {"type": "thinking", "thinking": [{"type": "text", "text": text}]}
        others = [{"type": "text", "text": content}] if isinstance(content, str) and content else content or []
        return {CONTENT: [thought, *others]}
    return {member: text}


def _accepted_member(thoughts: list[Thinking], traits: HostTraits) -> str:
    """Return the member for the reasoning; empty if the host has none."""
    wanted = (OPENAI_DEFAULT if traits.accepts is None else traits.accepts).thoughts
    given = [member for part in thoughts if (member := _given_member(part))]
    match wanted:
        case "none":
            return ""
        case "as_given" if DETAILS in given:
            return DETAILS
        case "as_given" if given:
            return given[0]
        case "as_given":
            return "reasoning_content" if traits.extensions else ""
        case field:
            return field


def _given_member(part: Thinking) -> str:
    """Return the member in which a host of the dialect sent this reasoning; empty for another dialect's."""
    proof = own_signature(part.signature, Family.OPENAI)
    return DETAILS if proof.startswith("[") else proof
