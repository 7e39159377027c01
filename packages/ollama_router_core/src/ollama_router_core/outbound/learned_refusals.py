"""Members that hosts have refused, by host and model, and that later requests omit."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["LearnedRefusals"]

_MOST_MODELS = 512
_MOST_MEMBERS = 16


class LearnedRefusals:
    """Learned refusals, in memory: at most 512 models, least recently used evicted first."""

    def __init__(self) -> None:
        self._members: OrderedDict[tuple[str, str], tuple[str, ...]] = OrderedDict()

    def members(self, host: str, model: str) -> tuple[str, ...]:
        """Return the members that a host refuses for its model."""
        found = self._members.get((host, model))
        if found is None:
            return ()
        self._members.move_to_end((host, model))
        return found

    def learn(self, host: str, model: str, member: str) -> bool:
        """Record a refusal; return whether it is recorded now, also if another request recorded it."""
        known = self.members(host, model)
        if member in known:
            return True
        if len(known) >= _MOST_MEMBERS:
            return False
        self._members[host, model] = (*known, member)
        if len(self._members) > _MOST_MODELS:
            self._members.popitem(last=False)
        return True
