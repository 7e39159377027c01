"""One progress stream made of several servers' streams of `/api/pull` and `/api/create`.

A layer is as far as on the slowest server. `success` is said once, when every server said it; otherwise the last line
is an error that names each server that failed. A server's stream that just ends has failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["MergedProgress"]

Line = Mapping[str, Any]


@dataclass(slots=True)
class _Layer:
    total: int = 0
    completed: dict[str, int] = field(default_factory=dict)
    shown: int = -1


class MergedProgress:
    """Feed it each server's lines and ends; it says what to write.

    Args:
        verb: what was asked for, for the error's text: `pull`, `create`.
        servers: every server that was asked.
    """

    def __init__(self, verb: str, servers: Iterable[str]) -> None:
        self._verb = verb
        self._running = list(servers)
        self._done: list[str] = []
        self._failed: dict[str, str] = {}
        self._layers: dict[str, _Layer] = {}
        self._said: set[str] = set()
        self._succeeded: set[str] = set()

    @property
    def failed(self) -> Mapping[str, str]:
        """Servers that failed so far, with the reason."""
        return self._failed

    def line(self, server: str, line: Line) -> Line | None:
        """What to write for one line of one server, None for nothing."""
        error, status = line.get("error"), line.get("status")
        if error:
            self._failed.setdefault(server, str(error))
            return None
        if status == "success":
            self._succeeded.add(server)
            return None
        digest = line.get("digest")
        if isinstance(digest, str):
            return self._layer(server, digest, line)
        if not isinstance(status, str) or status in self._said:
            return None
        self._said.add(status)
        return line

    def end(self, server: str, error: str | None = None) -> None:
        """A server's stream has ended, in order or with an error."""
        self._running.remove(server)
        if error is None and server not in self._succeeded:
            error = "the server ended without saying success"
        if error is not None:
            self._failed.setdefault(server, error)
        if server not in self._failed:
            self._done.append(server)

    def conclusion(self) -> Line:
        """The last line, once every server has ended."""
        if not self._failed:
            return {"status": "success"}
        reasons = "; ".join(f"{server}: {reason}" for server, reason in sorted(self._failed.items()))
        done = f" (done on {', '.join(sorted(self._done))})" if self._done else ""
        return {"error": f"{self._verb} failed on {reasons}{done}"}

    def _layer(self, server: str, digest: str, line: Line) -> Line | None:
        layer = self._layers.setdefault(digest, _Layer())
        layer.total = max(layer.total, _whole(line.get("total")))
        layer.completed[server] = max(layer.completed.get(server, 0), _whole(line.get("completed")))
        slowest = min((layer.completed.get(one, 0) for one in self._waited_for()), default=layer.total)
        if slowest <= layer.shown:
            return None
        layer.shown = slowest
        return {**line, "total": layer.total, "completed": slowest}

    def _waited_for(self) -> list[str]:
        """Servers whose part is still to come: those that succeeded have every layer, those that failed none."""
        return [one for one in self._running if one not in self._failed and one not in self._succeeded]


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
