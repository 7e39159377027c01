"""Typed settings and how they are read.

Belongs here: the shape of a config file (`settings`), text to `Config` with every problem (`loading`).
Does not belong here: opening files, reading the process environment.
"""

from __future__ import annotations
