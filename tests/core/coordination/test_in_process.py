"""Coordination within one process, against a model of plain sums; news as they are written down."""

from __future__ import annotations

from hypothesis import settings

from ollama_router_core.coordination.in_process import InProcess
from ollama_router_core.coordination.interface import Group
from ollama_router_core.coordination.news import FactsChanged, read_news, write_news
from support.coordination_machine import SIZE, Coordinating


class CoordinatingInProcess(Coordinating):
    """Members of one process."""

    @staticmethod
    def make_group() -> Group:
        """In the process."""
        return InProcess("router", b"secret", size=SIZE)


TestCoordinating = CoordinatingInProcess.TestCase
TestCoordinating.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_news_survive_being_written_down() -> None:
    """What another version writes is nothing, not an error."""
    news = FactsChanged("größer")
    assert read_news(write_news(news)) == news
    assert read_news(b"\x93\x01") is None
    assert read_news(b"") is None
