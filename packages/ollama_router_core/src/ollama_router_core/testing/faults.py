"""Fault injection: the faults of a simulated server, and rules for their requests and number.

The faults are performed in `wire`. For refused connections, `OllamaSimulator.pause` closes the listener.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

__all__ = [
    "Answer",
    "Cut",
    "Delay",
    "Drip",
    "EndEarly",
    "ExtraHeaders",
    "Fault",
    "FaultRules",
    "Garbage",
    "Reset",
    "Silence",
    "StreamError",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Never respond; with `read_request` False, the request is not read either."""

    read_request: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """Send a TCP RST.

    With `on_connect` at once; with `after_chunks` after that many chunks of the response (a whole response is cut in
    its middle); with `after_request_bytes` during the request body; otherwise after the request was read.
    """

    on_connect: bool = False
    after_chunks: int | None = None
    after_request_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Close the connection (FIN) after `after_chunks` chunks, without the terminating chunk."""

    after_chunks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndEarly:
    """End a stream after `after_chunks` chunks, correctly framed, without its final message."""

    after_chunks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamError:
    """An error within a stream, after `after_chunks` chunks: an NDJSON error line, swallowed on /v1."""

    after_chunks: int = 1
    message: str = "an error was encountered while running the model: unexpected EOF"


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """Bytes that are not HTTP instead of a response, then a close."""

    data: bytes = b"\x15\x03\x01\x00\x02\x02\x50 not http at all\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drip:
    """The normal response, in pieces of `size` bytes with `seconds` (a number or a function) of real time between."""

    seconds: float | Callable[[], float] = 0.01
    size: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """The normal response, delayed by `seconds` of real time."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """This response instead of the normal one."""

    status: int
    body: bytes = b""
    content_type: str = "application/json; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraHeaders:
    """The normal response with more headers: cookies, hop-by-hop headers, a huge one."""

    headers: tuple[tuple[str, str], ...]


Fault = Silence | Reset | Cut | EndEarly | StreamError | Garbage | Drip | Delay | Answer | ExtraHeaders


@dataclass(slots=True, kw_only=True, eq=False)
class _Rule:
    fault: Fault
    path: str
    method: str
    left: int | None

    def hits(self, method: str, path: str) -> bool:
        return self.method in {"*", method} and fnmatchcase(path, self.path)


def _before_request(fault: Fault) -> bool:
    if isinstance(fault, Reset):
        return fault.on_connect
    return isinstance(fault, Silence) and not fault.read_request


@dataclass(slots=True, eq=False)
class FaultRules:
    """The active faults, oldest first; the first matching rule applies."""

    _rules: list[_Rule] = field(default_factory=list)

    def add(self, faults: Iterable[Fault], *, path: str = "*", method: str = "*", times: int | None = None) -> None:
        """Activate each fault for the next `times` matching requests (None: until cleared).

        `path` is a shell pattern. Faults before a request is read count connections and accept no path.
        """
        for fault in faults:
            if _before_request(fault) and (path, method) != ("*", "*"):
                raise ValueError("a fault before the request is read cannot depend on path or method")
            self._rules.append(_Rule(fault=fault, path=path, method=method, left=times))

    def clear(self) -> None:
        """Remove all faults."""
        self._rules.clear()

    def for_connection(self) -> Fault | None:
        """Consume the fault for a new connection."""
        return self._take(rule for rule in self._rules if _before_request(rule.fault))

    def for_request(self, method: str, path: str) -> Fault | None:
        """Consume the fault for a request whose head was read."""
        rules = (rule for rule in self._rules if not _before_request(rule.fault))
        return self._take(rule for rule in rules if rule.hits(method, path))

    def _take(self, rules: Iterable[_Rule]) -> Fault | None:
        rule = next(iter(rules), None)
        if rule is None:
            return None
        if rule.left is not None:
            rule.left -= 1
            if rule.left <= 0:
                self._rules.remove(rule)
        return rule.fault
