"""The host profiles shipped as data files of the package."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from ollama_router_core.outbound.host_profiles import ProfileSource

__all__ = ["shipped_profiles"]

_SUFFIX = ".yml"


@cache
def shipped_profiles() -> ProfileSource:
    """Read the texts of all profiles."""
    folder = files("ollama_router_core").joinpath("profiles")
    return ProfileSource(
        {
            each.name.removesuffix(_SUFFIX): each.read_text(encoding="utf-8")
            for each in folder.iterdir()
            if each.name.endswith(_SUFFIX)
        }
    )
