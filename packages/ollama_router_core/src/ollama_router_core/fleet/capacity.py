"""How much a server's memory holds, learned from what `/api/ps` showed together and what it did not.

A model that is gone before its time while another came had to make room: together they were too much. Until that was
seen a server is believed to hold whatever it is asked for, within `max_memory_gb` where its operator says so.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping

from msgspec import Struct

from ollama_router_core.api.model_names import CanonicalName

__all__ = ["Capacity", "HeldModel", "Room", "driven_out"]

_FIT_SHARE = 0.8
"""Ollama loads a model beside others only into 80 % of the free memory."""
_MODELS = 3
"""Models that Ollama holds for each GPU at most: where there were more, their number was too much, not their bytes."""
_BELIEVED = 3600.0
"""Seconds after which what was too much is tried again: memory may have been taken by something else."""
_UNKNOWN = 1 << 62
_GIB = 1 << 30
_SIZES = tuple(gib * _GIB for gib in (4, 6, 8, 10, 11, 12, 16, 20, 24, 32, 36, 40, 48, 64, 72, 80, 96, 128, 160, 192))
"""Memory comes in few sizes, of one card or two or four: of those that may be, the largest is the best guess."""
_SHORT = 1.04
"""What is free falls short of such a size by a little."""
_REACHES = tuple(size * _SHORT for size in _SIZES)


class HeldModel(Struct, frozen=True):
    """A model in a server's memory: its bytes, those in video memory, and when it expires, where that is known."""

    size: int
    size_vram: int
    expires_at: float | None = None


class Capacity(Struct, frozen=True):
    """Bytes of models seen together in memory and how many of them, and what was too much and too many, seen at `at`.

    `less_than` are bytes of memory that the server has less than.
    """

    most: int = 0
    models: int = 0
    less_than: int | None = None
    at: float = 0.0
    too_many: int | None = None

    def observe(
        self, before: Mapping[CanonicalName, HeldModel], after: Mapping[CanonicalName, HeldModel], now: float
    ) -> Capacity:
        """Return what is believed after another look, when `before` was held at the last one."""
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

    def room(self, told: int | None, *, models_told: int | None = None, gpus: int = 1) -> Room:
        """Return what fits, given the operator's limits in bytes and models, and the number of its GPUs.

        Ollama holds three models for each GPU, unless it was told another number.
        """
        models = max(self.models, _MODELS * gpus) if self.too_many is None else self.too_many - 1
        counted = self.too_many is not None or models_told is not None
        models = models if models_told is None else models_told
        if self.less_than is None:
            limit = _UNKNOWN if told is None else told
            return Room(limit, models, most=limit, counted=counted, measured=told is not None)
        least = min(max(self.most, _size_from(self.most)), self.less_than - 1)
        most = max(self.most, min(_size_below(self.less_than), self.less_than - 1))
        limit = least if told is None else min(told, most)
        return Room(limit, models, most=most, counted=counted, measured=told is not None or least == most)


def _size_from(least: int) -> int:
    larger = bisect_left(_REACHES, least)
    return _SIZES[larger] if larger < len(_SIZES) else least


def _size_below(most: int) -> int:
    smaller = bisect_right(_SIZES, most * _SHORT)
    return _SIZES[smaller - 1] if smaller else most


def _bound(
    before: Mapping[CanonicalName, HeldModel], after: Mapping[CanonicalName, HeldModel], now: float
) -> int | None:
    """Return what a server's memory must be below, None when nothing was evicted or had to stay outside."""
    came = [one.size for name, one in after.items() if name not in before]
    evicted = [one for name, one in before.items() if name not in after and _has_time_left(one, now)]
    if came and evicted:
        return sum([one.size for one in before.values()]) + round(sum(came) / _FIT_SHARE)
    if any(one.size_vram < one.size for one in after.values()):
        return sum([one.size for one in after.values()])
    return None


def driven_out(
    before: Mapping[CanonicalName, HeldModel], after: Mapping[CanonicalName, HeldModel], now: float
) -> Mapping[CanonicalName, HeldModel]:
    """Return what went before its time, if nothing came yet: it made room for a model that is still being loaded."""
    if any(name not in before for name in after):
        return {}
    return {name: one for name, one in before.items() if name not in after and _has_time_left(one, now)}


def _has_time_left(one: HeldModel, now: float) -> bool:
    return one.expires_at is None or one.expires_at > now


class Room(Struct, frozen=True):
    """Bytes of memory, and how many models are held at most; `measured` and `counted` say that these are no guesses.

    The memory is at most `most` bytes.
    """

    limit: int
    models: int
    most: int = _UNKNOWN
    counted: bool = False
    measured: bool = False

    @property
    def is_known(self) -> bool:
        """Whether the limit is more than a hope."""
        return self.limit < _UNKNOWN

    def fits(self, size: int, held: int, count: int) -> bool:
        """Whether a model of `size` bytes is loaded beside `count` others of `held` bytes; alone it always is."""
        return not count or (count < self.models and self.holds(size, held))

    def surely_holds_one_more(self, count: int) -> bool:
        """Whether it is known which of `count` models, if any, have to go for another: nothing is a guess."""
        return self.measured and (self.counted or count < self.models)

    def surely_lacks(self, size: int, held: int) -> bool:
        """Whether a model of `size` bytes is not loaded beside others of `held` bytes, with as much as there may be."""
        return bool(held) and size > _FIT_SHARE * (self.most - held)

    def holds(self, size: int, held: int) -> bool:
        """Return whether a model of `size` bytes is loaded beside others of `held` bytes, by bytes alone."""
        return not held or size <= _FIT_SHARE * (self.limit - held)
