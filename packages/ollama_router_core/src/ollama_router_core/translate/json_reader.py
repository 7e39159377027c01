"""Typed reading of unvalidated requests, with a list of unread keys.

A null counts as absent, as for every server. Error texts contain keys of the request, never values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ollama_router_core.translate.errors import UntranslatableRequest

__all__ = ["Dropped", "JsonReader"]

_SAFE_NAME = re.compile(r"[A-Za-z0-9_.$-]{1,64}(?:=[A-Za-z0-9_.-]{1,32}|->[A-Za-z0-9_.$-]{1,64})?")
_INDEX = re.compile(r"\[\d+\]")
_MAX_NAMES = 32


class Dropped:
    """The names of members lost in translation, each once, in order, valid in a header."""

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def add(self, name: str) -> None:
        """Add a name, dotted if nested; a name that is not plain ASCII becomes `?`.

        `name=value` is a changed value, `name->other` a changed name.
        """
        if len(self._names) < _MAX_NAMES:
            self._names[name if _SAFE_NAME.fullmatch(name) else "?"] = None

    def add_given(self, values: Mapping[str, Any]) -> None:
        """Add the names of all values that are not None."""
        for name, value in values.items():
            if value is not None:
                self.add(name)

    def names(self) -> tuple[str, ...]:
        """Return all names."""
        return tuple(self._names)


class JsonReader:
    """One JSON object of a request; `path` is empty for the body itself.

    Raises:
        UntranslatableRequest: the value is not an object; methods raise it for a value of the wrong type.
    """

    def __init__(self, value: Any, path: str, dropped: Dropped) -> None:
        self.path = path
        self._dropped = dropped
        self._read: set[str] = set()
        if not isinstance(value, dict):
            raise UntranslatableRequest(f"{path or 'the body'} must be an object")
        self.values = value

    def path_of(self, key: str) -> str:
        """Return the path of a key, for an error text."""
        return f"{self.path}.{key}" if self.path else key

    def raw(self, key: str) -> Any:
        """Return the value unchecked, None if absent."""
        self._read.add(key)
        return self.values.get(key)

    def text(self, key: str) -> str | None:
        """Return a text."""
        value = self.raw(key)
        if value is None or isinstance(value, str):
            return value
        raise self.wrong(key, "a text")

    def need_text(self, key: str) -> str:
        """Return a required text that is not empty."""
        return self.text(key) or self._missing(key)

    def flag(self, key: str) -> bool | None:
        """Return true or false."""
        value = self.raw(key)
        if value is None or isinstance(value, bool):
            return value
        raise self.wrong(key, "true or false")

    def number(self, key: str) -> float | None:
        """Return a number; an integer stays one."""
        value = self.raw(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0:
            raise self.wrong(key, "a number")
        return value

    def whole(self, key: str) -> int | None:
        """Return an integer; `5.0` is one."""
        value = self.number(key)
        if value is None:
            return None
        if value % 1:
            raise self.wrong(key, "a whole number")
        return int(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a string or a list of strings as a tuple."""
        value = self.raw(key)
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise self.wrong(key, "a string or a list of strings")

    def items(self, key: str) -> list[Any]:
        """Return a list, empty if absent."""
        value = self.raw(key)
        if value is None:
            return []
        if isinstance(value, list):
            return value
        raise self.wrong(key, "a list")

    def mapping(self, key: str) -> dict[str, Any] | None:
        """Return an object that is copied unchanged, such as a schema."""
        value = self.raw(key)
        if value is None or isinstance(value, dict):
            return value
        raise self.wrong(key, "an object")

    def child(self, key: str) -> JsonReader | None:
        """Return a reader of an object, None if absent."""
        value = self.raw(key)
        return None if value is None else JsonReader(value, self.path_of(key), self._dropped)

    def need_child(self, key: str) -> JsonReader:
        """Return a reader of a required object."""
        return JsonReader(self.raw(key), self.path_of(key), self._dropped)

    def children(self, key: str) -> Iterator[JsonReader]:
        """Yield readers of the objects in a list."""
        for index, item in enumerate(self.items(key)):
            yield JsonReader(item, f"{self.path_of(key)}[{index}]", self._dropped)

    def drop(self, *keys: str) -> None:
        """Drop keys; those with a value are listed."""
        for key in keys:
            if self.raw(key) is not None:
                self._dropped.add(_INDEX.sub("", self.path_of(key)))

    def note(self, key: str) -> None:
        """List a key as dropped, whatever its value."""
        self._read.add(key)
        self._dropped.add(_INDEX.sub("", self.path_of(key)))

    def refuse(self, key: str, why: str) -> None:
        """Reject the request if the key has a truthy value."""
        if self.raw(key):
            raise UntranslatableRequest(f"{self.path_of(key)} {why}")

    def close(self) -> None:
        """List every unread key as dropped."""
        self.drop(*(key for key in self.values if key not in self._read))

    def wrong(self, key: str, expected: str) -> UntranslatableRequest:
        """Return the error for a value of the wrong type."""
        return UntranslatableRequest(f"{self.path_of(key)} must be {expected}")

    def _missing(self, key: str) -> str:
        raise UntranslatableRequest(f"{self.path_of(key)} is missing or empty")
