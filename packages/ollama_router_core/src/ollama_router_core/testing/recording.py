"""What reached a simulated server: one record for each request, kept for assertions."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

__all__ = ["RecordedRequest"]


@dataclass(slots=True, kw_only=True, eq=False)
class RecordedRequest:
    """One request, filled in while it arrives and is answered.

    `connection` numbers the TCP connection it came on; `complete` says that the whole body arrived; `finished`
    that the whole answer was handed to the socket; `aborted` that the client went away before that.
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
        """The body as Python reads JSON."""
        return json.loads(bytes(self.body))

    def header(self, name: str) -> str | None:
        """Return the first value of a header, found without regard to case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def header_values(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def __repr__(self) -> str:
        return f"<RecordedRequest {self.method} {self.path} status={self.status} complete={self.complete}>"
