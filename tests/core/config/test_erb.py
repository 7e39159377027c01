"""ERB in configs of the Rails application: variables are read, Ruby is not run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.config import load_config
from ollama_router_core.config.erb import without_erb
from ollama_router_core.errors import ConfigError

ENV = {"HOST": "gpu1", "PORT": "1234", "EMPTY": ""}


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("<%= ENV['HOST'] %>", "gpu1"),
        ('<%= ENV["HOST"] %>', "gpu1"),
        ("\"<%= ENV['HOST'] %>\"", "gpu1"),
        ("<%=ENV['HOST']-%>", "gpu1"),
        ("<%= ENV.fetch('HOST') %>", "gpu1"),
        ("<%= ENV.fetch('OTHER', 'gpu2') %>", "gpu2"),
        ('<%= ENV.fetch("OTHER", "gpu2") %>', "gpu2"),
        ("<%= ENV['OTHER'] || 'gpu2' %>", "gpu2"),
        ("<%= ENV['EMPTY'] || 'gpu2' %>", "gpu2"),
        ("<%= ENV['HOST'] %>.lan", "gpu1.lan"),
    ],
)
def test_variables_are_read(value: str, host: str) -> None:
    """In either way that the original's configs write them, quoted or not."""
    config = load_config(f"servers:\n  big:\n    host: {value}\n", env=ENV)
    assert config.servers["big"].host == host


def test_numbers_are_numbers() -> None:
    """A default without quotes, and a variable that holds one."""
    text = "servers:\n  a:\n    host: x\n    port: <%= ENV['PORT'] || 80 %>\n    priority: <%= ENV.fetch('P', 7) %>\n"
    server = load_config(text, env=ENV).servers["a"]
    assert (server.port, server.priority) == (1234, 7)


@pytest.mark.parametrize(
    "tag",
    [
        "<%= Rails.env %>",
        "<%= `id` %>",
        "<%= ENV['A'] + 'b' %>",
        "<%= ENV['A'].presence || 'b' %>",
        "<%= ENV.fetch('A') { 'b' } %>",
        "<% if ENV['A'] %>",
        "<%= ENV['A'] || \"#{1}\" %>",
        "<%= ENV['A'] || '${B}' %>",
        "<%= ENV['A']",
    ],
)
def test_anything_else_is_a_problem_with_its_line_and_what_to_write(tag: str) -> None:
    """Nothing is guessed, and nothing of it becomes a value."""
    with pytest.raises(ConfigError) as caught:
        load_config(f"servers:\n  a:\n    host: {tag}\n", env=ENV)
    (problem,) = caught.value.problems
    assert problem.line == 3
    assert "${NAME:-default}" in problem.message


def test_comments_are_left_alone() -> None:
    """Of YAML and of ERB; lines stay where they are."""
    text = "# <%= Rails.env %>\n<%# a\nb %>\nservers: {a: {host: x}} # <% x %>\nservrs: 1\n"
    with pytest.raises(ConfigError) as caught:
        load_config(text)
    assert [problem.line for problem in caught.value.problems] == [5]


def test_an_unset_variable_without_a_default_is_named() -> None:
    """As with ${NAME}: `fetch` insists, an index is empty."""
    with pytest.raises(ConfigError, match="NONE is not set"):
        load_config("servers: {a: {host: x}}\ndatabase_url: <%= ENV.fetch('NONE') %>\n")


@given(text=st.text(alphabet="<%=>#' \"\nENV[]x", max_size=60))
def test_any_text_is_read_to_its_end(text: str) -> None:
    """Lines are kept, and a text without tags is itself."""
    replaced, _ = without_erb(text)
    assert replaced.count("\n") == text.count("\n")
    assert "<%" in text or replaced == text
