"""How many tokens a prompt is for a model: learned from what servers counted, with the usual prices before.

A model's tokenizer and template are not known here, only what they make of prompts. The count is taken to be a sum of
prices: so much for each letter, digit, mark, line and foreign character, for each message that the template dresses,
for each character of a tool's description, for each image, and once for the beginning. Every counted prompt corrects
the prices of what it was made of (recursive least squares), so that a few requests are enough and those with tools say
nothing about text.
"""

from __future__ import annotations

import math
from typing import Final

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.prompts import USUAL_PRICES, PriceRow, PromptSize, sum_of_prices

__all__ = ["PromptPrices"]

_DOUBT: Final = (1.0, 1.0, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 1.5)
"""How far off each may be, as a part of itself."""
_NOISE = 0.03
"""Part of a prompt's tokens by which a sum of prices is off in any case."""
_LEARNS_ALL, _LEARNS_EACH = 64, 8
"""Of how many prompts every one is learned from, and which of the later ones."""
_DOUBTED, _STRANGE, _MOST_STRANGE = 1.5, 2.5, 20
"""Standard deviations from which on a count weighs less and less, and from which on it is another matter: Ollama cut
the prompt, or counted only what it had not read before. So many in a row are another model under the name."""
_FAR = 2.0
"""How many times more or less than expected no tokenizer makes of a prompt."""
_MOST_MODELS = 512


class _Learned:
    """The prices of one model, and how sure they are."""

    __slots__ = ("doubts", "prices", "samples", "seen", "strange")

    def __init__(self) -> None:
        self.prices = list(USUAL_PRICES)
        count = len(USUAL_PRICES)
        self.doubts = [[0.0] * count for _ in range(count)]
        for index, (price, part) in enumerate(zip(USUAL_PRICES, _DOUBT, strict=True)):
            self.doubts[index][index] = (price * part) ** 2
        self.samples = 0
        self.seen = 0
        self.strange = 0

    def learn(self, row: PriceRow, counted: float) -> None:
        """Correct the prices of what a prompt was made of by what was counted."""
        spread = [sum_of_prices(doubt, row) for doubt in self.doubts]
        expected = sum_of_prices(self.prices, row)
        variance = sum_of_prices(spread, row) + (_NOISE * max(expected, counted) + 1.0) ** 2
        off = counted - expected
        if abs(off) > _STRANGE * math.sqrt(variance) or not expected / _FAR < counted < expected * _FAR:
            self.strange += 1
            return
        variance *= max(1.0, off * off / (_DOUBTED * _DOUBTED * variance)) ** 2
        self.strange = 0
        self.samples += 1
        for index, part in enumerate(spread):
            gain = part / variance
            self.prices[index] += gain * off
            doubt = self.doubts[index]
            for other, its in enumerate(spread):
                doubt[other] -= gain * its


class PromptPrices:
    """What was learned of each model; at most 512, the one that was first learned goes first. Mutable."""

    def __init__(self) -> None:
        self._models: dict[CanonicalName, _Learned] = {}

    def tokens(self, model: CanonicalName, size: PromptSize) -> int | None:
        """Estimate the tokens of a prompt; None for a model that was never counted."""
        known = self._models.get(model)
        if known is None or not known.samples:
            return None
        return max(1, round(sum_of_prices(known.prices, size.row)) + size.tokens)

    def samples(self, model: CanonicalName) -> int:
        """Return how many prompts a model's prices rest on."""
        known = self._models.get(model)
        return 0 if known is None else known.samples

    def learn(self, model: CanonicalName, size: PromptSize, counted: int) -> bool:
        """Learn from a prompt that a server counted; says whether it was looked at."""
        known = self._models.get(model)
        if known is None:
            known = self._add(model)
        known.seen += 1
        if known.seen > _LEARNS_ALL and known.seen % _LEARNS_EACH:
            return False
        known.learn(size.row, float(counted - size.tokens))
        if known.strange >= _MOST_STRANGE:
            self._models[model] = _Learned()
        return True

    def _add(self, model: CanonicalName) -> _Learned:
        if len(self._models) >= _MOST_MODELS:
            del self._models[next(iter(self._models))]
        known = self._models[model] = _Learned()
        return known
