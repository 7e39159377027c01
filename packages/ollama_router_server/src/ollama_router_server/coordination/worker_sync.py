"""What a worker does because it is one of several: follows drains, publishes its figures, reads the others'.

Figures for Prometheus and the requests under way go into one file a worker, about once a second, in a folder of the
router's own. Whoever is asked adds its own as they are now to the others' as they were written. A worker that is
started again finds the file of its predecessor and adds what that had counted, so that sums do not fall.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from ollama_router_server.telemetry.metric_aggregation import Family, add_up, counted

__all__ = ["WorkerSync"]

_FIGURES = "figures"
_UNDER_WAY = "under_way"
_FOLLOW = 0.25
_PUBLISH = 1.0

_log = structlog.get_logger(__name__)


class WorkerSync:
    """This worker among the others. Start it on a running event loop.

    Args:
        folder: for files of figures; every worker has the same one.
        index: which worker this is.
        collect: this process's figures now.
        under_way: this process's requests under way, as JSON.
        follow: called four times a second.
    """

    def __init__(
        self,
        folder: Path,
        index: int,
        *,
        collect: Callable[[], list[Family]],
        under_way: Callable[[], list[dict[str, Any]]],
        follow: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._file = folder / f"{index}.json"
        self._collect = collect
        self._under_way = under_way
        self._follow = follow
        self._inherited = counted(_families(_read(self._file)))
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow and to publish."""
        self._task = asyncio.create_task(self._run(), name="siblings")

    async def aclose(self) -> None:
        """Publish once more and stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._publish()

    def figures(self) -> list[Family]:
        """The figures of all workers."""
        return add_up([self._own(), *map(_families, self._others())])

    def under_way(self) -> list[dict[str, Any]]:
        """The requests under way in all workers; those of the others as of up to a second ago."""
        return [row for one in ({_UNDER_WAY: self._under_way()}, *self._others()) for row in one.get(_UNDER_WAY, ())]

    def _others(self) -> list[dict[str, Any]]:
        return [_read(path) for path in sorted(self._folder.glob("*.json")) if path != self._file]

    def _own(self) -> list[Family]:
        return add_up([self._collect(), self._inherited])

    async def _run(self) -> None:
        published = float("-inf")
        loop = asyncio.get_running_loop()
        while True:
            try:
                self._follow()
                if loop.time() - published >= _PUBLISH:
                    published = loop.time()
                    self._publish()
            except Exception:  # noqa: BLE001 - requests go on whatever this does
                _log.exception("siblings_failed")
            await asyncio.sleep(_FOLLOW)

    def _publish(self) -> None:
        new = self._file.with_suffix(".new")
        with suppress(OSError):  # the folder is gone: the router is ending
            new.write_text(json.dumps({_FIGURES: self._own(), _UNDER_WAY: self._under_way()}))
            new.replace(self._file)


def _read(path: Path) -> dict[str, Any]:
    """What a worker wrote; nothing where it has written nothing yet."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found


def _families(found: dict[str, Any]) -> list[Family]:
    return [(name, text, kind, samples) for name, text, kind, samples in found.get(_FIGURES, ())]
