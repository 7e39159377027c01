"""Inference: from a native request to the native messages of its response.

Contains the checks of /api/generate and /api/chat in Ollama's order, slots, prefill and decode in virtual time, and
metrics. Wire formats are in `dialects`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from ollama_router_core.testing.clock import SimulatedClock, parse_go_duration, rfc3339
from ollama_router_core.testing.error_replies import ApiError
from ollama_router_core.testing.generation import Piece, Script, script_for
from ollama_router_core.testing.library import ModelLibrary
from ollama_router_core.testing.load_options import LoadOptions, load_options
from ollama_router_core.testing.ollama_names import is_cloud, parse_reference, trimmed, valid_name
from ollama_router_core.testing.ollama_scheduler import Lease, LoadFailedError, Runner, Scheduler, ServerBusyError
from ollama_router_core.testing.simulated_models import SimulatedModel
from ollama_router_core.testing.simulator_settings import Settings

__all__ = ["Engine", "Job", "Kind", "keep_alive_seconds"]

Kind = Literal["generate", "chat"]
_NANOSECONDS = 1_000_000_000
_SCHEDULING_SECONDS = 0.001  # a real server's load_duration is never 0, not even for a loaded model
_LONGEST_SECONDS = (1 << 63) / _NANOSECONDS
_NOT_MULTIMODAL = (
    '{"error":{"code":400,"message":"Multimodal data provided, but model does not support multimodal requests.",'
    '"type":"invalid_request_error"}}'
)
_EFFORTS = ("low", "medium", "high", "max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A checked request, and the model's name in the client's spelling.

    `refusal` is the runner's error once the model is loaded.
    """

    kind: Kind
    model: SimulatedModel
    named: str
    options: LoadOptions
    keep_alive: float | None
    script: Script | None
    prompt: tuple[str, ...] = ()
    refusal: ApiError | None = None
    raw: bool = False
    early_reason: str = ""


@dataclass(slots=True, kw_only=True, eq=False)
class Engine:
    """The inference of one server's models."""

    settings: Settings
    library: ModelLibrary
    scheduler: Scheduler
    clock: SimulatedClock

    def find(self, name: str, *, quoted_hint: bool = False) -> SimulatedModel:
        """Return the model with a name.

        Raises:
            ApiError: 400 for an invalid name, 404 for an unknown one, 401 or 403 for one of ollama.com.
        """
        if is_cloud(name):
            raise self.cloud_error()
        spoken = trimmed(name)
        if spoken and parse_reference(name) is None:
            raise ApiError(400, "invalid model name")
        found = self.library.find(name) if spoken else None
        if found is None:
            hinted = f'model "{name}" not found, try pulling it first'
            raise ApiError(404, hinted if quoted_hint and spoken else f"model '{name}' not found")
        return found

    def prepare(self, kind: Kind, request: Mapping[str, Any], *, relaxed: bool = False) -> Job:
        """Check a native request; `relaxed` ignores unsupported thinking.

        Raises:
            ApiError: Ollama would reject the request at once.
        """
        name = request.get("model") or ""
        if not 0 <= (request.get("top_logprobs") or 0) <= 20:
            raise ApiError(400, "top_logprobs must be between 0 and 20")
        if kind == "chat" and not trimmed(name):
            raise ApiError(400, "model is required")
        model, keep_alive = self.find(name), keep_alive_seconds(request.get("keep_alive"))
        empty = not request.get("messages" if kind == "chat" else "prompt")
        unload = empty and keep_alive == 0
        thinks = False if unload else self._check_capabilities(kind, model, request, relaxed=relaxed)
        return Job(
            kind=kind,
            model=model,
            named=name,
            options=load_options(model, self.settings, request.get("options"), shift=request.get("shift")),
            keep_alive=keep_alive,
            script=None if empty else self._script(kind, model, request, thinks=thinks),
            refusal=self._refusal(model, request),
            prompt=tuple(_prompt(kind, request).split()),
            raw=bool(request.get("raw")),
            early_reason="unload" if unload else "load" if empty else "",
        )

    async def early(self, job: Job) -> dict[str, Any]:
        """Run a request without a prompt: load or unload the model."""
        if job.early_reason == "unload":
            self.scheduler.unload(job.model)
        else:
            async with self.lease(job):
                pass
        return {**self._message(job, Piece(kind="content")), "done": True, "done_reason": job.early_reason}

    async def run(self, job: Job) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the native messages of a response, one for each token and the final one.

        Raises:
            ApiError: 503 for a full queue, 500 for a failed load; both before the first message.
        """
        script = job.script
        if script is None:
            raise ValueError("a job without a prompt has no answer")
        async with self.lease(job) as lease:
            if job.refusal is not None:
                raise job.refusal
            pacer = self.clock.pacer()
            cached = self._cached_tokens(lease.runner, job)
            prefill = (script.prompt_tokens - cached) / job.model.prefill_speed
            step = 1.0 / job.model.decode_speed
            await pacer.spend(prefill)
            for piece in script.pieces():
                await pacer.spend(step)
                yield {**self._message(job, piece), "done": False}
            final = self._final(job, script, lease, prefill, step * script.answer_tokens)
            yield {**final, "prompt_eval_cached_count": cached} if self.settings.at_least(0, 33, 3) else final

    def _cached_tokens(self, runner: Runner, job: Job) -> int:
        """Return the prompt's tokens cached from the previous request; the last one is always processed."""
        before, runner.prompt = runner.prompt, job.prompt
        if not self.settings.at_least(0, 33, 3):
            return 0
        same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(before, job.prompt, strict=False))
        return min(sum(1 for _ in same), max(0, len(job.prompt) - 1))

    @asynccontextmanager
    async def lease(self, job: Job) -> AsyncIterator[Lease]:
        """Hold a slot; the load time includes that of scheduling."""
        try:
            async with self.scheduler.lease(job.model, job.options, job.keep_alive) as lease:
                yield replace(lease, load_seconds=lease.load_seconds + _SCHEDULING_SECONDS)
        except ServerBusyError as error:
            raise ApiError(503, str(error)) from None
        except LoadFailedError as error:
            raise ApiError(500, str(error)) from None

    def _message(self, job: Job, piece: Piece) -> dict[str, Any]:
        head = {"model": job.named, "created_at": rfc3339(self.clock.now())}
        text = piece.text if piece.kind == "content" else ""
        thinking = {"thinking": piece.text} if piece.kind == "thinking" else {}
        if job.kind == "generate":
            return {**head, "response": text, **thinking}
        message: dict[str, Any] = {"role": "assistant", "content": text, **thinking}
        if piece.tool_calls:
            message["tool_calls"] = list(piece.tool_calls)
        return {**head, "message": message}

    def _final(self, job: Job, script: Script, lease: Lease, prefill: float, decode: float) -> dict[str, Any]:
        """Build the last message; the total time includes the wait for a slot."""
        metrics = {
            "total_duration": _nanoseconds(lease.waited + lease.load_seconds + prefill + decode),
            "load_duration": _nanoseconds(lease.load_seconds),
            "prompt_eval_count": script.prompt_tokens,
            "prompt_eval_duration": _nanoseconds(prefill),
            "eval_count": script.answer_tokens,
            "eval_duration": _nanoseconds(decode),
        }
        context = list(range(script.prompt_tokens + script.answer_tokens))
        return {
            **self._message(job, Piece(kind="content")),
            "done": True,
            "done_reason": script.done_reason,
            **({"context": context} if job.kind == "generate" and not job.raw else {}),
            **{key: value for key, value in metrics.items() if value},
        }

    def _refusal(self, model: SimulatedModel, request: Mapping[str, Any]) -> ApiError | None:
        """Return the error that only the runner detects, or None."""
        wanted = request.get("format")
        if wanted not in (None, "", "json") and not isinstance(wanted, Mapping):
            text = json.dumps(json.dumps(wanted, separators=(",", ":")))
            error = ApiError(500, f'invalid format: {text}; expected "json" or a valid JSON Schema object')
        elif (_has_images(request) and "vision" not in model.capabilities) or (
            _has_audio(request) and "audio" not in model.capabilities
        ):
            error = ApiError(400, _NOT_MULTIMODAL)
        else:
            return None
        error.flushed = request.get("stream") is not False
        return error

    def _script(self, kind: Kind, model: SimulatedModel, request: Mapping[str, Any], *, thinks: bool) -> Script:
        messages = request.get("messages") or [] if kind == "chat" else []
        last = messages[-1] if messages else {}
        num_predict = (request.get("options") or {}).get("num_predict")
        return script_for(
            prompt=_prompt(kind, request),
            last_user_text=str(last.get("content") or "") if last.get("role") == "user" else "",
            length=model.answer_tokens or self.settings.answer_tokens,
            num_predict=int(num_predict) if isinstance(num_predict, int | float) else None,
            thinks=thinks,
            tools=() if model.plain else request.get("tools") or (),
            wanted_format=request.get("format"),
        )

    def _check_capabilities(
        self, kind: Kind, model: SimulatedModel, request: Mapping[str, Any], *, relaxed: bool
    ) -> bool:
        """Reject unsupported capabilities; return whether the model will think."""
        name, can = request.get("model") or "", model.capabilities
        if "completion" not in can:
            raise ApiError(400, f'"{name}" does not support {kind}')
        if request.get("tools") and "tools" not in can:
            raise ApiError(400, f"{valid_name(model.name).full} does not support tools")
        if request.get("suffix") and "insert" not in can:
            raise ApiError(400, f"{valid_name(model.name).full} does not support insert")
        self._check_media(model, request)
        think = _think(request.get("think"))
        if "thinking" not in can:
            if think and not relaxed:
                raise ApiError(400, f'"{name}" does not support thinking')
            return False
        return think is not False and not model.plain

    def _check_media(self, model: SimulatedModel, request: Mapping[str, Any]) -> None:
        """Reject images and audio before 0.30; since then the runner does so, once the model is loaded."""
        if self.settings.at_least(0, 30):
            return
        for kind, wanted in (("audio", _has_audio(request)), ("vision", _has_images(request))):
            if wanted and kind not in model.capabilities:
                raise ApiError(400, f"{valid_name(model.name).full} does not support {kind}")

    def cloud_error(self, missing: str = "remote model is unavailable") -> ApiError:
        """Return the error for requests for ollama.com: 403 if the cloud is disabled, else 401, as not signed in."""
        if self.settings.cloud_disabled:
            return ApiError(403, f"ollama cloud is disabled: {missing}", native=True)
        url = "https://ollama.com/connect?name=simulator"
        return ApiError(401, "unauthorized", extra={"signin_url": url}, native=True)


def keep_alive_seconds(value: Any) -> float | None:
    """Return a keep-alive in seconds, from a number of seconds or a Go duration; negative is forever.

    Raises:
        ApiError: 400 for anything else.
    """
    if value is None:
        return None
    seconds: float | None
    if isinstance(value, str):
        seconds = parse_go_duration(value)
        if seconds is None:
            raise ApiError(400, f'time: invalid duration "{value}"')
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise ApiError(400, f"Unsupported type: '{value}'")
    return float("inf") if seconds < 0 or seconds > _LONGEST_SECONDS else seconds


def _think(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    if value in _EFFORTS:
        return True
    listed = '(must be "high", "medium", "low", "max", true, or false)'
    raise ApiError(400, f'invalid think value: "{value}" {listed}')


def _prompt(kind: Kind, request: Mapping[str, Any]) -> str:
    """Return the prompt's text."""
    if kind == "generate":
        return f"{request.get('system') or ''} {request.get('prompt') or ''}"
    return " ".join(str(one.get("content") or "") for one in request.get("messages") or ())


def _has_images(request: Mapping[str, Any]) -> bool:
    return bool(request.get("images")) or any(one.get("images") for one in request.get("messages") or ())


def _has_audio(request: Mapping[str, Any]) -> bool:
    return any(one.get("audio") for one in request.get("messages") or ())


def _nanoseconds(seconds: float) -> int:
    return round(seconds * _NANOSECONDS)
