"""The disk of a simulated server: models by name, and blobs.

Contains Ollama's look-up of names, and adding, copying and deleting models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ollama_router_core.testing.ollama_names import parse_reference, valid_name
from ollama_router_core.testing.simulated_models import SimulatedModel, model

__all__ = ["ModelLibrary"]


@dataclass(slots=True)
class ModelLibrary:
    """Models and blobs of one server."""

    _models: dict[str, SimulatedModel] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def holding(cls, models: Iterable[SimulatedModel | str]) -> ModelLibrary:
        """Build a library with these models; a text means `model(text)`."""
        library = cls()
        for one in models:
            library.add(model(one) if isinstance(one, str) else one)
        return library

    def __iter__(self) -> Iterator[SimulatedModel]:
        return iter(self._models.values())

    def add(self, one: SimulatedModel) -> None:
        """Add a model, replacing one with the same name."""
        self._models[_key(one.name)] = one

    def remove(self, name: str) -> bool:
        """Remove a model; return False if there is none with the name."""
        return self._models.pop(_key(name), None) is not None

    def find(self, text: str, *, exact_case: bool = False) -> SimulatedModel | None:
        """Return the model with a client's name, case-insensitively by default, or None."""
        parsed = parse_reference(text)
        found = self._models.get(parsed.key) if parsed else None
        if found is None or not exact_case:
            return found
        return found if valid_name(found.name) == parsed else None


def _key(name: str) -> str:
    return valid_name(name).key
