"""A user's limits: requests and tokens per minute, concurrent requests, tokens per day and month.

Two clocks are arguments: `now` is monotonic (seconds from any start), `wall` is seconds since 1970 and determines the
day and the month (UTC).

Tokens are charged as an estimate once a request's body is known, and settled when its use is known. A request is
admitted while any tokens of the day and the month remain, so those limits are exceeded by at most one request's use.
The minute must have room for the estimate, so that limit is exceeded by the use beyond estimates.
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
_LONGEST_ANSWER = 1_000_000  # maximum tokens charged, whatever limit the client sets

LimitName = Literal[
    "requests_per_minute", "concurrent_requests", "tokens_per_minute", "tokens_per_day", "tokens_per_month"
]
"""The limits of a user, by their names in grants."""
TokenSpan = Literal["day", "month"]

BYTES_PER_TOKEN: Final = 4
"""Approximate bytes of text per token."""

USUAL_ANSWER: Final = 256
"""Tokens charged in advance for a response without a limit set by the client."""


def day_of(wall: float) -> int:
    """Return the day as whole days since 1970-01-01 (UTC)."""
    return int(wall // DAY)


def first_day_of_month(day: int) -> int:
    """Return the first day of a day's month; both are days since 1970-01-01."""
    return day - (_date(day).day - 1)


def _date(day: int) -> datetime:
    return datetime.fromtimestamp(day * DAY, UTC)


def has_limits(grants: Grants) -> bool:
    """Return whether these grants set any limit."""
    return (
        grants.requests_per_minute is not None
        or grants.concurrent_requests is not None
        or grants.tokens_per_minute is not None
        or grants.tokens_per_day is not None
        or grants.tokens_per_month is not None
    )


def estimate_tokens(prompt_tokens: int, max_tokens: int | None) -> int:
    """Estimate the tokens of a request on admission: its prompt plus the longest response it allows.

    `max_tokens` is the client's limit, charged up to a million; None or a negative number is no limit. The counted
    tokens later replace the estimate.
    """
    answer = USUAL_ANSWER if max_tokens is None or max_tokens < 0 else min(max_tokens, _LONGEST_ANSWER)
    return prompt_tokens + answer + 1


class Allowance(Struct, frozen=True, kw_only=True):
    """What remains of one limit; `reset` is the seconds until more remains (the whole limit, for tokens)."""

    limit: int
    remaining: int
    reset: float


class Standing(Struct, frozen=True, kw_only=True):
    """What remains of the limits, None without one; `tokens` is the limit of tokens with the least left."""

    requests: Allowance | None = None
    tokens: Allowance | None = None


class Elsewhere(Struct, frozen=True, kw_only=True):
    """A user's admissions in other processes, as known to this one.

    `requests` are those of the last minute: pairs of a time on this process's clock and the number admitted then.
    """

    in_flight: int = 0
    requests: tuple[tuple[float, int], ...] = ()


NOWHERE = Elsewhere()


class Meter:
    """One user's use; mutable, without a clock of its own.

    Usage: `admit` a request, later `release` it; `check_tokens` and `take` estimated tokens of a day, later take the
    difference from the counted tokens.
    """

    __slots__ = ("_moments", "in_flight", "tokens")

    def __init__(self) -> None:
        self._moments: deque[float] = deque()
        self.in_flight = 0
        self.tokens: dict[int, int] = {}
        """Tokens by day, including those of requests in flight."""

    def admit(self, grants: Grants, *, now: float, wall: float, elsewhere: Elsewhere = NOWHERE) -> Standing:
        """Admit and count one request.

        At most `requests_per_minute` are admitted in any 60 seconds, including those `elsewhere`; rejected requests do
        not count.

        Raises:
            LimitExceeded: a limit is reached; `retry_after` is the seconds until it has room.
        """
        self._forget(now)
        self.check_tokens(grants, wall=wall)
        running = self.in_flight + elsewhere.in_flight
        if grants.concurrent_requests is not None and running >= grants.concurrent_requests:
            raise LimitExceeded(
                f"this user's limit of {grants.concurrent_requests} concurrent requests is reached", retry_after=1.0
            )
        self._check_requests(grants, now, elsewhere)
        self.in_flight += 1
        if grants.requests_per_minute is not None:
            self._moments.append(now)
        return standing_of(self, grants, now=now, wall=wall, elsewhere=elsewhere)

    def release(self) -> None:
        """Count the end of an admitted request."""
        self.in_flight -= 1

    def take(self, day: int, tokens: int) -> None:
        """Charge tokens to a day; a negative number refunds them."""
        self.tokens[day] = max(0, self.tokens.get(day, 0) + tokens)

    def check_tokens(self, grants: Grants, *, wall: float) -> None:
        """Check the limits of tokens, also for a request in flight.

        Raises:
            LimitExceeded: no tokens of the day or the month are left.
        """
        check_days(self.tokens, grants, wall=wall)

    def recall(self, moment: float) -> None:
        """Count a request admitted before this meter was created; call in order of time."""
        self._moments.append(moment)

    def recent(self, now: float, elsewhere: Elsewhere = NOWHERE) -> tuple[float, ...]:
        """Return the admission times of the last 60 seconds, oldest first."""
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
    """Check that tokens of the day and the month are left; `tokens` is the use by day.

    Raises:
        LimitExceeded: none are.
    """
    for name, allowance in _token_allowances(tokens, grants, wall).items():
        if allowance.remaining <= 0:
            raise LimitExceeded(
                f"this user's limit of {amount(allowance.limit, 'token')} per {name} is used up",
                retry_after=allowance.reset,
            )


def room_for(tokens: int, *, used: int, limit: int) -> bool:
    """Return whether tokens fit into the rest of a minute; an unused minute has room for a request of any size."""
    return used + tokens <= limit or (limit > 0 and used <= 0)


def check_minute(limit: int | None, spent: Sequence[tuple[float, int]], *, now: float, tokens: int) -> None:
    """Check that the last 60 seconds have room for tokens; `spent` are pairs of time and tokens, oldest first.

    Raises:
        LimitExceeded: they have none; `retry_after` is the seconds until they have.
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
    """Return what remains of the limits; `now` is seconds of the meter's clock, `wall` seconds since 1970 (UTC).

    `spent` are the tokens of the last minute as pairs of time and number, oldest first.
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
    """Return what remains of each limit that is set; the arguments are those of `standing_of`.

    `reset` of `concurrent_requests` is always 0, as a slot frees when a request ends.
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
    # After the limit is lowered, many requests may exceed it; the expiry of the oldest alone then frees no room.
    next_free = moments[-limit] if len(moments) >= limit > 0 else next(iter(moments), now - _MINUTE)
    reset = next_free + _MINUTE - now
    return Allowance(limit=limit, remaining=max(0, limit - len(moments)), reset=reset)


def nearest_end(tokens: Mapping[int, int], grants: Grants, *, wall: float) -> tuple[TokenSpan, Allowance] | None:
    """Return the day's or month's limit with the smallest share left, None without one; `tokens` is the use by day."""
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
    """Return the `x-ratelimit-*` fields in OpenAI's format, with resets such as `12s`."""
    fields: list[tuple[str, str]] = []
    for name, allowance in (("requests", standing.requests), ("tokens", standing.tokens)):
        if allowance is not None:
            fields += [
                (f"x-ratelimit-limit-{name}", str(allowance.limit)),
                (f"x-ratelimit-remaining-{name}", str(allowance.remaining)),
                (f"x-ratelimit-reset-{name}", f"{max(0, -int(-allowance.reset // 1))}s"),
            ]
    return tuple(fields)
