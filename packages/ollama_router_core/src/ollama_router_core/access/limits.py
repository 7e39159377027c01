"""How much is left of a user's limits: requests and tokens per minute, concurrent requests, tokens per day and month.

Two clocks are arguments: `now` is monotonic (seconds from any start), `wall` is seconds since 1970 and determines the
day and the month (UTC).

Tokens are charged by an estimate once a request's body is known, and settled when its true use is known. A request is
admitted as long as anything is left of the day and the month, so those limits are exceeded by at most what one request
uses. Of a minute its estimate has to be left, so that limit is exceeded by what requests use beyond their estimates.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from msgspec import Struct

from ollama_router_core.access.grants import Grants
from ollama_router_core.errors import LimitExceeded, amount

__all__ = [
    "BYTES_PER_TOKEN",
    "NOWHERE",
    "USUAL_ANSWER",
    "Allowance",
    "Elsewhere",
    "LimitName",
    "Meter",
    "Standing",
    "TokenSpan",
    "allowances",
    "check_days",
    "check_minute",
    "day_of",
    "estimate_tokens",
    "first_day_of_month",
    "has_limits",
    "limit_headers",
    "nearest_end",
    "room_for",
    "standing_of",
]

DAY = 86_400
_MINUTE = 60.0
_LONGEST_ANSWER = 1_000_000  # tokens charged at most, whatever limit the client writes

LimitName = Literal[
    "requests_per_minute", "concurrent_requests", "tokens_per_minute", "tokens_per_day", "tokens_per_month"
]
"""The limits of a user, as grants name them."""
TokenSpan = Literal["day", "month"]

BYTES_PER_TOKEN: Final = 4
"""Of text, about."""

USUAL_ANSWER: Final = 256
"""Tokens charged in advance for an answer that the client does not limit."""


def day_of(wall: float) -> int:
    """Return whole days since 1970-01-01 (UTC)."""
    return int(wall // DAY)


def first_day_of_month(day: int) -> int:
    """Return the first day of a day's month, both in days since 1970-01-01."""
    return day - (_date(day).day - 1)


def _date(day: int) -> datetime:
    return datetime.fromtimestamp(day * DAY, UTC)


def has_limits(grants: Grants) -> bool:
    """Tell whether anything is counted for a user with these grants."""
    return (
        grants.requests_per_minute is not None
        or grants.concurrent_requests is not None
        or grants.tokens_per_minute is not None
        or grants.tokens_per_day is not None
        or grants.tokens_per_month is not None
    )


def estimate_tokens(prompt_tokens: int, max_tokens: int | None) -> int:
    """Estimate the tokens of a request on admission: those of its prompt, plus the longest answer it allows.

    `max_tokens` is the client's own limit; None or a negative number is none, and a million is the most that is
    charged. The counted tokens replace it later.
    """
    answer = USUAL_ANSWER if max_tokens is None or max_tokens < 0 else min(max_tokens, _LONGEST_ANSWER)
    return prompt_tokens + answer + 1


class Allowance(Struct, frozen=True, kw_only=True):
    """What is left of one limit; `reset` is the seconds until more is left (all of it, for tokens)."""

    limit: int
    remaining: int
    reset: float


class Standing(Struct, frozen=True, kw_only=True):
    """What is left of every limit, None where there is none; `tokens` is the tightest of them."""

    requests: Allowance | None = None
    tokens: Allowance | None = None


class Elsewhere(Struct, frozen=True, kw_only=True):
    """What other processes have admitted for a user, as known here.

    `requests` are those of the last minute: a time on this process's clock, and how many were admitted around it.
    """

    in_flight: int = 0
    requests: tuple[tuple[float, int], ...] = ()


NOWHERE = Elsewhere()


class Meter:
    """What one user has used. Mutable, and without a clock.

    Use: `admit` a request, later `release` it; `check_tokens` and `take` tokens for a day, later take the difference to
    the true use.
    """

    __slots__ = ("_moments", "in_flight", "tokens")

    def __init__(self) -> None:
        self._moments: deque[float] = deque()
        self.in_flight = 0
        self.tokens: dict[int, int] = {}
        """Tokens by day, including those of requests in flight."""

    def admit(self, grants: Grants, *, now: float, wall: float, elsewhere: Elsewhere = NOWHERE) -> Standing:
        """Admit one request and count it.

        At most `requests_per_minute` are admitted in any 60 seconds, those `elsewhere` included; rejected requests are
        not counted.

        Raises:
            LimitExceeded: a limit is used up; `retry_after` says for how long.
        """
        self._forget(now)
        self.check_tokens(grants, wall=wall)
        running = self.in_flight + elsewhere.in_flight
        if grants.concurrent_requests is not None and running >= grants.concurrent_requests:
            raise LimitExceeded(
                f"this user's limit of {grants.concurrent_requests} concurrent requests is reached",
                retry_after=1.0,
            )
        self._check_requests(grants, now, elsewhere)
        self.in_flight += 1
        if grants.requests_per_minute is not None:
            self._moments.append(now)
        return standing_of(self, grants, now=now, wall=wall, elsewhere=elsewhere)

    def release(self) -> None:
        """Note that an admitted request has ended."""
        self.in_flight -= 1

    def take(self, day: int, tokens: int) -> None:
        """Charge tokens to a day; a negative number refunds them."""
        self.tokens[day] = max(0, self.tokens.get(day, 0) + tokens)

    def check_tokens(self, grants: Grants, *, wall: float) -> None:
        """Let a request go on that is in flight already.

        Raises:
            LimitExceeded: no tokens are left.
        """
        check_days(self.tokens, grants, wall=wall)

    def recall(self, moment: float) -> None:
        """Count a request that was admitted earlier, before this meter was made; oldest first."""
        self._moments.append(moment)

    def recent(self, now: float, elsewhere: Elsewhere = NOWHERE) -> tuple[float, ...]:
        """Return the times of the last 60 seconds at which requests were admitted, oldest first."""
        self._forget(now)
        if not elsewhere.requests:
            return tuple(self._moments)
        others = [moment for moment, count in elsewhere.requests if moment > now - _MINUTE for _ in range(count)]
        return tuple(sorted([*self._moments, *others]))

    def _forget(self, now: float) -> None:
        while self._moments and self._moments[0] <= now - _MINUTE:
            self._moments.popleft()

    def _check_requests(self, grants: Grants, now: float, elsewhere: Elsewhere) -> None:
        limit = grants.requests_per_minute
        if limit is None:
            return
        moments = self.recent(now, elsewhere)
        if len(moments) < limit:
            return
        wait = _MINUTE if limit == 0 else moments[-limit] + _MINUTE - now
        raise LimitExceeded(f"this user's limit of {amount(limit, 'request')} per minute is reached", retry_after=wait)


def check_days(tokens: Mapping[int, int], grants: Grants, *, wall: float) -> None:
    """Check that something is left of the day and the month; `tokens` are those by day.

    Raises:
        LimitExceeded: nothing is.
    """
    for name, allowance in _token_allowances(tokens, grants, wall).items():
        if allowance.remaining <= 0:
            raise LimitExceeded(
                f"this user's limit of {amount(allowance.limit, 'token')} per {name} is used up",
                retry_after=allowance.reset,
            )


def room_for(tokens: int, *, used: int, limit: int) -> bool:
    """Say whether so many tokens fit into what a minute has left; an empty one has room for a request of any size."""
    return used + tokens <= limit or (limit > 0 and used <= 0)


def check_minute(limit: int | None, spent: Sequence[tuple[float, int]], *, now: float, tokens: int) -> None:
    """Check that so many tokens are left of the last 60 seconds; `spent` is what was counted when, oldest first.

    Raises:
        LimitExceeded: they are not; `retry_after` says when they will be.
    """
    used = sum(count for _, count in spent)
    if limit is None or room_for(tokens, used=used, limit=limit):
        return
    wait = _MINUTE
    for moment, count in spent:
        used -= count
        if room_for(tokens, used=used, limit=limit):
            wait = max(0.0, moment + _MINUTE - now)
            break
    raise LimitExceeded(f"this user's limit of {amount(limit, 'token')} per minute is reached", retry_after=wait)


def standing_of(
    meter: Meter,
    grants: Grants,
    *,
    now: float,
    wall: float,
    elsewhere: Elsewhere = NOWHERE,
    spent: Sequence[tuple[float, int]] = (),
) -> Standing:
    """Return what is left now; `now` is seconds of the meter's clock, `wall` seconds since 1970 (UTC).

    `spent` are the tokens of the last minute: when, and how many, oldest first.
    """
    tokens = list(_token_allowances(meter.tokens, grants, wall).values())
    if (limit := grants.tokens_per_minute) is not None:
        tokens.append(_minute_allowance(limit, spent, now))
    tightest = min(tokens, key=lambda allowance: allowance.remaining, default=None)
    return Standing(requests=_request_allowance(meter, grants, now, elsewhere), tokens=tightest)


def allowances(
    meter: Meter,
    grants: Grants,
    *,
    now: float,
    wall: float,
    elsewhere: Elsewhere = NOWHERE,
    spent: Sequence[tuple[float, int]] = (),
) -> dict[LimitName, Allowance]:
    """Return what is left of each limit that there is; the arguments are those of `standing_of`.

    One of requests at once says 0 seconds until more is left: that is when one ends.
    """
    found: dict[LimitName, Allowance] = {}
    if (requests := _request_allowance(meter, grants, now, elsewhere)) is not None:
        found["requests_per_minute"] = requests
    if (limit := grants.concurrent_requests) is not None:
        running = meter.in_flight + elsewhere.in_flight
        found["concurrent_requests"] = Allowance(limit=limit, remaining=max(0, limit - running), reset=0.0)
    if (limit := grants.tokens_per_minute) is not None:
        found["tokens_per_minute"] = _minute_allowance(limit, spent, now)
    of_days = _token_allowances(meter.tokens, grants, wall)
    if "day" in of_days:
        found["tokens_per_day"] = of_days["day"]
    if "month" in of_days:
        found["tokens_per_month"] = of_days["month"]
    return found


def _minute_allowance(limit: int, spent: Sequence[tuple[float, int]], now: float) -> Allowance:
    reset = spent[-1][0] + _MINUTE - now if spent else 0.0
    return Allowance(limit=limit, remaining=max(0, limit - sum(count for _, count in spent)), reset=reset)


def _request_allowance(meter: Meter, grants: Grants, now: float, elsewhere: Elsewhere) -> Allowance | None:
    limit = grants.requests_per_minute
    if limit is None:
        return None
    moments = meter.recent(now, elsewhere)
    # A lowered limit may be exceeded by far: the end of the oldest request then does not make room yet.
    next_free = moments[-limit] if len(moments) >= limit > 0 else next(iter(moments), now - _MINUTE)
    reset = next_free + _MINUTE - now
    return Allowance(limit=limit, remaining=max(0, limit - len(moments)), reset=reset)


def nearest_end(tokens: Mapping[int, int], grants: Grants, *, wall: float) -> tuple[TokenSpan, Allowance] | None:
    """Return the limit of tokens of which the smallest part is left, None without one; `tokens` are those by day."""
    limits = _token_allowances(tokens, grants, wall).items()
    return min(limits, key=lambda one: one[1].remaining / (one[1].limit or 1), default=None)


def _token_allowances(tokens: Mapping[int, int], grants: Grants, wall: float) -> dict[TokenSpan, Allowance]:
    if grants.tokens_per_day is None and grants.tokens_per_month is None:
        return {}
    today = day_of(wall)
    first = first_day_of_month(today)
    following = _date(first) + timedelta(days=31)
    month_end = first_day_of_month(day_of(following.timestamp()))
    allowances: dict[TokenSpan, Allowance] = {}
    if grants.tokens_per_day is not None:
        allowances["day"] = _allowance(grants.tokens_per_day, tokens.get(today, 0), today + 1, wall)
    if grants.tokens_per_month is not None:
        used = sum(count for day, count in tokens.items() if first <= day < month_end)
        allowances["month"] = _allowance(grants.tokens_per_month, used, month_end, wall)
    return allowances


def _allowance(limit: int, used: int, ends: int, wall: float) -> Allowance:
    return Allowance(limit=limit, remaining=max(0, limit - used), reset=ends * DAY - wall)


def limit_headers(standing: Standing) -> tuple[tuple[str, str], ...]:
    """Return the `x-ratelimit-*` fields in the form that OpenAI's clients know; resets read `12s`."""
    fields: list[tuple[str, str]] = []
    for name, allowance in (("requests", standing.requests), ("tokens", standing.tokens)):
        if allowance is not None:
            fields += [
                (f"x-ratelimit-limit-{name}", str(allowance.limit)),
                (f"x-ratelimit-remaining-{name}", str(allowance.remaining)),
                (f"x-ratelimit-reset-{name}", f"{max(0, -int(-allowance.reset // 1))}s"),
            ]
    return tuple(fields)
