"""Load probes: requests of one token that test whether a suspected runner works (`load_probe`).

Probes of a server say nothing about its runners. A load probe is handled as a request: it waits in the same queue, and
loads the model if it is not in memory, which may evict another. It uses the options of the stalled request, so that it
causes no reload.
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
    """A request that must be answered within `seconds`; `words` say why the runner is suspected."""

    server: str
    model: CanonicalName
    path: str
    body: bytes
    seconds: float
    words: str


class _Suspect(Struct):
    """A suspected runner: the probe's request, the reason, when it is due, and whether it is running."""

    request: RouteRequest
    words: str
    due: float
    running: bool = False


class LoadProbes:
    """The suspected runners; a probe is due immediately, and again before a user's request becomes the trial."""

    def __init__(self) -> None:
        self._suspects: dict[tuple[str, CanonicalName], _Suspect] = {}

    def suspect(self, server: str, request: RouteRequest, words: str, now: float) -> None:
        """Suspect the runner of a waiting request, with the reason."""
        if request.model is not None and len(self._suspects) < _MOST_SUSPECTS:
            small = replace(request, prompt_tokens=1, max_tokens=1, stream=False)
            self._suspects.setdefault((server, request.model), _Suspect(small, words, now))

    def clear(self, server: str, model: CanonicalName) -> bool:
        """Clear a runner that shows activity; return whether it was suspected."""
        return self._suspects.pop((server, model), None) is not None

    def has(self, server: str, model: CanonicalName) -> bool:
        """Return whether a runner is suspected."""
        return (server, model) in self._suspects

    def is_running(self, server: str, model: CanonicalName) -> bool:
        """Return whether a probe of a runner is running."""
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
        """Return the due probe of a server and mark it as running.

        `is_out` returns whether a model is still suspended, `take` makes the probe its one trial unless there is
        one, `seconds` returns the timeout of a request.
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
        """End a probe; `again` is when the next one is due, None for none."""
        key = (probe.server, probe.model)
        if again is None:
            self._suspects.pop(key, None)
        elif key in self._suspects:
            self._suspects[key].due, self._suspects[key].running = again, False


def _request(request: RouteRequest) -> tuple[str, bytes]:
    """Return path and body of a request for one token, or one embedding, with the load options of `request`."""
    options, body = dict(request.load_options), {"model": request.model_text, "stream": False}
    if "shift" in options:
        body["shift"] = bool(options.pop("shift"))
    if request.num_ctx is not None:
        options["num_ctx"] = request.num_ctx
    if "embedding" in request.needs:
        return "/api/embed", json.dumps({**body, "input": "hi", "options": options}).encode()
    asked = {"prompt": "hi", "raw": True, "options": {**options, "num_predict": 1}}
    return "/api/generate", json.dumps({**body, **asked}).encode()
