"""The options that a model is loaded with, and the differences that make Ollama reload it.

Contains the precedence (request, Modelfile, server), clamps, and the comparison of 0.30 and later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ollama_router_core.testing.error_replies import ApiError
from ollama_router_core.testing.simulated_models import SimulatedModel
from ollama_router_core.testing.simulator_settings import GIB, Settings

__all__ = ["LoadOptions", "load_options"]

_TIERS = ((47 * GIB, 262_144), (23 * GIB, 32_768))
_SMALLEST_TIER = 4096
_ALL_LAYERS = -1
_INTEGERS = frozenset({"num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "draft_num_predict", "num_predict"})
_WITHOUT_SHIFT = frozenset({"deepseek2"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """The options of a runner; None if Ollama chooses."""

    num_ctx: int
    num_ctx_automatic: bool
    num_batch: int | None = None
    num_gpu: int = _ALL_LAYERS
    main_gpu: int = 0
    use_mmap: bool | None = None
    num_thread: int = 0
    draft_num_predict: int = 0
    shift: bool = True
    adapters: tuple[str, ...] = ()

    def serves(self, wanted: LoadOptions) -> bool:
        """Return whether a runner with these options serves a request with `wanted` without a reload."""
        given = replace(
            wanted,
            num_ctx=self.num_ctx if self.num_ctx_automatic and wanted.num_ctx_automatic else wanted.num_ctx,
            num_ctx_automatic=self.num_ctx_automatic,
            num_gpu=self.num_gpu if wanted.num_gpu < 0 else wanted.num_gpu,
            use_mmap=self.use_mmap if wanted.use_mmap is None else wanted.use_mmap,
        )
        return given == self


def load_options(
    model: SimulatedModel, settings: Settings, given: Mapping[str, Any] | None, *, shift: bool | None = None
) -> LoadOptions:
    """Return the options of a request for `model`: its own, else the Modelfile's, else the server's.

    Raises:
        ApiError: 500 for an option of the wrong type.
    """
    _check_types(given or {})
    options = {**model.parameters, **{key: value for key, value in (given or {}).items() if value is not None}}
    wanted_context = options.get("num_ctx") or settings.default_context
    floor = 2048 if "vision" in model.capabilities else 4
    return LoadOptions(
        num_ctx=max(floor, min(int(wanted_context or _tier(settings.vram)), model.context_length)),
        num_ctx_automatic=not wanted_context,
        num_batch=options.get("num_batch"),
        num_gpu=int(options.get("num_gpu", _ALL_LAYERS)),
        main_gpu=int(options.get("main_gpu", 0)),
        use_mmap=options.get("use_mmap"),
        num_thread=int(options.get("num_thread", 0)),
        draft_num_predict=int(options.get("draft_num_predict", 0)),
        shift=model.family not in _WITHOUT_SHIFT if shift is None else shift,
        adapters=model.adapters,
    )


def _check_types(given: Mapping[str, Any]) -> None:
    for key, value in given.items():
        if key in _INTEGERS and (isinstance(value, bool) or not isinstance(value, int | float | None)):
            raise ApiError(500, f'option "{key}" must be of type integer')
        if key == "use_mmap" and not isinstance(value, bool | None):
            raise ApiError(500, 'option "use_mmap" must be of type boolean')


def _tier(vram: int) -> int:
    """Return the context that Ollama chooses for the memory of all GPUs, in bytes."""
    return next((context for least, context in _TIERS if vram >= least), _SMALLEST_TIER)
