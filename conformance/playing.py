"""Playing all exchanges against both servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from conformance.by_design import row_for
from conformance.catalogue import Exchange
from conformance.comparison import Difference, compare
from conformance.wire import Answer, Server

__all__ = ["Result", "play"]

_HELD_BACK = "chunks held back"
_PATIENCE = 3  # a busy machine may hold up a stream once or twice; a relay that buffers does it every time


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one exchange showed.

    `different` is wrong; `by_design` are the rows that explain the rest; `unsteady` are places where the server itself
    answers differently each time. `status` are the codes through the router.
    """

    exchange: Exchange
    status: tuple[int, ...]
    different: tuple[Difference, ...]
    by_design: tuple[str, ...]
    unsteady: tuple[str, ...]


def play(
    pairs: Sequence[tuple[Exchange, Exchange]], direct: Server, through: Server, nonces: tuple[str, str]
) -> Iterator[Result]:
    """Play each pair: the first directly, the second through the router."""
    for here, there in pairs:
        one, other = direct.ask_all(here.requests), through.ask_all(there.requests)
        differences = compare(here, one, other, nonces=nonces)
        for _ in range(_PATIENCE if here.repeatable else 0):
            if not any(difference.where.endswith(_HELD_BACK) for difference in differences):
                break
            other = through.ask_all(there.requests)
            differences = compare(here, one, other, nonces=nonces)
        open_questions, designed = _judge(here, differences, one, other)
        unsteady: tuple[str, ...] = ()
        if open_questions and here.repeatable:
            places = {difference.where for difference in open_questions}
            for _ in range(_PATIENCE):
                if places:
                    again = direct.ask_all(here.requests)
                    places -= _places(here, one, again)
                    places &= _places(here, again, through.ask_all(there.requests), nonces)
            unsteady = tuple(one.where for one in open_questions if one.where not in places)
            open_questions = [one for one in open_questions if one.where in places]
        yield Result(
            exchange=here,
            status=tuple(answer.status for answer in other),
            different=tuple(open_questions),
            by_design=tuple(dict.fromkeys(designed)),
            unsteady=unsteady,
        )


def _places(
    exchange: Exchange, one: Sequence[Answer], other: Sequence[Answer], nonces: tuple[str, str] = ("", "")
) -> set[str]:
    return {difference.where for difference in compare(exchange, one, other, nonces=nonces)}


def _judge(
    exchange: Exchange, differences: Sequence[Difference], direct: Sequence[Answer], through: Sequence[Answer]
) -> tuple[list[Difference], list[str]]:
    open_questions: list[Difference] = []
    designed: list[str] = []
    for difference in differences:
        row = row_for(exchange, difference, direct, through)
        if row is None:
            open_questions.append(difference)
        else:
            designed.append(row.key)
    return open_questions, designed
