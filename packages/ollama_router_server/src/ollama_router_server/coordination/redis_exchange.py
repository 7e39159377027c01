"""A replica that is exchanged with a common store: in order, one exchange after the other, with or without the store.

What happens while an exchange is under way goes with the next one, so that under load many requests share a round trip.
A member that does not know what became of an exchange joins anew, and tells what it holds; a fence keeps what it sent
before from being carried out after that, and what the store counted of it without an answer is taken back.
"""

from __future__ import annotations

import asyncio
import base64
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog
from msgspec import Struct, field

from ollama_router_core.coordination import News, Replica, Scope, Seen, moved, read_news, write_news
from ollama_router_core.fleet.summary import FORMAT, Summary, moved_summary, read_summary, write_summary
from ollama_router_server.coordination.redis_store import Answer, Operation, RedisStore, StoreAway
from ollama_router_server.coordination.unsent import MOST_NEWS, Unsent
from ollama_router_server.system import Clock, random_bytes

__all__ = ["Asked", "RedisExchange", "settle"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 0.5
"""Seconds between attempts to reach a store that is away."""
_UNLIMITED = -1
_LINE_IS_KNOWN = 0.02
"""Seconds after an answer for which nobody waits who did not then: within this a slot may go on without asking."""
_OFFSET_SECONDS = 10.0
"""Seconds for which the difference of two clocks is believed as the quickest exchange told it."""
_NEVER = 10**15
"""A moment in milliseconds since 1970 before which all others are."""
_GIVEN_SOON = 0.002
"""Seconds within which what is given back goes along with the next question, while nobody waits for it."""

_log = structlog.get_logger("coordination")


class Asked(Struct, eq=False):
    """An operation whose result somebody waits for; `alone` decides without the store."""

    operation: Operation
    answered: Callable[[Any], None]
    alone: Callable[[], None]


class _Batch(Struct, eq=False):
    """What goes with the next exchange; `given` goes last, and may be taken again until then."""

    operations: list[Operation | Asked] = []
    given: Counter[Operation] = field(default_factory=Counter)
    looks: list[asyncio.Future[None]] = []


class RedisExchange:
    """One member's exchange with the store.

    Args:
        store: where to.
        replica: what this member holds, and what it knows of the others.
        clock: of this process.
        lease: seconds after its last sign of life for which what a member holds counts.

    Attributes:
        offset: seconds of the store's clock less those of this process's.
        round_trips: made so far.
        stirred: called when another member freed a slot or changed a drain.
        remembered: what was kept of the fleet as this member first joined.
    """

    def __init__(self, store: RedisStore, replica: Replica, clock: Clock, *, lease: float) -> None:
        self._store, self._replica, self._clock, self._lease = store, replica, clock, lease
        self._fence, self._heard = "", ""
        self._joining = False
        self._due = asyncio.Event()
        self._batch = _Batch()
        self._unsent = Unsent()
        self._told = 0
        self._news: deque[News] = deque(maxlen=MOST_NEWS)
        self._away_since: float | None = None
        self._answered_at = float("-inf")
        self._tasks: list[asyncio.Task[None]] = []
        self._soon: asyncio.TimerHandle | None = None
        self.offset = 0.0
        self._offset_within, self._offset_until = float("inf"), float("-inf")
        self.round_trips = 0
        self.stirred: Callable[[], None] = lambda: None
        self.remembered: Summary | None = None

    async def look(self) -> None:
        """Renew the lease and see what the others do; returns at once while the store is away."""
        if not self._tasks:
            await self._begin()
        if not self._replica.away:
            looked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._batch.looks.append(looked)
            self._due.set()
            await looked

    async def leave(self) -> None:
        """Give back what this member holds, and close the connections."""
        for task in self._tasks:
            task.cancel()
        if self._soon is not None:
            self._soon.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._go_alone("this member leaves", tell=False)
        if self._fence:
            with suppress(StoreAway):
                await self._store.exchange(self._fence, [("leave",)], look=False, heard="")
        await self._store.aclose()

    def news(self) -> list[News]:
        """Return what the others told since the last call."""
        found = list(self._news)
        self._news.clear()
        return found

    # --- operations -------------------------------------------------------------------------------------------------

    def send(self, *operation: str | float) -> None:
        """Have something carried out; while the store is away nothing is: joining tells what is held then."""
        if not self._replica.away or self._joining:
            self._batch.operations.append(operation)
            self._due.set()

    def give(self, *operation: str | float) -> None:
        """Have something given back: at once where somebody is known to wait, else with what comes next, or soon."""
        if self._replica.somebody_waits:
            self.send(*operation)
        elif not self._replica.away or self._joining:
            self._batch.given[operation] += 1
            if self._soon is None:
                self._soon = asyncio.get_running_loop().call_later(_GIVEN_SOON, self._give_now)

    def _give_now(self) -> None:
        self._soon = None
        if self._batch.operations or self._batch.given:
            self._due.set()

    def take_again(self, *operation: str | float) -> bool:
        """Withdraw what was given back and not told yet; False where nothing was, or somebody may wait for it."""
        given = self._batch.given
        known = self._clock.monotonic() - self._answered_at <= _LINE_IS_KNOWN and not self._replica.somebody_waits
        if not given[operation] or self._joining or self._replica.alone or not known:
            return False
        given[operation] -= 1
        return True

    def give_before(self, *operation: str | float) -> None:
        """Have what was given back told before what is asked next."""
        self._batch.operations += [operation] * self._batch.given.pop(operation, 0)

    def keep(self, *operation: str | float) -> None:
        """Have something carried out now, or when the store is back."""
        if self._replica.away:
            self._unsent.add(operation)
        else:
            self.send(*operation)

    def tell(self, news: News) -> None:
        """Tell the others now, or when the store is back; of too many, the oldest are lost."""
        self._told += 1  # by it the store knows what it was told before, in an exchange without an answer
        self.keep("tell", base64.b64encode(write_news(moved(news, self.offset))).decode(), self._told)

    def remember(self, summary: Summary) -> None:
        """Keep a summary for those that come; while the store is away nothing is kept."""
        if not self._replica.away:
            text = base64.b64encode(write_summary(moved_summary(summary, self.offset))).decode()
            self.send("remember", FORMAT, text)

    def ask(self, asked: Asked) -> None:
        """Have something decided by the store, or without it."""
        if self._replica.away:
            asyncio.get_running_loop().call_soon(asked.alone)
        else:
            self._batch.operations.append(asked)
            self._due.set()

    def wait(self, since: float | None, heads: Mapping[str, float]) -> None:
        """Tell since when requests wait, where it is not what was told before."""
        replica = self._replica
        before, replica.heads = replica.heads, dict(heads)
        if replica.waits(since):
            self.send("wait", self._moment(since))
        for server in {**before, **heads}:
            if before.get(server) != heads.get(server):
                self.send("head", server, self._moment(heads.get(server)))

    def _line(self) -> list[Operation]:
        """Return what `wait` has told."""
        replica = self._replica
        heads = [("head", server, self._moment(since)) for server, since in replica.heads.items()]
        return [("wait", self._moment(replica.since)), *heads]

    def _moment(self, at: float | None) -> int:
        """Write a moment of the line as the script reads it."""
        return _UNLIMITED if at is None else int(min((at + self.offset) * 1000, _NEVER))

    def turn(self, arrived: float | None) -> tuple[int, ...]:
        """Write when the request arrived for which a slot is claimed; nothing for one that goes before all others."""
        return () if arrived is None else (self._moment(arrived),)

    # --- exchanges --------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        with suppress(StoreAway):
            await self._join()
        if self._replica.away:
            self._away_since = self._clock.monotonic()
            _log.warning("coordination_away", detail="not reached at start", share_of=self._replica.members)
        self._tasks = [
            asyncio.create_task(self._run(), name="coordination"),
            asyncio.create_task(self._listen(), name="coordination-listener"),
        ]

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            if self._replica.away:
                await asyncio.sleep(pause * (0.5 + random_bytes(1)[0] / 256))
                pause = min(2 * pause, _LONGEST_PAUSE)
                with suppress(StoreAway):
                    await self._join()
                continue
            pause = _FIRST_PAUSE
            await self._due.wait()
            self._due.clear()
            try:
                await self._exchange()
            except Exception:  # noqa: BLE001 - whatever the store says, requests go on
                _log.exception("coordination_failed")
                self._go_alone("it does not answer as it should")

    async def _listen(self) -> None:
        while True:
            with suppress(StoreAway):
                async for _ in self._store.stirrings():
                    self.stirred()
            await asyncio.sleep(_LONGEST_PAUSE)

    async def _exchange(self) -> None:
        batch, self._batch = self._batch, _Batch()
        batch.operations += batch.given.elements()
        operations = [one.operation if isinstance(one, Asked) else one for one in batch.operations]
        sent = self._clock.monotonic()
        try:
            answer = await self._store.exchange(self._fence, operations, look=bool(batch.looks), heard=self._heard)
        except StoreAway as error:
            self._go_alone(str(error), lost=batch)
            return
        except BaseException as error:
            self._go_alone("it does not answer as it should", lost=batch, tell=isinstance(error, Exception))
            raise
        self.round_trips += 1
        if not answer.ok:  # this member's lease has expired, or the store forgot it: nothing was done
            await self._join_again(batch)
            return
        self._learn_clock(answer, sent)
        self._settle(settling=answer.body["settling"])
        for one, result in zip(batch.operations, answer.body["results"] or (), strict=True):
            if isinstance(one, Asked):
                one.answered(result)
        self._see(answer)
        for looked in batch.looks:
            settle(looked, None)

    async def _join_again(self, batch: _Batch) -> None:
        """Nothing of a batch was done: join, and have it done then."""
        self._replica.go_alone(leases_end=self._clock.monotonic() + self._lease)
        operations, looks = [*batch.operations, *self._batch.operations], [*batch.looks, *self._batch.looks]
        self._batch = _Batch(operations, looks=looks)
        try:
            await self._join()
        except StoreAway as error:
            self._go_alone(str(error))

    def _undo(self, batch: _Batch) -> None:
        """Answer those who wait for a batch of which nobody knows what became; joining sends the rest."""
        for one in batch.operations:
            if isinstance(one, Asked):
                one.alone()
            else:
                self._unsent.add(one)
        for looked in batch.looks:
            settle(looked, None)

    async def _join(self) -> None:
        """Become a member; what is held here is told anew, and what happens meanwhile after that.

        Raises:
            StoreAway: the store is still away.
        """
        own = self._replica.own
        held = [("take", scope, name, count) for scope in own for name, count in own[scope].items()]
        expects = [("expect", self._replica.members)] if self._replica.acquainted else []
        self._batch.operations = [one for one in self._batch.operations if not _is_told_by_joining(one)]
        self._batch.given.clear()
        self._joining, sent = True, self._clock.monotonic()
        kept, self._unsent = self._unsent, Unsent()
        kept.forget(int(sent + self.offset))
        try:
            answer = await self._store.join([*expects, *held, *self._line(), *kept.operations()], self._heard)
        except BaseException:
            self._keep_also(kept)
            raise
        finally:
            self._joining = False
        self.round_trips += 1
        self._fence = answer.body["fence"]
        self._learn_clock(answer, sent)
        self._settle(settling=answer.body["settling"])
        self._replica.away = False
        for operation in self._unsent.operations():
            self.send(*operation)
        self._unsent = Unsent()
        self._see(answer)
        self._due.set()
        if self._away_since is not None:
            _log.info("coordination_back", away_seconds=round(self._clock.monotonic() - self._away_since, 1))
            self._away_since = None
            self.stirred()

    def _keep_also(self, before: Unsent) -> None:
        """Keep what was not taken, then what came meanwhile."""
        for operation in self._unsent.operations():
            before.add(operation)
        self._unsent = before

    def _settle(self, *, settling: bool) -> None:
        """Note whether the store knows of all members; where it does not any more, decide by what was known before."""
        if settling:
            self._replica.go_alone(leases_end=self._clock.monotonic() + self._lease)
        self._replica.settling = settling

    def _see(self, answer: Answer) -> None:
        body, self._answered_at = answer.body, self._clock.monotonic()
        if "elsewhere" not in body:
            self._replica.others_wait = body.get("others_wait", False)
            return
        elsewhere = {scope: dict(body["elsewhere"].get(scope) or {}) for scope in Scope}
        waiting = {name: since / 1000 - self.offset for name, since in dict(body["waiting"] or {}).items()}
        drains = dict(body["drains"] or {})
        self._replica.saw(
            Seen(members=body["members"], rank=body["rank"], elsewhere=elsewhere, waiting=waiting, drains=drains)
        )
        if body.get("summary"):
            found = read_summary(base64.b64decode(body["summary"]))
            self.remembered = None if found is None else moved_summary(found, -self.offset)
        self._heard = body["last"]
        for text in body["news"] or ():
            news = read_news(base64.b64decode(text))
            if news is not None:
                self._news.append(moved(news, -self.offset))

    def _learn_clock(self, answer: Answer, sent: float) -> None:
        """Learn the group's clock, the store's: read between `sent` and now, it says most where that is short."""
        now = self._clock.monotonic()
        if now - sent <= self._offset_within or now >= self._offset_until or self._replica.away:
            self.offset = answer.body["now"] / 1000 - (sent + now) / 2
            self._offset_within, self._offset_until = now - sent, now + _OFFSET_SECONDS

    def _go_alone(self, why: str, *, lost: _Batch | None = None, tell: bool = True) -> None:
        batches = [lost or _Batch(), self._batch]
        self._batch = _Batch()
        self._replica.go_alone(leases_end=self._clock.monotonic() + self._lease)
        was_away, self._replica.away = self._replica.away, True
        for batch in batches:
            self._undo(batch)
        if tell and not was_away:
            self._away_since = self._clock.monotonic()
            _log.warning("coordination_away", detail=why, share_of=self._replica.members)


def _is_told_by_joining(operation: Operation | Asked) -> bool:
    return not isinstance(operation, Asked) and operation[0] in {"take", "give", "wait", "head"}


def settle(future: asyncio.Future[Any], result: Any, *, undo: Callable[[], None] = lambda: None) -> None:
    """Set a result that somebody may not wait for any more."""
    if not future.done():
        future.set_result(result)
    elif result:
        undo()
