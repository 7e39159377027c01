"""The queue of requests that wait for a server."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import takewhile, zip_longest

from msgspec import Struct

from ollama_router_core.admission.tickets import Ticket
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.config.settings import Queue
from ollama_router_core.routing.candidates import RequestKind, kind_of

__all__ = ["AGEING", "BATCH_WEIGHT", "RequestGroup", "WaitQueue", "group_of_one"]

AGEING = 30.0
"""Seconds of waiting that double a ticket's weight. The weight grows with the square of the age, so no ticket
starves."""

CALM, CROWD = 0.15, 20
"""With fewer than `CROWD` tickets waiting (batch ones excluded), ageing is faster, down to the share `CALM` of
`AGEING`: serving many tickets of one model in a row then gains little, and rarely used models are served sooner."""

BATCH_WEIGHT = 0.001
"""Weight of a batch ticket at any age: a thousandth of any other's."""


class RequestGroup(Struct, eq=False):
    """Tickets of one kind: a server that can serve one of them can serve all.

    `version` changes with every change and is unique across groups of the same kind.
    `conversations` counts the tickets with a conversation, `batch` those of batch priority.
    """

    kind: RequestKind
    tickets: dict[int, Ticket] = {}
    tokens: float = 0.0
    version: int = 0
    conversations: int = 0
    batch: int = 0

    @property
    def only_batch(self) -> bool:
        """Whether all tickets are batch tickets."""
        return self.batch == len(self.tickets)

    @property
    def mean_tokens(self) -> float:
        """Mean prompt tokens of a ticket, at least 1, which keeps rates finite."""
        return max(1.0, self.tokens / len(self.tickets))

    @property
    def sample(self) -> Ticket:
        """Any ticket of the group, as all have the same requirements."""
        return next(iter(self.tickets.values()))


def group_of_one(ticket: Ticket) -> RequestGroup:
    """Make a group outside the queue, for a ticket that does not wait."""
    talks = ticket.conversation is not None
    return RequestGroup(
        kind_of(ticket.request),
        {ticket.number: ticket},
        ticket.request.prompt_tokens,
        conversations=int(talks),
        batch=int(ticket.batch),
    )


class WaitQueue:
    """The waiting tickets, grouped by kind, within the bounds of the settings."""

    def __init__(self, settings: Queue) -> None:
        self.settings = settings
        self.groups: dict[RequestKind, RequestGroup] = {}
        self.by_model: dict[CanonicalName | None, list[RequestGroup]] = {}
        self._tickets: dict[int, tuple[Ticket, RequestGroup, int]] = {}
        self._by_user: dict[str, dict[int, Ticket]] = {}
        self._people: dict[str, int] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._batch = 0
        self._turn: dict[str, int] = {}
        self._granted: dict[str, float] = {}
        self._turns = 0
        self._changes = 0

    def __len__(self) -> int:
        return len(self._tickets)

    def __contains__(self, number: int) -> bool:
        return number in self._tickets

    @property
    def crowd(self) -> int:
        """Number of waiting tickets without batch ones."""
        return len(self._tickets) - self._batch

    def reconfigure(self, settings: Queue) -> None:
        """Apply new settings, also to waiting tickets."""
        self.settings = settings
        self._deadlines = [(self.deadline(ticket), number) for number, (ticket, _, _) in self._tickets.items()]
        heapq.heapify(self._deadlines)

    def patience(self, ticket: Ticket) -> float:
        """Return the seconds that a ticket may wait."""
        return self.settings.max_wait if ticket.max_wait is None else ticket.max_wait

    def deadline(self, ticket: Ticket) -> float:
        """Return when a ticket's wait ends."""
        return ticket.arrived + self.patience(ticket)

    def waiting_of(self, user: str) -> int:
        """Count the waiting tickets of a user."""
        return len(self._by_user.get(user, ()))

    def waiting_for(self, model: CanonicalName | None) -> int:
        """Count the waiting tickets for a model."""
        return sum([len(group.tickets) for group in self.by_model.get(model, ())])

    def has_room(self, user: str, model: CanonicalName | None, *, joined: bool = False) -> bool:
        """Whether one more ticket is within all bounds; with `joined`, the ticket is already counted."""
        bounds, more = self.settings, 0 if joined else 1
        if len(self._tickets) + more > bounds.max_waiting:
            return False
        if self.waiting_for(model) + more > bounds.max_waiting_per_model:
            return False
        most = bounds.max_waiting_per_user
        return most is None or self.waiting_of(user) + more <= most

    def position(self, number: int) -> int:
        """Return the position at which a ticket joined, from 1; 0 if it does not wait."""
        return self._tickets[number][2] if number in self._tickets else 0

    def rank(self, number: int) -> int:
        """Return a ticket's current position, from 1; 0 if it does not wait."""
        return len(self._ahead(number)) + 1 if number in self._tickets else 0

    def before(self, number: int) -> tuple[RequestGroup, Mapping[RequestKind, int]]:
        """Return a waiting ticket's group, and the number of tickets ahead of it by kind.

        Raises:
            KeyError: the ticket does not wait.
        """
        return self._tickets[number][1], Counter([group.kind for group in self._ahead(number)])

    def _ahead(self, number: int) -> list[RequestGroup]:
        """List the groups of the tickets ahead of a waiting one: earlier ones, and for a batch ticket all others."""
        own, tickets = self._tickets[number][0], self._tickets.values()
        earlier = [one for one in takewhile(lambda one: one[0] is not own, tickets) if one[0].batch == own.batch]
        others = [one for one in tickets if not one[0].batch] if own.batch else []
        return [group for _, group, _ in (*others, *earlier)]

    def join(self, ticket: Ticket) -> int:
        """Add a ticket; return its position, from 1."""
        kind = kind_of(ticket.request)
        group = self.groups.get(kind)
        if group is None:
            group = self.groups[kind] = RequestGroup(kind)
            self.by_model.setdefault(kind.model, []).append(group)
        group.tickets[ticket.number] = ticket
        group.tokens += ticket.request.prompt_tokens
        group.conversations += ticket.conversation is not None
        group.batch += ticket.batch
        self._changes += 1
        group.version = self._changes
        position = 1 + (len(self._tickets) if ticket.batch else self.crowd)
        self._tickets[ticket.number] = (ticket, group, position)
        self._by_user.setdefault(ticket.user, {})[ticket.number] = ticket
        heapq.heappush(self._deadlines, (self.deadline(ticket), ticket.number))
        self._count(ticket, 1)
        return position

    def join_again(self, ticket: Ticket) -> None:
        """Add a ticket that left the queue without getting a slot, ahead of those that arrived later."""
        self.join(ticket)
        for tickets in (self.groups[kind_of(ticket.request)].tickets, self._by_user[ticket.user]):
            _move_before_later(tickets, ticket)
        later = [number for number, (one, _, _) in self._tickets.items() if one.arrived > ticket.arrived]
        for number in later:
            self._tickets[number] = self._tickets.pop(number)

    def leave(self, number: int) -> int:
        """Remove a ticket; return the position at which it joined, 0 if it did not wait."""
        found = self._tickets.pop(number, None)
        if found is None:
            return 0
        ticket, group, position = found
        self._count(ticket, -1)
        del group.tickets[number]
        group.tokens -= ticket.request.prompt_tokens
        group.conversations -= ticket.conversation is not None
        group.batch -= ticket.batch
        self._changes += 1
        group.version = self._changes
        if not group.tickets:
            del self.groups[group.kind]
            self.by_model[group.kind.model].remove(group)
            if not self.by_model[group.kind.model]:
                del self.by_model[group.kind.model]
        del self._by_user[ticket.user][number]
        if not self._by_user[ticket.user]:
            del self._by_user[ticket.user]
        return position

    def _count(self, ticket: Ticket, change: int) -> None:
        """Add `change` to the batch count, or to the user's count of interactive tickets."""
        if ticket.batch:
            self._batch += change
            return
        left = self._people.get(ticket.user, 0) + change
        if left:
            self._people[ticket.user] = left
        else:
            del self._people[ticket.user]

    def served(self, user: str) -> None:
        """Record a user's turn."""
        self._turns += 1
        self._turn[user] = self._turns
        if len(self._turn) > 4 * self.settings.max_waiting + 64:
            self._turn = {name: turn for name, turn in self._turn.items() if name in self._by_user}

    def granted(self, user: str, now: float) -> None:
        """Record when a user got a shared slot, through this or another router."""
        self._granted[user] = max(now, self._granted.get(user, now))
        if len(self._granted) > 4 * self.settings.max_waiting + 64:
            self._granted = {name: at for name, at in self._granted.items() if name in self._by_user}

    def in_line_since(self, ticket: Ticket) -> float:
        """Return since when a ticket counts in the queue of all routers.

        Users take turns there as well: a user's tickets count only from the user's last turn.
        """
        return max(ticket.arrived, self._granted.get(ticket.user, ticket.arrived))

    def first_since(self, group: RequestGroup) -> float | None:
        """Return since when a group's first non-batch ticket counts in the queue of all routers; None without one."""
        found: float | None = None
        for ticket in group.tickets.values():
            if found is not None and ticket.arrived >= found:
                break
            if not ticket.batch:
                since = self.in_line_since(ticket)
                found = since if found is None else min(found, since)
        return found

    def next_deadline(self) -> float | None:
        """Return when the first wait ends, None while the queue is empty."""
        deadlines = self._deadlines
        while deadlines and not self._ends(*deadlines[0]):
            heapq.heappop(deadlines)
        return deadlines[0][0] if deadlines else None

    def _ends(self, at: float, number: int) -> bool:
        """Whether a ticket's wait ends at this time; a ticket that rejoined may have a later deadline."""
        return number in self._tickets and self.deadline(self._tickets[number][0]) == at

    def expired(self, now: float) -> list[Ticket]:
        """Return the tickets whose wait has ended."""
        found = {}
        while (at := self.next_deadline()) is not None and at <= now:
            number = heapq.heappop(self._deadlines)[1]
            found[number] = self._tickets[number][0]
        return list(found.values())

    def oldest(self) -> Ticket | None:
        """Return the ticket that joined first."""
        return next((ticket for ticket, _, _ in self._tickets.values()), None)

    def surplus_of(self, waiting: int) -> Ticket | None:
        """Find the ticket that yields in a full queue: the newest of the user with most, if at least `waiting` + 2."""
        user = max(self._by_user, key=lambda name: (len(self._by_user[name]), name), default=None)
        if user is None or len(self._by_user[user]) < waiting + 2:
            return None
        return next(reversed(self._by_user[user].values()))

    def weight(self, ticket: Ticket, now: float) -> float:
        """Return a ticket's weight: its age factor times its user's fair share per waiting ticket.

        Waiting batch tickets do not affect it.
        """
        if ticket.batch:
            return BATCH_WEIGHT
        age = (now - ticket.arrived) / self._ageing()
        share = self.crowd / (len(self._people) * self._people[ticket.user])
        return (1.0 + age * age) * share

    def weight_of(self, group: RequestGroup, now: float) -> float:
        """Sum the weights of a group's tickets."""
        if len(self._by_user) == 1 and not self._batch:
            ages = [now - ticket.arrived for ticket in group.tickets.values()]
            return len(ages) + sum([age * age for age in ages]) / self._ageing() ** 2
        return sum(self.weight(ticket, now) for ticket in group.tickets.values())

    def _ageing(self) -> float:
        return AGEING * min(1.0, CALM + (1.0 - CALM) * self.crowd / CROWD)

    def in_turn(self) -> Iterator[Ticket]:
        """Yield tickets in turns of users, each user's oldest first; the most recently served user comes last.

        Batch tickets come after all others. Tickets may leave during the iteration.
        """
        tickets = self._in_turn()
        if not self._batch:
            return tickets
        found = list(tickets)
        return iter([one for one in found if not one.batch] + [one for one in found if one.batch])

    def _in_turn(self) -> Iterator[Ticket]:
        users = sorted(self._by_user, key=lambda user: self._turn.get(user, 0))
        queues = [list(self._by_user[user].values()) for user in users]
        for row in zip_longest(*queues):
            yield from [ticket for ticket in row if ticket is not None]


def _move_before_later(tickets: dict[int, Ticket], ticket: Ticket) -> None:
    later = [number for number, one in tickets.items() if one.arrived > ticket.arrived]
    for number in later:
        tickets[number] = tickets.pop(number)
