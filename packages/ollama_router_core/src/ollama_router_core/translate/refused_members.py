"""Detection of the request member that a host's error rejects.

OpenAI and Azure name it in `param`, Mistral and vLLM in a list of problems, all others in the message:

    Unsupported parameter: 'temperature' is not supported with this model.
    Unrecognized request argument supplied: foo
    `temperature` is deprecated for this model.
    top_k: Extra inputs are not permitted
    Invalid JSON payload received. Unknown name "seed": Cannot find field.
    Model grok-4 does not support parameter presencePenalty.
    property 'logprobs' is unsupported
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from ollama_router_core.translate.lenient_json import decoded, list_of, object_of, text_of

__all__ = ["REFUSING_STATUSES", "refused_member"]

REFUSING_STATUSES = frozenset({400, 422})
_LONGEST_TEXT = 2000
_NEVER = frozenset({"model", "messages", "input", "prompt", "system", "instructions", "tools", "stream", "max_tokens"})
"""Members that must not be dropped, as the request would change or become invalid."""
_REFUSES = re.compile(
    r"unsupported|not supported|n't support|not support |unknown (?:name|parameter|field|argument)|unrecogni[sz]ed"
    r"|extra(?: inputs|_forbidden| fields)|not permitted|not allowed|deprecated|cannot both be specified"
    r"|cannot find field",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"[`'\"]([A-Za-z_][A-Za-z0-9_.]{0,63})[`'\"]")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{1,63}")
_HUMP = re.compile(r"(?<=[a-z0-9])([A-Z])")


def refused_member(status: int, body: bytes, sent: Collection[str]) -> str | None:
    """Return the sent member that an error rejects; None if it rejects none."""
    if status not in REFUSING_STATUSES:
        return None
    value = decoded(body)
    if isinstance(value, list):  # Gemini's
        value = next(iter(value), None)
    candidates = _candidates(object_of(value))
    return next((name for name in candidates if name in sent and name not in _NEVER), None)


def _candidates(body: dict[str, Any]) -> Iterator[str]:
    error = object_of(body.get("error"))
    messages = (error.get("message"), *(body.get(key) for key in ("message", "error", "detail")))
    text = " ".join(map(text_of, messages))[:_LONGEST_TEXT]
    code = text_of(error.get("code"))
    refuses = _REFUSES.search(text) is not None
    if refuses or _REFUSES.search(code.replace("_", " ")):
        yield text_of(error.get("param")).partition(".")[0]
    for problems in (body.get("detail"), body.get("message"), object_of(body.get("message")).get("detail")):
        yield from (_named_member(object_of(problem)) for problem in list_of(problems))
    if refuses:
        yield from (found[1].partition(".")[0] for found in _QUOTED.finditer(text))
        yield from (_HUMP.sub(r"_\1", found[0]).lower() for found in _WORD.finditer(text))


def _named_member(problem: dict[str, Any]) -> str:
    """Return the top-level member of a validator's problem; empty for a nested one."""
    location = list_of(problem.get("loc"))
    forbidden = problem.get("type") == "extra_forbidden" or _REFUSES.search(text_of(problem.get("msg")))
    return text_of(location[1]) if forbidden and len(location) == 2 and location[0] == "body" else ""
