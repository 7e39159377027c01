"""Exchanges of a replica with a common store: sequential, and tolerant of a store that is unavailable.

Operations that arrive during an exchange go with the next one, so that under load many requests share a round trip. A
member with an exchange of unknown outcome joins again and sends what it holds. A fence then rejects its earlier
operations, and the store reverts what it had counted of an unanswered exchange.
"""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress

import structlog

from ollama_router_core.coordination.interface import Scope
from ollama_router_core.coordination.news import News, moved, read_news, write_news
from ollama_router_core.coordination.replica import Replica, Seen
from ollama_router_core.fleet.summary import FORMAT, Summary, moved_summary, read_summary, write_summary
from ollama_router_server.coordination.exchange_batch import Batch, Question
from ollama_router_server.coordination.redis_store import Answer, Operation, RedisStore, StoreAway
from ollama_router_server.coordination.store_clock import StoreClock
from ollama_router_server.coordination.unsent import MOST_NEWS, Unsent
from ollama_router_server.system import Clock, random_bytes

__all__ = ["RedisExchange"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 0.5
"""Bounds of the pause between attempts to reach an unavailable store, in seconds."""
_LINE_IS_KNOWN = 0.02
"""Seconds after an answer without waiting members within which a slot may be reused without asking the store."""
_GIVEN_SOON = 0.002
"""Seconds that a release waits to go along with the next operation, if no member is known to wait."""

_log = structlog.get_logger("coordination")


class RedisExchange:
    """One member's exchanges with the store.

    Args:
        store: the common store.
        replica: what this member holds, and what it knows of the others.
        clock: this process's clock.
        lease: seconds after a member's last sign of life for which its holdings count.

    Attributes:
        clock: the store's clock.
        round_trips: the number of round trips so far.
        stirred: called when another member has freed a slot or changed a drain.
        remembered: the fleet summary that the store had when this member first joined.
    """

    def __init__(self, store: RedisStore, replica: Replica, clock: Clock, *, lease: float) -> None:
        self._store, self._replica, self._lease = store, replica, lease
        self.clock = StoreClock(clock)
        self._fence, self._heard = "", ""
        self._joining = False
        self._due = asyncio.Event()
        self._batch = Batch()
        self._unsent = Unsent()
        self._news_number = 0
        self._news: deque[News] = deque(maxlen=MOST_NEWS)
        self._away_since: float | None = None
        self._answered_at = float("-inf")
        self._tasks: list[asyncio.Task[None]] = []
        self._soon: asyncio.TimerHandle | None = None
        self.round_trips = 0
        self.stirred: Callable[[], None] = lambda: None
        self.remembered: Summary | None = None

    async def look(self) -> None:
        """Renew the lease and read the others' state; returns at once while the store is unavailable."""
        if not self._tasks:
            await self._begin()
        if not self._replica.away:
            looked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._batch.looks.append(looked)
            self._due.set()
            await looked

    async def leave(self) -> None:
        """Release what this member holds, and close the connections."""
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
        """Return the news received since the last call."""
        found = list(self._news)
        self._news.clear()
        return found

    # --- operations -------------------------------------------------------------------------------------------------

    def send(self, *operation: str | float) -> None:
        """Queue an operation; dropped while the store is unavailable, since joining sends the current holdings."""
        if not self._replica.away or self._joining:
            self._batch.operations.append(operation)
            self._due.set()

    def give(self, *operation: str | float) -> None:
        """Queue a release: sent at once if a member is known to wait, else with the next operation or after 2 ms."""
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
        """Withdraw an unsent release; return False if there is none, or if another member may wait for it."""
        known = self.clock.now() - self._answered_at <= _LINE_IS_KNOWN and not self._replica.somebody_waits
        return known and not self._joining and not self._replica.alone and self._batch.take_again(operation)

    def give_before(self, *operation: str | float) -> None:
        """Send pending releases before the next operation."""
        self._batch.give_before(operation)

    def keep(self, *operation: str | float) -> None:
        """Queue an operation, or keep it until the store is available again."""
        if self._replica.away:
            self._unsent.add(operation)
        else:
            self.send(*operation)

    def tell(self, news: News) -> None:
        """Send news to the others, or keep them until the store is available; beyond 1024, the oldest are dropped."""
        self._news_number += 1  # by it the store recognizes news from an unanswered exchange
        self.keep("tell", base64.b64encode(write_news(moved(news, self.clock.offset))).decode(), self._news_number)

    def remember(self, summary: Summary) -> None:
        """Store a fleet summary for routers that start later; dropped while the store is unavailable."""
        if not self._replica.away:
            text = base64.b64encode(write_summary(moved_summary(summary, self.clock.offset))).decode()
            self.send("remember", FORMAT, text)

    def ask(self, question: Question) -> None:
        """Have the store decide a question; without the store, decide it locally."""
        if self._replica.away:
            asyncio.get_running_loop().call_soon(question.alone)
        else:
            self._batch.operations.append(question)
            self._due.set()

    def wait(self, since: float | None, heads: Mapping[str, float]) -> None:
        """Send since when requests wait, if that has changed."""
        replica = self._replica
        before, replica.heads = replica.heads, dict(heads)
        if replica.waits(since):
            self.send("wait", self.clock.milliseconds(since))
        for server in {**before, **heads}:
            if before.get(server) != heads.get(server):
                self.send("head", server, self.clock.milliseconds(heads.get(server)))

    # --- exchanges --------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        with suppress(StoreAway):
            await self._join()
        if self._replica.away:
            self._away_since = self.clock.now()
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
            except Exception:  # noqa: BLE001 - requests continue, whatever the store answers
                _log.exception("coordination_failed")
                self._go_alone("it does not answer as it should")

    async def _listen(self) -> None:
        while True:
            with suppress(StoreAway):
                async for _ in self._store.stirrings():
                    self.stirred()
            await asyncio.sleep(_LONGEST_PAUSE)

    async def _exchange(self) -> None:
        batch, self._batch = self._batch, Batch()
        sent = self.clock.now()
        try:
            answer = await self._store.exchange(self._fence, batch.close(), look=bool(batch.looks), heard=self._heard)
        except StoreAway as error:
            self._go_alone(str(error), lost=batch)
            return
        except BaseException as error:
            self._go_alone("it does not answer as it should", lost=batch, tell=isinstance(error, Exception))
            raise
        self.round_trips += 1
        if not answer.ok:  # this member's lease has expired, or the store lost it: nothing was carried out
            await self._join_again(batch)
            return
        self._note(answer, sent)
        batch.answer(answer.body["results"] or ())
        self._see(answer)
        batch.look()

    async def _join_again(self, batch: Batch) -> None:
        """Join, then resend a batch that was not carried out."""
        self._replica.go_alone(leases_end=self.clock.now() + self._lease)
        self._batch = Batch([*batch.operations, *self._batch.operations], [*batch.looks, *self._batch.looks])
        try:
            await self._join()
        except StoreAway as error:
            self._go_alone(str(error))

    async def _join(self) -> None:
        """Become a member; send this member's state, then its changes.

        Raises:
            StoreAway: the store is still unavailable.
        """
        self._batch.leave_to_joining()
        self._joining, sent = True, self.clock.now()
        kept, self._unsent = self._unsent, Unsent()
        kept.forget(self.clock.second(sent))
        try:
            answer = await self._store.join([*self._standing(), *kept.operations()], self._heard)
        except BaseException:
            self._keep_also(kept)
            raise
        finally:
            self._joining = False
        self.round_trips += 1
        self._fence = answer.body["fence"]
        self._note(answer, sent)
        self._replica.away = False
        for operation in self._unsent.operations():
            self.send(*operation)
        self._unsent = Unsent()
        self._see(answer)
        self._due.set()
        self._log_back()

    def _standing(self) -> list[Operation]:
        """Return the operations that a member sends when it joins: its holdings, and since when requests wait."""
        replica = self._replica
        expects = [("expect", replica.members)] if replica.acquainted else []
        held = [("take", scope, name, count) for scope, of in replica.own.items() for name, count in of.items()]
        heads = [("head", server, self.clock.milliseconds(since)) for server, since in replica.heads.items()]
        return [*expects, *held, ("wait", self.clock.milliseconds(replica.since)), *heads]

    def _keep_also(self, before: Unsent) -> None:
        """Keep the operations that were not accepted, followed by those added since."""
        for operation in self._unsent.operations():
            before.add(operation)
        self._unsent = before

    def _note(self, answer: Answer, sent: float) -> None:
        """Learn the store's clock, and whether it knows all members; if not, decide from what was known before."""
        self.clock.learn(answer.body["now"], sent, anew=self._replica.away)
        if answer.body["settling"]:
            self._replica.go_alone(leases_end=self.clock.now() + self._lease)
        self._replica.settling = answer.body["settling"]

    def _log_back(self) -> None:
        if self._away_since is not None:
            _log.info("coordination_back", away_seconds=round(self.clock.now() - self._away_since, 1))
            self._away_since = None
            self.stirred()

    def _see(self, answer: Answer) -> None:
        body, self._answered_at = answer.body, self.clock.now()
        if "elsewhere" not in body:
            self._replica.others_wait = body.get("others_wait", False)
            return
        elsewhere = {scope: dict(body["elsewhere"].get(scope) or {}) for scope in Scope}
        waiting = {name: self.clock.moment(since) for name, since in dict(body["waiting"] or {}).items()}
        drains = dict(body["drains"] or {})
        self._replica.saw(
            Seen(members=body["members"], rank=body["rank"], elsewhere=elsewhere, waiting=waiting, drains=drains)
        )
        if body.get("summary"):
            found = read_summary(base64.b64decode(body["summary"]))
            self.remembered = None if found is None else moved_summary(found, -self.clock.offset)
        self._heard = body["last"]
        for text in body["news"] or ():
            news = read_news(base64.b64decode(text))
            if news is not None:
                self._news.append(moved(news, -self.clock.offset))

    def _go_alone(self, why: str, *, lost: Batch | None = None, tell: bool = True) -> None:
        batches = [lost or Batch(), self._batch]
        self._batch = Batch()
        self._replica.go_alone(leases_end=self.clock.now() + self._lease)
        was_away, self._replica.away = self._replica.away, True
        for batch in batches:
            batch.undo(self._unsent.add)
        if tell and not was_away:
            self._away_since = self.clock.now()
            _log.warning("coordination_away", detail=why, share_of=self._replica.members)
