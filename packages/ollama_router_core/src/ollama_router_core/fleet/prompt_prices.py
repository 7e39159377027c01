"""Prompt token estimates per model: learned from servers' counts, with default prices before.

A model's tokenizer and template are unknown; only their token counts are observed. The count is modelled as a sum of
prices: per letter, digit, punctuation mark, line and foreign character, per message, per character of a tool's
description, per image, and a constant. Every counted prompt corrects the prices of its parts (recursive least squares),
so that a few requests suffice and prompts with tools do not distort the prices of text.
"""

from __future__ import annotations

import math
from typing import Final

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.prompts import USUAL_PRICES, PriceRow, PromptSize, sum_of_prices

__all__ = ["PromptPrices"]

_DOUBT: Final = (1.0, 1.0, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 1.5)
"""Initial relative uncertainty of each price."""
_NOISE = 0.03
"""Residual relative error of a sum of prices."""
_LEARNS_ALL, _LEARNS_EACH = 64, 8
"""Number of first prompts that are all learned from, and the interval of later ones."""
_DOUBTED, _STRANGE, _MOST_STRANGE = 1.5, 2.5, 20
"""Standard deviations beyond which a count is down-weighted, and beyond which it is an outlier: Ollama truncated the
prompt, or counted only its uncached part. The third value is the outliers in a row that mean a new model of that
name."""
_FAR = 2.0
"""Maximum ratio between counted and expected tokens."""
_MOST_MODELS = 512


class _Learned:
    """The prices of one model, with their covariance."""

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
        """Correct the prices of a prompt's parts by its counted tokens."""
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
    """The learned prices of at most 512 models, oldest evicted first. Mutable."""

    def __init__(self) -> None:
        self._models: dict[CanonicalName, _Learned] = {}

    def tokens(self, model: CanonicalName, size: PromptSize) -> int | None:
        """Estimate the tokens of a prompt; None for a model without counts."""
        known = self._models.get(model)
        if known is None or not known.samples:
            return None
        return max(1, round(sum_of_prices(known.prices, size.row)) + size.tokens)

    def samples(self, model: CanonicalName) -> int:
        """Return the number of prompts that a model's prices are learned from."""
        known = self._models.get(model)
        return 0 if known is None else known.samples

    def learn(self, model: CanonicalName, size: PromptSize, counted: int) -> bool:
        """Learn from a prompt that a server counted; return False if it was skipped."""
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
