"""Progress of `/api/pull` and `/api/create`: reads one server's stream, or merges those of several.

A layer's progress is that of the slowest server. `success` is sent once, when every server has sent it; otherwise the
last line is an error that names each failed server. A stream that ends without `success` has failed.
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
    """The progress in one server's stream. Feed it every piece; lines over 64 KiB are skipped.

    Attributes:
        status: its last status, at most 200 characters.
        error: its error, None without one.
        succeeded: whether it sent `success`.
    """

    def __init__(self) -> None:
        self.status = ""
        self.error: str | None = None
        self.succeeded = False
        self._layers: dict[str, tuple[int, int]] = {}
        self._rest = b""

    @property
    def completed(self) -> int:
        """Completed bytes of all reported layers."""
        return sum(completed for completed, _ in self._layers.values())

    @property
    def total(self) -> int:
        """Total bytes of all reported layers."""
        return sum(total for _, total in self._layers.values())

    def feed(self, piece: bytes) -> None:
        """Read the lines that are now complete."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        self._rest = self._rest[-_LONGEST_LINE:]
        for line in lines:
            self._line(line)

    def end(self) -> str | None:
        """Read the last line; return the error, None on success."""
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
    """Merges progress: feed it each server's lines and ends, and write the lines that it returns.

    Args:
        verb: the operation, for the error text: `pull`, `create`.
        servers: all servers of the operation.
    """

    def __init__(self, verb: str, servers: Iterable[str]) -> None:
        self._verb = verb
        self._running = list(servers)
        self._done: list[str] = []
        self._failed: dict[str, str] = {}
        self._layers: dict[str, _Layer] = {}
        self._sent: set[str] = set()
        self._succeeded: set[str] = set()

    @property
    def failed(self) -> Mapping[str, str]:
        """Failed servers so far, with the reason."""
        return self._failed

    def line(self, server: str, line: Line) -> Line | None:
        """Return the line to write for one line of one server, None for none."""
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
        if not isinstance(status, str) or status in self._sent:
            return None
        self._sent.add(status)
        return line

    def end(self, server: str, error: str | None = None) -> None:
        """Record the end of a server's stream, with its error if any."""
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
        slowest = min((layer.completed.get(one, 0) for one in self._in_progress()), default=layer.total)
        if slowest <= layer.shown:
            return None
        layer.shown = slowest
        return {**line, "total": layer.total, "completed": slowest}

    def _in_progress(self) -> list[str]:
        """Return the servers in progress: neither succeeded nor failed."""
        return [one for one in self._running if one not in self._failed and one not in self._succeeded]


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
