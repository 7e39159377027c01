"""Progress of `/api/pull` and `/api/create`: one server's stream read, or one stream made of several servers'.

A layer is as far as on the slowest server. `success` is said once, when every server said it; otherwise the last line
is an error that names each server that failed. A server's stream that just ends has failed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from ollama_router_core.responses.several_servers import failed_on

__all__ = ["MergedProgress", "PullProgress"]

_LONGEST_LINE: Final = 64 * 1024
_LONGEST_WORDS: Final = 200
_MOST_LAYERS: Final = 256

Line = Mapping[str, Any]


class _Layer(Struct):
    total: int = 0
    completed: dict[str, int] = {}
    shown: int = -1


class PullProgress:
    """What one server's stream has told so far. Feed it every piece; a line longer than 64 KiB is passed over.

    Attributes:
        status: its last words, at most 200 characters.
        error: why it failed.
        succeeded: it said so.
    """

    def __init__(self) -> None:
        self.status = ""
        self.error: str | None = None
        self.succeeded = False
        self._layers: dict[str, tuple[int, int]] = {}
        self._rest = b""

    @property
    def completed(self) -> int:
        """Bytes that are there, of all layers that were told of."""
        return sum(completed for completed, _ in self._layers.values())

    @property
    def total(self) -> int:
        """Bytes that there are to be."""
        return sum(total for _, total in self._layers.values())

    def feed(self, piece: bytes) -> None:
        """Read the lines that are whole now."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        self._rest = self._rest[-_LONGEST_LINE:]
        for line in lines:
            self._line(line)

    def end(self) -> str | None:
        """Read the last line; return why the pull has failed, None if it has not."""
        self.feed(b"\n")
        if self.error is None and not self.succeeded:
            self.error = "the server ended without saying success"
        return self.error

    def _line(self, text: bytes) -> None:
        try:
            line = json.loads(text) if text.strip() else None
        except (ValueError, RecursionError):
            line = None
        if not isinstance(line, dict):
            return
        if error := line.get("error"):
            self.error = str(error)[:_LONGEST_WORDS]
        if isinstance(line.get("status"), str):
            self.status = line["status"][:_LONGEST_WORDS]
            self.succeeded = self.status == "success"
        digest = line.get("digest")
        if isinstance(digest, str) and (digest in self._layers or len(self._layers) < _MOST_LAYERS):
            self._layers[digest] = _whole(line.get("completed")), _whole(line.get("total"))


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
        """Return what to write for one line of one server, None for nothing."""
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
        """Note that a server's stream has ended, in order or with an error."""
        self._running.remove(server)
        if error is None and server not in self._succeeded:
            error = "the server ended without saying success"
        if error is not None:
            self._failed.setdefault(server, error)
        if server not in self._failed:
            self._done.append(server)

    def conclusion(self) -> Line:
        """Return the last line, once every server has ended."""
        if not self._failed:
            return {"status": "success"}
        return {"error": failed_on(self._verb, dict(sorted(self._failed.items())), sorted(self._done))}

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
