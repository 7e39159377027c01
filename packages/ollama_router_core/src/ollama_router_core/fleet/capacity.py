"""The memory capacity of a server, learned from the models that `/api/ps` lists together.

A model that disappears before its expiry while another appears was evicted: together they exceeded the memory. Before
the first eviction, a server is assumed to hold any set of models, within `max_memory_gb` if configured.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping

from msgspec import Struct

from ollama_router_core.api.model_names import CanonicalName

__all__ = ["FIT_SHARE", "Capacity", "HeldModel", "Room", "driven_out"]

FIT_SHARE = 0.8
"""Share of the free memory into which Ollama loads a model beside others."""
_MODELS = 3
"""Models that Ollama holds per GPU: an eviction beyond this number is attributed to the count, not to bytes."""
_BELIEVED = 3600.0
"""Seconds after which a learned limit expires: another program may have used the memory."""
_UNKNOWN = 1 << 62
_GIB = 1 << 30
_SIZES = tuple(gib * _GIB for gib in (4, 6, 8, 10, 11, 12, 16, 20, 24, 32, 36, 40, 48, 64, 72, 80, 96, 128, 160, 192))
"""Common memory sizes of one, two or four cards: of the possible ones, the largest is the best estimate."""
_SHORT = 1.04
"""Factor by which the nominal size exceeds the usable memory."""
_REACHES = tuple(size * _SHORT for size in _SIZES)


class HeldModel(Struct, frozen=True):
    """A model in a server's memory: total bytes, bytes in video memory, and expiry, None if unknown."""

    size: int
    size_vram: int
    expires_at: float | None = None


class Capacity(Struct, frozen=True):
    """Largest bytes and number of models seen together, and the limits learned at `at`.

    `less_than` is an exclusive upper bound of the memory in bytes, `too_many` a number of models that did not fit.
    """

    most: int = 0
    models: int = 0
    less_than: int | None = None
    at: float = 0.0
    too_many: int | None = None

    def observe(
        self, before: Mapping[CanonicalName, HeldModel], after: Mapping[CanonicalName, HeldModel], now: float
    ) -> Capacity:
        """Return the capacity after another report; `before` are the models of the last one."""
        most = max(self.most, sum([one.size_vram for one in after.values()]))
        models = max(self.models, len(after))
        less, too_many, at = self.less_than, self.too_many, self.at
        if now - at >= _BELIEVED:
            less, too_many, at = None, None, now
        bound, together = _bound(before, after, now), len(before.keys() | after.keys())
        if bound is not None and together > max(models, _MODELS):
            too_many, at = min(together, too_many or together), now
        elif bound is not None and (less is None or bound < less):
            less, at = bound, now
        return Capacity(
            most,
            models,
            None if less is None or less <= most else less,
            at,
            None if too_many is None or too_many <= models else too_many,
        )

    def room(self, configured: int | None, *, max_models: int | None = None, gpus: int = 1) -> Room:
        """Return the room, given the configured limits in bytes and models, and the number of GPUs.

        Ollama holds three models per GPU, unless configured otherwise.
        """
        models = max(self.models, _MODELS * gpus) if self.too_many is None else self.too_many - 1
        counted = self.too_many is not None or max_models is not None
        models = models if max_models is None else max_models
        if self.less_than is None:
            limit = _UNKNOWN if configured is None else configured
            return Room(limit, models, most=limit, counted=counted, measured=configured is not None)
        least = min(max(self.most, _size_from(self.most)), self.less_than - 1)
        most = max(self.most, min(_size_below(self.less_than), self.less_than - 1))
        limit = least if configured is None else min(configured, most)
        return Room(limit, models, most=most, counted=counted, measured=configured is not None or least == most)


def _size_from(least: int) -> int:
    larger = bisect_left(_REACHES, least)
    return _SIZES[larger] if larger < len(_SIZES) else least


def _size_below(most: int) -> int:
    smaller = bisect_right(_SIZES, most * _SHORT)
    return _SIZES[smaller - 1] if smaller else most


def _bound(
    before: Mapping[CanonicalName, HeldModel], after: Mapping[CanonicalName, HeldModel], now: float
) -> int | None:
    """Return an upper bound of a server's memory, None if no model was evicted or is partly on the CPU."""
    came = [one.size for name, one in after.items() if name not in before]
    evicted = [one for name, one in before.items() if name not in after and _has_time_left(one, now)]
    if came and evicted:
        return sum([one.size for one in before.values()]) + round(sum(came) / FIT_SHARE)
    if any(one.size_vram < one.size for one in after.values()):
        return sum([one.size for one in after.values()])
    return None


def driven_out(
    before: Mapping[CanonicalName, HeldModel], after: Mapping[CanonicalName, HeldModel], now: float
) -> Mapping[CanonicalName, HeldModel]:
    """Return the models that disappeared before their expiry without a new one: evicted for a load in progress."""
    if any(name not in before for name in after):
        return {}
    return {name: one for name, one in before.items() if name not in after and _has_time_left(one, now)}


def _has_time_left(one: HeldModel, now: float) -> bool:
    return one.expires_at is None or one.expires_at > now


class Room(Struct, frozen=True):
    """Limits in bytes and number of models; `measured` and `counted` mark them as certain.

    The memory is at most `most` bytes.
    """

    limit: int
    models: int
    most: int = _UNKNOWN
    counted: bool = False
    measured: bool = False

    @property
    def is_known(self) -> bool:
        """Whether the byte limit is known at all."""
        return self.limit < _UNKNOWN

    def fits(self, size: int, held: int, count: int) -> bool:
        """Whether a model of `size` bytes fits beside `count` others of `held` bytes; alone it always does."""
        return not count or (count < self.models and self.holds(size, held))

    def surely_holds_one_more(self, count: int) -> bool:
        """Whether the evictions for one more model beside `count` others are certain."""
        return self.measured and (self.counted or count < self.models)

    def surely_lacks(self, size: int, held: int) -> bool:
        """Whether a model of `size` bytes cannot fit beside `held` bytes, even with the largest possible memory."""
        return bool(held) and size > FIT_SHARE * (self.most - held)

    def holds(self, size: int, held: int) -> bool:
        """Return whether a model of `size` bytes fits beside `held` bytes, ignoring the number of models."""
        return not held or size <= FIT_SHARE * (self.limit - held)
