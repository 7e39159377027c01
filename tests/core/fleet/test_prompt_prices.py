"""What servers counted makes estimates of prompts good, for each model by itself."""

from __future__ import annotations

from random import Random

import pytest

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.api.prompts import PromptSize, size_of_text, usual_tokens
from ollama_router_core.fleet.prompt_prices import PromptPrices

MODEL = canonical_name("llama3.1:8b")
WORDS = ["the", "server", "answers", "quickly", "although", "it", "waited,", "for", "42", "requests;", "then", "(say)"]
HAN = "路由器位于许多服务器之前它知道谁在请求"


def a_size(chance: Random) -> PromptSize:
    """A prompt of words, sometimes Chinese, sometimes with tools or an image."""
    text = " ".join(chance.choices(WORDS, k=chance.choice([5, 40, 300, 900])))
    if chance.random() < 0.2:
        text += "".join(chance.choices(HAN, k=200))
    tools = chance.choice([0, 0, 0, 1500, 8000])
    return size_of_text(text, messages=chance.choice([1, 2, 5]), tools=tools, images=chance.random() < 0.1)


def counted(size: PromptSize) -> int:
    """What some tokenizer and template make of it: others than those that are expected, and not quite a sum."""
    text = size.letters * 0.21 + size.marks * 0.9 + size.digits + size.lines + size.foreign * 0.45 + size.heavy * 0.4
    return round(text * (1 + (size.letters % 7 - 3) / 100) + 14 + 9 * size.messages + size.tools * 0.2) + (
        256 * size.images
    )


def share_within_a_tenth(prices: PromptPrices, chance: Random, *, times: float = 1.0) -> float:
    """How many of 200 further prompts are estimated within 10 %."""
    sizes = [a_size(chance) for _ in range(200)]
    found = [(prices.tokens(MODEL, size) or 0) / (counted(size) * times) for size in sizes]
    return sum(abs(ratio - 1) <= 0.1 for ratio in found) / len(found)


@pytest.mark.parametrize("seed", range(5))
def test_twenty_counted_prompts_are_enough(seed: int) -> None:
    """Of further ones 95 % are estimated within 10 %, whatever they are made of."""
    chance, prices = Random(seed), PromptPrices()  # noqa: S311 - repeatable
    for size in [a_size(chance) for _ in range(20)]:
        prices.learn(MODEL, size, counted(size))
    assert share_within_a_tenth(prices, chance) >= 0.95


def test_counts_that_are_another_matter_teach_nothing() -> None:
    """Ollama cuts what is longer than its context, and before 0.33.3 counts only what it had not read before."""
    chance, prices = Random(1), PromptPrices()  # noqa: S311 - repeatable
    for turn, size in enumerate([a_size(chance) for _ in range(60)]):
        prices.learn(MODEL, size, counted(size) if turn % 6 else 2 + counted(size) // 10)
    assert share_within_a_tenth(prices, chance) >= 0.95


def test_another_model_under_the_name_is_noticed() -> None:
    """Twenty strange counts in a row are no exceptions: it is learned anew."""
    chance, prices = Random(2), PromptPrices()  # noqa: S311 - repeatable
    for size in [a_size(chance) for _ in range(64)]:
        prices.learn(MODEL, size, counted(size))
    for size in [a_size(chance) for _ in range(400)]:
        prices.learn(MODEL, size, round(counted(size) * 1.7))
    assert share_within_a_tenth(prices, chance, times=1.7) >= 0.9


def test_each_model_has_prices_of_its_own() -> None:
    """What is not known is not guessed from others; the usual prices are the caller's to take."""
    prices = PromptPrices()
    prices.learn(MODEL, size_of_text("hello there"), 12)
    assert prices.samples(MODEL) == 1
    assert prices.tokens(canonical_name("qwen3:8b"), size_of_text("hello there")) is None


def test_numbers_that_are_tokens_need_no_price() -> None:
    """They are added as they are."""
    prices, text = PromptPrices(), "the server answers quickly"
    prices.learn(MODEL, size_of_text(text), 20)
    plain = prices.tokens(MODEL, size_of_text(text))
    assert prices.tokens(MODEL, size_of_text(text, tokens=1000)) == (plain or 0) + 1000
    assert usual_tokens(size_of_text(text, tokens=1000)) == usual_tokens(size_of_text(text)) + 1000


def test_names_are_bounded() -> None:
    """A client that invents models cannot fill the memory: only answered requests teach, and 512 models are kept."""
    prices = PromptPrices()
    for number in range(600):
        prices.learn(canonical_name(f"m{number}"), size_of_text("hello there"), 12)
    assert prices.samples(canonical_name("m0")) == 0
    assert prices.samples(canonical_name("m599")) == 1
