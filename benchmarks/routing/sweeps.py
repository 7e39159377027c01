"""Rows of a sweep over values of one number, which takes hours: kept in a file as they come, and gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

Row = Mapping[str, Any]


class Trial(Protocol):
    """One configuration with one value."""

    @property
    def key(self) -> tuple[str, str, float]:
        """Its configuration, what is swept, the value."""


Tried = TypeVar("Tried", bound=Trial)


def measured(file: Path, jobs: int, trials: Iterable[Tried], run: Callable[[Tried], Row], *, swept: str) -> list[Row]:
    """Return the row of every trial, from the file where it is there; `swept` is the field that says what is swept."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    known = {(row["case"], row[swept], row["value"]): row for row in map(json.loads, lines)}
    wanted = list(trials)
    missing = [trial for trial in wanted if trial.key not in known]
    with ProcessPoolExecutor(jobs) as pool, file.open("a", encoding="utf-8") as out:
        for trial, row in zip(missing, pool.map(run, missing), strict=True):
            known[trial.key] = row
            out.write(json.dumps(row) + "\n")
            out.flush()
    return [known[trial.key] for trial in wanted]
