"""Whether a runner under suspicion answers: one token is asked of it, where the operator wants that (`load_probe`).

No probe of a server says anything about its runners. This one goes the way of a request: it waits where requests wait,
and loads the model if it is not in memory, for which another may have to go. It asks for what the request asked for
that waits in vain, so that nothing is loaded anew for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.requests import RouteRequest

__all__ = ["LoadProbe", "LoadProbes"]

_MOST_SUSPECTS = 100


class LoadProbe(Struct, frozen=True, kw_only=True):
    """A request to a server that is to be answered within `seconds`; `words` say why its runner is under suspicion."""

    server: str
    model: CanonicalName
    path: str
    body: bytes
    seconds: float
    words: str


class _Suspect(Struct):
    """What its probe asks for, why, when that is due, and whether it is running."""

    request: RouteRequest
    words: str
    due: float
    running: bool = False


class LoadProbes:
    """The runners under suspicion; a probe is due at once, and again before a user's request would be tried."""

    def __init__(self) -> None:
        self._suspects: dict[tuple[str, CanonicalName], _Suspect] = {}

    def suspect(self, server: str, request: RouteRequest, words: str, now: float) -> None:
        """Note that the runner a request waits for may stand still, and why."""
        if request.model is not None and len(self._suspects) < _MOST_SUSPECTS:
            small = replace(request, prompt_tokens=1, max_tokens=1, stream=False)
            self._suspects.setdefault((server, request.model), _Suspect(small, words, now))

    def clear(self, server: str, model: CanonicalName) -> bool:
        """End the suspicion of a runner that was seen to live; returns whether there was one."""
        return self._suspects.pop((server, model), None) is not None

    def has(self, server: str, model: CanonicalName) -> bool:
        """Return whether a runner is under suspicion."""
        return (server, model) in self._suspects

    def is_running(self, server: str, model: CanonicalName) -> bool:
        """Return whether a probe of a runner has been sent and not ended."""
        found = self._suspects.get((server, model))
        return found is not None and found.running

    def due(
        self,
        server: str,
        now: float,
        *,
        is_out: Callable[[CanonicalName], bool],
        take: Callable[[CanonicalName], bool],
        seconds: Callable[[RouteRequest], float],
    ) -> LoadProbe | None:
        """Return the probe of a server that is due, which is running from now on.

        `is_out` says whether a model is under suspicion still, `take` makes the probe its one trial unless there is
        one, `seconds` says how long a request may take.
        """
        for key in [key for key in self._suspects if key[0] == server]:
            found = self._suspects[key]
            if not is_out(key[1]):
                del self._suspects[key]
            elif not found.running and found.due <= now and take(key[1]):
                found.running = True
                path, body = _request(found.request)
                return LoadProbe(
                    server=server,
                    model=key[1],
                    path=path,
                    body=body,
                    seconds=seconds(found.request),
                    words=found.words,
                )
        return None

    def ended(self, probe: LoadProbe, *, again: float | None) -> None:
        """End a probe; `again` is when the next one is due, None when there is none."""
        key = (probe.server, probe.model)
        if again is None:
            self._suspects.pop(key, None)
        elif key in self._suspects:
            self._suspects[key].due, self._suspects[key].running = again, False


def _request(request: RouteRequest) -> tuple[str, bytes]:
    """Path and body of a request for one token, or for one vector, of a model that is loaded as this one asks."""
    options, body = dict(request.load_options), {"model": request.model_text, "stream": False}
    if "shift" in options:
        body["shift"] = bool(options.pop("shift"))
    if request.num_ctx is not None:
        options["num_ctx"] = request.num_ctx
    if "embedding" in request.needs:
        return "/api/embed", json.dumps({**body, "input": "hi", "options": options}).encode()
    asked = {"prompt": "hi", "raw": True, "options": {**options, "num_predict": 1}}
    return "/api/generate", json.dumps({**body, **asked}).encode()
