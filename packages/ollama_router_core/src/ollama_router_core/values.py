"""What values that are made for every request inherit: msgspec's structs, with the options that count.

Belongs here: bases without fields.
Does not belong here: values.

A class says its options all the same. The bases are for a compiled build: mypyc leaves out the keywords of a class
statement, but msgspec takes them from a base as well. So this module stays interpreted, and fields without a default
come before those with one.
"""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Distinct", "Frozen"]


class Frozen(Struct, frozen=True):
    """A value that does not change."""


class Distinct(Struct, eq=False):
    """An object that is equal to itself alone."""
