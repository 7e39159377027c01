"""Rules for the members of a host's requests: drop, clamp, rename or add them.

A rule applies to a request in the host's dialect, translated or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct

from ollama_router_core.translate.json_reader import Dropped

__all__ = ["MemberRule", "Members", "apply_rules"]

Bounds = tuple[float | None, float | None]
Condition = bool | tuple[Any, ...]


class MemberRule(Struct, frozen=True, kw_only=True):
    """One rule; names of nested members are dotted. Null counts as absent.

    Attributes:
        when: members that must be present (True), absent (False), or have one of these values.
        rename: pairs of old and new name.
        drop: members to remove.
        replace: by name, replacements of values (as text); None removes the member.
        clamp: by name, the minimum and the maximum.
        set: values that overwrite any.
        default: values for absent members.
    """

    when: tuple[tuple[str, Condition], ...] = ()
    rename: tuple[tuple[str, str], ...] = ()
    drop: tuple[str, ...] = ()
    replace: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    clamp: tuple[tuple[str, Bounds], ...] = ()
    set: tuple[tuple[str, Any], ...] = ()
    default: tuple[tuple[str, Any], ...] = ()

    @property
    def triggers(self) -> frozenset[str] | None:
        """Top-level members, one of which must be present for an effect; None if the rule can affect any request."""
        needed = [name for name, wanted in self.when if wanted is True or (wanted and None not in wanted)]
        if needed:
            return frozenset([_top(needed[0])])
        if self.set or self.default:
            return None
        pairs = (*self.rename, *self.replace, *self.clamp)
        return frozenset(_top(name) for name in (*self.drop, *(pair[0] for pair in pairs)))


def _top(name: str) -> str:
    return name.partition(".")[0]


class Members:
    """The members of a request, read on demand. `changes` maps top-level names to new values, None to remove.

    `read` returns the value of a top-level member, None if absent.
    """

    def __init__(self, read: Callable[[str], Any]) -> None:
        self._read = read
        self.changes: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        """Return a member's value, None if it is absent or null."""
        key, *path = name.split(".")
        value = self.changes[key] if key in self.changes else self._read(key)
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        return value

    def put(self, name: str, value: Any) -> None:
        """Set a member, or remove it with None; parent objects are created, and removed when empty."""
        key, *path = name.split(".")
        self.changes[key] = _put(self.get(key), path, value)


def _put(found: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    members = dict(found) if isinstance(found, dict) else {}
    members[path[0]] = _put(members.get(path[0]), path[1:], value)
    if members[path[0]] is None:
        del members[path[0]]
    return members or None


def apply_rules(members: Members, rules: Iterable[MemberRule], dropped: Dropped) -> None:
    """Apply the rules in order, and add the changes to `dropped`."""
    for rule in rules:
        if all(_holds(members.get(name), condition) for name, condition in rule.when):
            _apply(members, rule, dropped)


def _holds(value: Any, condition: Condition) -> bool:
    if isinstance(condition, bool):
        return (value is not None and value != []) is condition
    return value in condition


def _apply(members: Members, rule: MemberRule, dropped: Dropped) -> None:
    for name, other in rule.rename:
        _rename(members, name, other, dropped)
    for name in rule.drop:
        _drop(members, name, dropped)
    for name, values in rule.replace:
        found = members.get(name)
        if found is not None and (text := _text(found)) in values:
            _change(members, name, values[text], dropped)
    for name, bounds in rule.clamp:
        _clamp(members, name, bounds, dropped)
    for name, value in rule.set:
        if members.get(name) != value:
            _change(members, name, value, dropped)
    for name, value in rule.default:
        if members.get(name) is None:
            _change(members, name, value, dropped)


def _rename(members: Members, name: str, other: str, dropped: Dropped) -> None:
    value = members.get(name)
    if value is None:
        return
    members.put(name, None)
    if members.get(other) is None:
        members.put(other, value)
        dropped.add(f"{name}->{other}")
    else:
        dropped.add(name)


def _drop(members: Members, name: str, dropped: Dropped) -> None:
    if members.get(name) is not None:
        members.put(name, None)
        dropped.add(name)


def _clamp(members: Members, name: str, bounds: Bounds, dropped: Dropped) -> None:
    value, (low, high) = members.get(name), bounds
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if low is not None and value < low:
        _change(members, name, low, dropped)
    elif high is not None and value > high:
        _change(members, name, high, dropped)


def _change(members: Members, name: str, value: Any, dropped: Dropped) -> None:
    members.put(name, value)
    plain = isinstance(value, str | int | float | bool)
    dropped.add(f"{name}={_text(value)}" if plain else name)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
