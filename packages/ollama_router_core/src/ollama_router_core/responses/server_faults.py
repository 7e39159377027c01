"""Classifies server errors by their text, as 404 and 500 are ambiguous.

Source of the texts: Ollama's server/sched.go, server/routes.go, llm/ and x/mlxrunner/, versions 0.5 to 0.40.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

import msgspec
from msgspec import Struct

from ollama_router_core.translate import read_host_error

__all__ = ["TELLING", "Fault", "FaultKind", "read_fault"]

TELLING = frozenset({400, 404, 405, 500})
"""Ambiguous statuses, which the body explains."""

_LONGEST_TEXT = 300

_RAN = ("while running the model", "post predict", "tool call")
"""Substrings of errors after a run began: a non-streamed response may have run for minutes."""

_INCAPABLE = ("does not support chat", "does not support generate")
"""Ollama's error for a model whose weights are missing, so that its capabilities are unknown."""

_REQUEST_FAULTS = (
    "must be of type",
    "invalid format",
    "invalid option",
    "image input",
    "multimodal",
    "does not support",
)
"""Substrings of errors that the same request gets on every server."""

_NOT_LOADED = (
    "process has terminated",
    "process no longer running",
    "unexpectedly stopped",
    "timed out waiting for",
    "out of memory",
    "out-of-memory",
    "cudamalloc",
    "allocate",
    "model requires",
    "requires mlx",
    "system memory",
    "failed to load",
    "unable to load",
    "error loading",
    "could not load",
    "failed to start",
    "error starting",
    "unable to create",
    "exceeds file size",
    "tensor",
    "gguf",
    "file magic",
    "model architecture",
    "no longer compatible",
    "corrupt",
    "sha256",
    "no such file or directory",
    "file does not exist",
    "permission denied",
    "input/output error",
    "llama runner",
    "unexpected eof",
    "do load request",
    "connection refused",
)
"""Substrings of errors of a failed load or a dead runner: nothing was generated."""


class FaultKind(Enum):
    """What an error says about its server."""

    NO_MODEL = auto()
    """The server does not have the model, whatever its list says."""
    NO_ROUTE = auto()
    """The server lacks the route: another version, or another program."""
    NOT_LOADED = auto()
    """The server could not load the model, or its runner is dead."""
    FAILED = auto()
    """Another failure, which the request may have caused."""


class Fault(Struct, frozen=True):
    """A classified server error with its text."""

    kind: FaultKind
    words: str

    @property
    def nothing_ran(self) -> bool:
        """Whether the request generated nothing, so that it may be retried on another server."""
        return self.kind is not FaultKind.FAILED


def read_fault(status: int, body: bytes, *, streamed: bool, capable: bool = False) -> Fault | None:
    """Classify an error; None if it says nothing about its server.

    A 500 to a `streamed` request precedes the first piece of the response. For a model known to be `capable` of text,
    a refusal as incapable means missing weights.
    """
    if status not in TELLING:
        return None
    document = _document(body)
    words = _words(status, body)
    text = words.lower()
    if status == 400:
        gone = capable and any(part in text for part in _INCAPABLE)
        return Fault(FaultKind.NOT_LOADED, words) if gone else None
    if status != 500:
        return _missing(document, words)
    if any(part in text for part in _REQUEST_FAULTS):
        return None
    if any(part in text for part in _RAN):
        kind = FaultKind.NOT_LOADED if streamed and "tool call" not in text else FaultKind.FAILED
    else:
        kind = FaultKind.NOT_LOADED if any(part in text for part in _NOT_LOADED) else FaultKind.FAILED
    return Fault(kind, words)


def _missing(document: Any, words: str) -> Fault | None:
    """Classify a 404 or 405: Ollama's errors are JSON; plain text comes from its mux or another program."""
    if not isinstance(document, dict):
        return Fault(FaultKind.NO_ROUTE, words)
    text = words.lower()
    return Fault(FaultKind.NO_MODEL, words) if "model" in text and "not found" in text else None


def _document(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _words(status: int, body: bytes) -> str:
    """Return the server's text on one line, at most 300 characters."""
    text = " ".join(read_host_error(status, body).message.split())
    return "".join(char for char in text if char.isprintable())[:_LONGEST_TEXT]
