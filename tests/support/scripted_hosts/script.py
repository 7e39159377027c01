"""What a scripted model understands of a request, and what it says."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from support.pauses import stay_silent_in_thread

__all__ = ["Call", "Picture", "Refused", "Said", "Seen", "Turn", "answer", "check", "recited", "settle"]

_DIRECTIVE = re.compile(r"\[\[(\w+)(?: (.*?))?\]\]", re.DOTALL)
_NAMED_CALL = re.compile(r"(\S+) (.*)", re.DOTALL)
_PAUSE = 0.01
"""Seconds between two words of an answer without an end."""
_LONGEST = 6000
"""Words of an answer without an end, in case nobody leaves."""


class Refused(Exception):
    """The provider would answer 400, with this text."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as a host got it."""

    media_type: str
    digest: str

    @classmethod
    def of(cls, media_type: str, data: bytes) -> Picture:
        """Describe the bytes of an image."""
        return cls(media_type, hashlib.sha256(data).hexdigest()[:16])

    def __str__(self) -> str:
        return f"{self.media_type} {self.digest}"


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool; `arguments` is JSON."""

    id: str
    name: str
    arguments: str


@dataclass(slots=True)
class Turn:
    """What one side said before the other did; results of tools are `results` of the user's side, by the call's id."""

    user: bool
    text: str = ""
    pictures: list[Picture] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    results: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as the host understood it."""

    route: str
    model: str
    stream: bool
    turns: tuple[Turn, ...]
    tools: tuple[str, ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All images of the conversation."""
        return tuple(picture for turn in self.turns for picture in turn.pictures)


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: a text in pieces, or a call."""

    pieces: Iterator[str]
    call: Call | None = None


def check(holds: object, text: str) -> None:
    """Refuse with the text unless something holds."""
    if not holds:
        raise Refused(text)


def settle(turns: list[Turn]) -> tuple[Turn, ...]:
    """Join neighbours of one side, and refuse a result that answers no call of the turn before it."""
    joined: list[Turn] = []
    for turn in turns:
        if joined and joined[-1].user == turn.user:
            last = joined[-1]
            last.text = "\n".join(filter(None, (last.text, turn.text)))
            last.pictures += turn.pictures
            last.calls += turn.calls
            last.results |= turn.results
        else:
            joined.append(turn)
    for before, turn in zip([Turn(user=False), *joined], joined, strict=False):
        called = {call.id for call in before.calls}
        check(called >= turn.results.keys(), f"results {sorted(turn.results)} for the calls {sorted(called)}")
        check(not turn.user or called <= turn.results.keys(), f"no result for one of {sorted(called)}")
    check(joined and joined[-1].user, "the last turn is not the user's")
    return tuple(joined)


def recited(count: int) -> str:
    """The whole text of `[[recite COUNT]]`."""
    return " ".join(f"w{number}" for number in range(count))


def answer(seen: Seen, number: int) -> Said:
    """What the model says; `number` makes the ids of its calls."""
    last = seen.turns[-1]
    directives = _DIRECTIVE.findall(last.text)
    if last.results and not directives:
        return _told(f"the tool said: {' | '.join(last.results.values())}{_looks(last.pictures)}")
    word, rest = directives[-1] if directives else ("say", "ok")
    obeyed: Mapping[str, Callable[[], Said]] = {
        "say": lambda: _told(rest),
        "look": lambda: _told(f"I see{_looks(seen.pictures) or ' nothing'}"),
        "recall": lambda: _told(_recalled(seen)),
        "recite": lambda: Said(_words(int(rest))),
        "forever": lambda: Said(_without_end()),
        "call": lambda: _called(seen, rest, number),
    }
    check(word in obeyed, f"no such directive: {word}")
    return obeyed[word]()


def _told(text: str) -> Said:
    return Said(iter([text[start : start + 7] for start in range(0, len(text), 7)]))


def _looks(pictures: tuple[Picture, ...] | list[Picture]) -> str:
    return "".join(f" <{picture}>" for picture in pictures)


def _recalled(seen: Seen) -> str:
    for asked, told in pairwise(seen.turns):
        if asked.user and (said := _DIRECTIVE.findall(asked.text)):
            return f"you said {said[-1][1]!r}, I said {told.text.strip()!r}"
    raise Refused("nothing was said before")


def _words(count: int) -> Iterator[str]:
    return (f" w{number}" if number else "w0" for number in range(count))


def _without_end() -> Iterator[str]:
    for number in itertools.count():
        stay_silent_in_thread(_PAUSE)
        yield f"w{number} "
        if number > _LONGEST:
            return


def _called(seen: Seen, rest: str, number: int) -> Said:
    named = _NAMED_CALL.fullmatch(rest)
    check(named, "the directive is [[call NAME ARGUMENTS]]")
    assert named is not None
    name, arguments = named.groups()
    if not seen.tools:
        return _told("no tools, so no call")  # the title of a conversation, asked for beside its first turn
    check(name in seen.tools, f"the tools are {', '.join(seen.tools)}, not {name}")
    return Said(iter(()), Call(f"call_{number:06}", name, arguments))
