"""The progress of several servers as one stream, while it is made."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

from ollama_router_core.client.answering import Steps, Streamed, router_fields
from ollama_router_core.client.room import Account
from ollama_router_core.client.steps import Failure, Reply, Wait
from ollama_router_core.errors import PartlyDone
from ollama_router_core.responses.progress import MergedProgress

__all__ = ["Merging", "json_objects", "stream_merged"]

_A_DAY = 86_400.0
_LONGEST_LINE = 1024 * 1024
_MOST_WAITING = 1024
"""Lines for a program that reads slowly; what comes beyond says how far a layer is and is followed by a later one."""


class Merging:
    """What several servers have said so far; each is read by a thread or task of its own."""

    def __init__(self, verb: str, names: tuple[str, ...]) -> None:
        self.names = names
        self.replies: dict[str, Reply | Failure] = {}
        self.unwanted = False
        self._lock = threading.Lock()
        self._merged = MergedProgress(verb, names)
        self._rests = dict.fromkeys(names, b"")
        self._shown: list[bytes] = []
        self._ended: set[str] = set()

    def feed(self, name: str, piece: bytes) -> bool:
        """A piece of a server's progress came; False when nobody wants more of it."""
        with self._lock:
            *whole, rest = (self._rests[name] + piece).split(b"\n")
            self._rests[name] = rest[-_LONGEST_LINE:]
            self._show(name, whole)
            return not self.unwanted

    def has_news(self) -> bool:
        """Whether there is something to write, or some server has ended."""
        return bool(self._shown) or len(self.replies) > len(self._ended)

    def take(self) -> bytes:
        """What is to be written now; the ends of servers are noted on the way."""
        with self._lock:
            for name, reply in tuple(self.replies.items()):
                if name not in self._ended:
                    self._end(name, reply)
            shown, self._shown = self._shown, []
            return b"".join(shown)

    @property
    def running(self) -> bool:
        """Whether some server has not ended, as far as `take` has seen."""
        return len(self._ended) < len(self.names)

    def give_up(self) -> None:
        """Servers that have not ended by now are taken for silent."""
        with self._lock:
            for name in set(self.names) - self._ended:
                self._ended.add(name)
                self._merged.end(name, "was silent for a day")

    def conclusion(self) -> Mapping[str, Any]:
        """The last line."""
        return self._merged.conclusion()

    def _end(self, name: str, reply: Reply | Failure) -> None:
        self._ended.add(name)
        if isinstance(reply, Failure):
            self._merged.end(name, reply.error.message)
        elif reply.status != 200:
            self._merged.end(name, f"{reply.status} {reply.body[:200].decode('utf-8', 'replace')}".strip())
        else:
            self._show(name, [self._rests[name]])
            self._merged.end(name)

    def _show(self, name: str, texts: list[bytes]) -> None:
        for line in json_objects(texts):
            shown = self._merged.line(name, line)
            if shown is not None and (len(self._shown) < _MOST_WAITING or "digest" not in shown):
                self._shown.append(json.dumps(shown).encode() + b"\n")


def json_objects(texts: Iterable[bytes]) -> Iterator[Mapping[str, Any]]:
    """Those of some texts that are JSON objects."""
    for text in texts:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict):
            yield line


def stream_merged(account: Account, merging: Merging) -> Steps:
    """The answer, once there is a first line to show.

    Raises:
        PartlyDone: before anything was shown, some server did not do it and none goes on.
    """
    try:
        while not (first := merging.take()) and merging.running:
            yield from _wait(merging)
    except BaseException:
        merging.unwanted = True
        raise
    if not first and "error" in (last := merging.conclusion()):
        raise PartlyDone(str(last["error"]))
    account.status = 200
    steps = _rest(account, merging, first)
    next(steps)  # from here on closing it has a meaning
    return Streamed([(b"content-type", b"application/x-ndjson"), *router_fields(account)], steps)


def _rest(account: Account, merging: Merging, first: bytes) -> Generator[Wait | bytes, None, None]:
    """What is written from the first line on, and steps between; closing it makes an end of all."""
    try:
        yield b""
        if first:
            yield _counted(account, first)
        while merging.running:
            yield from _wait(merging)
            piece = merging.take()
            if piece:
                yield _counted(account, piece)
        last = merging.conclusion()
        yield _counted(account, json.dumps(last).encode() + b"\n")
        account.end(PartlyDone(str(last["error"])) if "error" in last else None)
    finally:
        merging.unwanted = True
        account.end(left=True)  # unless it has ended


def _wait(merging: Merging) -> Generator[Wait, None, None]:
    yield Wait(merging.has_news, _A_DAY)
    if not merging.has_news():
        merging.give_up()


def _counted(account: Account, piece: bytes) -> bytes:
    account.note(piece)
    account.bytes_out += len(piece)
    return piece
