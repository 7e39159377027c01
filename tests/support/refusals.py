"""What providers refuse, in their own words, as of 2026-11."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from support.refusing_host import Refusal, Seen

__all__ = ["REFUSALS"]


def _openai_error(message: str, param: str, code: str | None = None) -> Refusal:
    return 400, {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def _anthropic_error(message: str) -> Refusal:
    return 400, {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


def _version(model: str, family: str) -> float:
    found = re.search(rf"{family}-?(\d{{1,2}}(?:[.-]\d{{1,2}})?)(?!\d)", model)
    return float(found[1].replace("-", ".")) if found else 0.0


def _openai(seen: Seen) -> Refusal | None:  # noqa: PLR0911 - one for each text
    body, model = seen.body, seen.body["model"]
    version = _version(model, "gpt")
    chat = seen.path.endswith("/chat/completions")
    effort = body.get("reasoning_effort") or (body.get("reasoning") or {}).get("effort")
    if version >= 5 or model.startswith("o"):
        for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty"):
            if name in body:
                text = f"Unsupported parameter: '{name}' is not supported with this model."
                return _openai_error(text, name, "unsupported_parameter")
        if chat and "max_tokens" in body:
            text = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
            return _openai_error(text, "max_tokens", "unsupported_parameter")
    elif "include" in body:
        return _openai_error("Encrypted content is not supported with this model.", "include")
    elif effort is not None:
        return _openai_error(f"Unrecognized request argument supplied: {'reasoning_effort'}", "reasoning_effort")
    if body.get("max_output_tokens", 16) < 16:
        return _openai_error("Invalid 'max_output_tokens': integer below minimum value.", "max_output_tokens")
    if "-pro" in model and effort not in {None, "high"}:
        return _openai_error(f"Unsupported value: '{effort}' is not supported with the model.", "reasoning.effort")
    if version > 5 and effort in {"minimal", "max"}:
        return _openai_error(f"Unsupported value: 'reasoning_effort' does not support '{effort}'", "reasoning_effort")
    if chat and body.get("tools") and 5.4 <= version < 5.6 and effort is not None:
        return _openai_error(
            f"Function tools with reasoning_effort are not supported for {model} in /v1/chat/completions."
            " Please use /v1/responses instead.",
            "reasoning_effort",
        )
    if chat and body.get("tools") and version >= 5.6 and effort != "none":
        return _openai_error(
            f"Function tools with reasoning_effort are not supported for {model} in /v1/chat/completions."
            " To use function tools, use /v1/responses or set reasoning_effort to 'none'.",
            "reasoning_effort",
        )
    return None


def _anthropic(seen: Seen) -> Refusal | None:  # noqa: PLR0911 - the same
    body, model = seen.body, seen.body["model"]
    if "anthropic-version" not in seen.fields:
        return _anthropic_error("anthropic-version: header is required")
    version = max(_version(model, family) for family in ("opus", "sonnet", "haiku"))
    sampling = [name for name in ("temperature", "top_p", "top_k") if name in body]
    thinking = (body.get("thinking") or {}).get("type")
    if version >= 4.1 and {"temperature", "top_p"} <= body.keys():
        return _anthropic_error("`temperature` and `top_p` cannot both be specified for this model.")
    if version >= 4.7 and sampling:
        return _anthropic_error(f"`{sampling[0]}` is deprecated for this model.")
    if version >= 4.7 and (thinking == "enabled" or "budget_tokens" in (body.get("thinking") or {})):
        return _anthropic_error(
            '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive".'
        )
    if thinking in {"enabled", "adaptive"}:
        if body.get("temperature", 1) != 1:
            return _anthropic_error("`temperature` may only be set to 1 when thinking is enabled.")
        if body.get("top_p", 1) < 0.95:
            return _anthropic_error("`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled.")
    if version >= 4.6 and body["messages"][-1]["role"] == "assistant":
        return _anthropic_error("This model does not support assistant message prefill.")
    if version < 5 and any(message["role"] == "system" for message in body["messages"]):
        return _anthropic_error('messages: Unexpected role "system".')
    return None


def _assistants(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (message for message in body["messages"] if message["role"] == "assistant" and "tool_calls" in message)


def _gemini(seen: Seen) -> Refusal | None:
    for message in _assistants(seen.body):
        extra = message["tool_calls"][0].get("extra_content") or {}
        if not (extra.get("google") or {}).get("thought_signature"):
            text = "Function call is missing a thought_signature in functionCall parts."
            return 400, [{"error": {"code": 400, "message": text, "status": "INVALID_ARGUMENT"}}]  # type: ignore[return-value]
    for name in ("frequency_penalty", "presence_penalty", "seed", "logit_bias"):
        if name in seen.body:
            text = f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
            return 400, [{"error": {"code": 400, "message": text, "status": "INVALID_ARGUMENT"}}]  # type: ignore[return-value]
    return None


def _deepseek(seen: Seen) -> Refusal | None:
    if any(message["role"] == "developer" for message in seen.body["messages"]):
        return _openai_error("messages[0].role: unknown variant `developer`, expected one of `system`", "messages")
    if any("reasoning_content" not in message for message in _assistants(seen.body)):
        text = "The `reasoning_content` in the thinking mode must be passed back to the API."
        return _openai_error(text, "messages", "invalid_request_error")
    return None


def _lm_studio(seen: Seen) -> Refusal | None:
    if (seen.body.get("response_format") or {}).get("type") not in {None, "json_schema", "text"}:
        return 400, {"error": "'response_format.type' must be 'json_schema' or 'text'"}
    return None


_MISTRAL = frozenset(
    {
        "model", "messages", "temperature", "top_p", "max_tokens", "stream", "stop", "random_seed", "metadata",
        "response_format", "tools", "tool_choice", "presence_penalty", "frequency_penalty", "n", "prediction",
        "parallel_tool_calls", "prompt_mode", "reasoning_effort", "prompt_cache_key", "guardrails", "safe_prompt",
    }
)  # fmt: skip


def _mistral(seen: Seen) -> Refusal | None:
    places = [["body", name] for name in seen.body if name not in _MISTRAL]
    for number, message in enumerate(seen.body["messages"]):
        places += [
            ["body", "messages", number, message["role"], name]  # type: ignore[list-item]
            for name in message
            if name in {"name", "reasoning_content", "refusal", "audio"} and message["role"] != "tool"
        ]
    if not places:
        return None
    problems = [{"type": "extra_forbidden", "loc": place, "msg": "Extra inputs are not permitted"} for place in places]
    return 422, {"object": "error", "message": {"detail": problems}, "type": "invalid_request_error", "code": None}


def _strict_template(seen: Seen) -> Refusal | None:
    for place, message in enumerate(seen.body["messages"]):
        if message["role"] == "system" and place:
            return _openai_error("System message must be at the beginning.", "messages")
        if message["role"] == "developer":
            return _openai_error("Unexpected message role.", "messages")
    return None


def _groq(seen: Seen) -> Refusal | None:
    for name in ("logprobs", "logit_bias", "top_logprobs"):
        if name in seen.body:
            return _openai_error(f"property '{name}' is unsupported", name)
    if any("name" in message for message in seen.body["messages"]):
        return _openai_error("'messages.0' : for 'role:user' the following must be satisfied", "messages")
    return None


def _xai(seen: Seen) -> Refusal | None:
    for name in ("presence_penalty", "frequency_penalty", "stop"):
        if name in seen.body:
            shown = re.sub(r"_(\w)", lambda found: found[1].upper(), name)
            text = f"Model {seen.body['model']} does not support parameter {shown}."
            return 400, {"code": "invalid-argument", "error": text}
    return None


REFUSALS: dict[str, Callable[[Seen], Refusal | None]] = {
    "openai": _openai,
    "azure": _openai,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "deepseek": _deepseek,
    "lm-studio": _lm_studio,
    "mistral": _mistral,
    "groq": _groq,
    "vllm": _strict_template,
    "llama.cpp": _strict_template,
    "xai": _xai,
}
