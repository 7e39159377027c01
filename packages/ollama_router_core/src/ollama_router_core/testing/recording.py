"""Records of the requests to a simulated server, for assertions."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

__all__ = ["RecordedRequest"]


@dataclass(slots=True, kw_only=True, eq=False)
class RecordedRequest:
    """One request, updated while it arrives and is answered.

    `connection` is the number of its TCP connection; `complete` means that the whole body arrived, `finished` that the
    whole response was written to the socket, `aborted` that the client disconnected before that.
    """

    method: str
    target: str
    http_version: str
    headers: tuple[tuple[str, str], ...]
    connection: int
    body: bytearray = field(default_factory=bytearray)
    complete: bool = False
    status: int | None = None
    finished: bool = False
    aborted: bool = False

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def json(self) -> Any:
        """Return the body decoded as JSON."""
        return json.loads(bytes(self.body))

    def header(self, name: str) -> str | None:
        """Return the first value of a header; names are case-insensitive."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def __repr__(self) -> str:
        return f"<RecordedRequest {self.method} {self.path} status={self.status} complete={self.complete}>"
