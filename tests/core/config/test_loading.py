"""Reading config files: values, environments, and every problem at once with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_router_core.config import Config, Problem, Server, dump_config, load_config, read_setting, redacted
from ollama_router_core.config.value_types import TARGET_WORDS
from ollama_router_core.errors import ConfigError
from ollama_router_core.routing.model_placement import Named, read_target

DATA = Path(__file__).parents[2] / "data"
ONE_SERVER = "servers: {a: {host: 10.0.0.1}}\n"


def problems(text: str, *, environment: str = "production", env: dict[str, str] | None = None) -> list[str]:
    """The problems of a text as a person reads them."""
    with pytest.raises(ConfigError) as caught:
        load_config(text, environment=environment, env=env or {})
    return [str(problem) for problem in caught.value.problems]


def test_five_mistakes_are_five_problems():
    """Each mistake is reported once, on its own line (a merged one where it was written), with what was expected."""
    text = (DATA / "five_mistakes.yml").read_text(encoding="utf-8")
    assert problems(text) == [
        'line 7: servers.big.port: expected a whole number from 1 to 65535, got the text "abc"',
        "line 15: servers.small.max_memry_gb: unknown key; did you mean 'max_memory_gb'?",
        'line 16: servers.small.enabled: expected true or false, got the text "yes please"',
        (
            "line 19: model_config.explicit_assignments.llama3: expected the name of a server or an external host; "
            "did you mean 'big'?"
        ),
        (
            "line 21: model_config.memory_patterns[0].pattern: expected a regular expression "
            "without lookarounds and back-references: missing ): (70b"
        ),
    ]


def test_the_error_carries_problems_and_reads_well():
    """`problems` are values; the text lists them all."""
    with pytest.raises(ConfigError) as caught:
        load_config("proxy_port: 0\n" + ONE_SERVER)
    message = "expected a whole number from 1 to 65535, got 0"
    assert caught.value.problems == (Problem(line=1, path="proxy_port", message=message),)
    assert str(caught.value) == f"the configuration has 1 problem:\n  line 1: proxy_port: {message}"
    assert caught.value.code == "config_invalid"


@pytest.mark.parametrize(
    "line",
    [
        "servers: {a: {host: 10.0.0.1, headers: 'Bearer s3cret'}}",
        "servers: {a: {host: 10.0.0.1, headers: {authorization: [s3cret]}}}",
        "console: {public_url: 'https://me:s3cret@llm.example'}",
        "coordination: {url: [s3cret]}",
    ],
)
def test_what_may_be_a_secret_is_not_quoted(line: str):
    """The problem names the setting and what is expected there."""
    (told,) = problems(line if "servers" in line else f"{ONE_SERVER}\n{line}")
    assert "expected" in told
    assert "s3cret" not in told


@pytest.mark.parametrize("word", sorted(TARGET_WORDS))
def test_a_word_for_servers_is_no_server_s_name(word: str):
    """An operation on `all` is one on all servers, whatever they are called."""
    told = f"line 1: servers.{word}: '{word}' is reserved in X-Router-Target; choose another name"
    assert problems(f"servers: {{{word}: {{host: 10.0.0.1}}}}") == [told]
    assert not isinstance(read_target(word, load_config(ONE_SERVER)), Named)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("proxy_port: 80.5", "proxy_port: expected a whole number from 1 to 65535, got 80.5"),
        ("proxy_port: '80'", 'proxy_port: expected a whole number from 1 to 65535, got the text "80"'),
        ("proxy_port:", "proxy_port: expected a whole number from 1 to 65535, got nothing"),
        ("proxy_port: true", "proxy_port: expected a whole number from 1 to 65535, got true"),
        ("request_timeout: soon", 'request_timeout: expected a number of seconds above 0, got the text "soon"'),
        ("request_timeout: 0", "request_timeout: expected a number of seconds above 0, got 0"),
        ("request_timeout: .inf", "request_timeout: expected a number of seconds above 0, got inf"),
        ("proxy_port: 1" + "0" * 40, "proxy_port: expected a whole number from 1 to 65535, got a huge number"),
        ("request_timeout: [1]", "request_timeout: expected a number of seconds above 0, got a list"),
        ("logging: text", 'logging: expected a mapping, got the text "text"'),
        ("logging: {max_files: 0}", "logging.max_files: expected a whole number of at least 1, got 0"),
        ("logging: {max_size: 0MB}", 'logging.max_size: expected a size above 0, such as 100MB, got the text "0MB"'),
        (
            "logging: {level: verbose}",
            'logging.level: expected one of debug, info, warn, warning, error, got the text "verbose"',
        ),
        ("model_config: {memory_patterns: {}}", "model_config.memory_patterns: expected a list, got a mapping"),
        (
            "model_config: {memory_patterns: [{memory_gb: 1}]}",
            "model_config.memory_patterns[0].pattern: missing; expected a regular expression",
        ),
        (
            "model_config: {memory_overrides: {'llama3.1:70b': -1}}",
            'model_config.memory_overrides["llama3.1:70b"]: expected a number of at least 0, got -1',
        ),
        (
            "model_config: {memory_overrides: {70: 1.5}}",
            "model_config.memory_overrides.70: expected text as a key; put it in quotes",
        ),
        (
            "model_config: {memory_overrides: {llama3: 1, 'LLAMA3:latest': 2}}",
            "model_config.memory_overrides[\"LLAMA3:latest\"]: the same model as 'llama3', with a different value",
        ),
        (
            "external_hosts: {x: {host: 'https://user:pw@h'}}",
            "external_hosts.x.host: expected a host name or address alone, without scheme, port, path or user",
        ),
        (
            "external_hosts: {x: {host: 'a:11434'}}",
            "external_hosts.x.host: expected a host name or address alone, without scheme, port, path or user",
        ),
        (
            "external_hosts: {x: {host: h, api_key_env: sk-canary-123}}",
            (
                "external_hosts.x.api_key_env: expected the name of an environment variable that holds the key, "
                "not the key itself"
            ),
        ),
        ("external_hosts: {x: {}}", "external_hosts.x.host: missing; expected a host name or address"),
        ("external_hosts: {x: }", "external_hosts.x: expected a mapping, got nothing"),
        ("external_hosts: {a: {host: h}}", "external_hosts.a: a server has the same name; names must be unique"),
        ("cache_ttl_seconds: 3", "cache_ttl_seconds: unknown key here; did you mean model_config.cache_ttl_seconds?"),
        ("proxyport: 3", "proxyport: unknown key; did you mean 'proxy_port'?"),
        ("port: 3", "port: unknown key; did you mean 'proxy_port'?"),
        ("routing_strategy: &x !thing a", "routing_strategy: the tag '!thing' is not supported"),
        ("proxy_port: !!int abc", "proxy_port: not a value of the YAML type int"),
        ("<<: 5", "expected a mapping, or a list of mappings, to merge with <<"),
        ("? [1]\n: 2", "expected text as a key, got a list or a mapping"),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(line: str, expected: str):
    """The message names the place, what was expected and what was found, without the library's jargon."""
    assert problems(ONE_SERVER + line) == [f"line 2: {expected}"]


def test_an_unknown_key_that_looks_like_nothing_lists_what_is_known():
    """Without a near key, the keys of that very section are listed."""
    (problem,) = problems(ONE_SERVER + "tls:\n  qqq: 1\n")
    assert problem == "line 3: tls.qqq: unknown key; known here: certificate, key"


def test_a_key_written_twice_names_both_lines():
    """YAML libraries let the last one win in silence; a reader cannot know which was meant."""
    assert problems("proxy_port: 1\n" + ONE_SERVER + "proxy_port: 2\n") == [
        "line 3: proxy_port: written twice, first on line 1"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1\nb: 2\n", "line 2: not valid YAML:"),
        ("servers:\n\ta: 1\n", "line 2: not valid YAML: a tab in the indentation, where only spaces may be"),
        ("a: 1\nb: \x00\n", "line 2: not valid YAML: the character #x0000 is not allowed"),
        ("a: 1\n---\nb: 2\n", "line 2: not valid YAML: expected a single document"),
        ("a: *b\n", "line 1: not valid YAML: found undefined alias 'b'"),
        ("a:\n" + "[" * 60, "line 2: not valid YAML: more than 40 levels of nesting"),
        ("a: {port: ${PORT}}", "inside {...} or [...] a ${VARIABLE} needs quotes, or a line of its own"),
        ('a: "\\Uffffffff"', "not valid YAML: an escape or directive has a number out of range"),
        ("x" * 1_100_000, "more than 1048576 characters of text"),
        ("just text", "line 1: expected a mapping of settings or of environments"),
    ],
)
def test_what_is_not_yaml_is_one_problem_with_its_line(text: str, expected: str):
    """Syntax problems are problems wherever they stand."""
    (problem,) = problems(text)
    assert expected in problem


def test_aliases_cannot_grow_without_bound():
    """Nine lines that stand for a billion values are refused, quickly."""
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"{new}: &{new} [{', '.join(['*' + old] * 9)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    text = "production:\n  " + "\n  ".join(lines)
    assert any("more than 50000 values once aliases are resolved" in problem for problem in problems(text))


@pytest.mark.parametrize("text", ["servers: &a {b: *a}", "servers: &a {<<: *a}", "servers: &a [*a]"])
def test_an_alias_within_itself_is_a_problem(text: str):
    """A value that contains itself is reported, not followed."""
    assert any("that refers to itself" in problem for problem in problems(text))


def test_servers_that_cannot_be_meant_are_problems():
    """The router calling itself, one address under two names, nothing enabled."""
    text = "servers:\n  me: {host: localhost}\n  b: {host: H, port: 2}\n  c: {host: h, port: 2}\n"
    assert problems(text) == [
        "line 2: servers.me: the router would call itself, because it listens on port 11434 here; change proxy_port",
        "line 4: servers.c: the same host and port as servers.b; its memory and load would count twice",
    ]
    nothing = "no server and no external host is enabled; the router needs at least one"
    assert problems("proxy_port: 80\n") == [f"line 1: servers: {nothing}"]
    assert problems("servers:\n  a: {host: h, enabled: false}\n") == [f"line 1: servers: {nothing}"]
    assert problems("") == [f"servers: {nothing}"]


def test_a_disabled_server_may_share_an_address():
    """What takes no part in routing contradicts nothing."""
    text = "servers:\n  a: {host: h}\n  b: {host: h, enabled: false}\n  me: {host: localhost, enabled: false}\n"
    assert list(load_config(text).servers) == ["a", "b", "me"]


def test_a_server_on_this_machine_may_have_the_port_of_another_address():
    """Listening on one outer address leaves loopback's port to Ollama."""
    text = "proxy_host: 192.168.1.5\nservers: {a: {host: 127.0.0.1}}\n"
    assert load_config(text).servers["a"] == Server(host="127.0.0.1")
    assert "call itself" in problems(text.replace("192.168.1.5", "0.0.0.0"))[0]


class TestVariables:
    """`${NAME}` and `${NAME:-default}`."""

    def test_a_plain_value_is_typed_after_expansion(self):
        """`${PORT}` with 8080 is a number, as if it had been written."""
        config = load_config(
            ONE_SERVER + "proxy_port: ${PORT}\nlogging:\n  enabled: ${LOG:-off}\n", env={"PORT": "8080"}
        )
        assert (config.proxy_port, config.logging.enabled) == (8080, False)

    def test_a_quoted_value_stays_text(self):
        """Quotes keep their meaning: the text is expanded and stays text."""
        text = ONE_SERVER + "logging: {directory: '${DIR}/1'}\ndatabase_url: \"${N}\"\n"
        config = load_config(text, env={"DIR": "/var", "N": "5"})
        assert (config.logging.directory, config.database_url) == ("/var/1", "5")

    def test_an_unset_variable_without_default_is_a_problem(self):
        """Both variables of one value are named, with what to do."""
        assert problems(ONE_SERVER + "database_url: ${DB_A}${DB_B}\n") == [
            "line 2: database_url: the environment variable DB_A is not set; set it or write ${DB_A:-default}",
            "line 2: database_url: the environment variable DB_B is not set; set it or write ${DB_B:-default}",
        ]

    def test_an_empty_variable_takes_its_default(self):
        """As in a shell."""
        assert load_config(ONE_SERVER + "proxy_port: ${PORT:-81}\n", env={"PORT": ""}).proxy_port == 81

    def test_a_dollar_is_written_twice(self):
        """`$${` is a literal `${`; a lone dollar needs nothing."""
        config = load_config(ONE_SERVER + "logging: {directory: '$a/$${b}'}\n")
        assert config.logging.directory == "$a/${b}"

    @pytest.mark.parametrize("reference", ["${", "${1a}", "${A-b}", "${A:-${B}}", "${}"])
    def test_a_malformed_reference_is_a_problem(self, reference: str):
        """What looks like a reference is never passed on as text."""
        (problem,) = problems(ONE_SERVER + f"database_url: '{reference}'\n", env={"A": "a"})
        assert "expected ${NAME} or ${NAME:-default}" in problem

    def test_a_value_from_the_environment_is_not_shown(self):
        """It may be a secret: the reference is shown in its place."""
        text = ONE_SERVER + "proxy_port: ${CANARY}\nlogging:\n  max_size: ${CANARY}\n"
        found = problems(text, env={"CANARY": "canary-secret"})
        assert len(found) == 2
        assert not any("canary-secret" in problem for problem in found)
        assert "got the value of ${CANARY}" in found[0]

    def test_structure_cannot_come_from_a_variable(self):
        """A value with YAML inside stays one text."""
        text = ONE_SERVER + "database_url: ${V}\n"
        assert load_config(text, env={"V": "{a: 1}\nproxy_port: 1"}).database_url == "{a: 1}\nproxy_port: 1"


class TestEnvironments:
    """Top-level sections, one of which is chosen."""

    TEXT = "default: &d\n  proxy_port: 1\n  servers: {a: {host: h}}\nproduction:\n  <<: *d\n  proxy_port: 2\n"

    def test_the_named_section_is_read(self):
        """Own keys win over merged ones, whole keys at a time."""
        assert load_config(self.TEXT).proxy_port == 2
        assert load_config(self.TEXT, environment="default").proxy_port == 1

    def test_an_unknown_environment_lists_those_there_are(self):
        """Nothing is taken in its place."""
        assert problems(self.TEXT, environment="staging") == [
            "no environment 'staging'; the file has default, production"
        ]

    def test_a_misspelt_setting_alone_is_not_taken_for_an_environment(self):
        """A file with one mapping may be an environment or a mistake: both are said."""
        found = problems("servrs:\n  a: {host: h}\n")
        assert found[1] == "line 1: servrs: unknown key; did you mean 'servers'?"

    def test_nothing_is_merged_unasked(self):
        """`default` is only the home of anchors, as in Rails."""
        assert "no server" in problems(self.TEXT + "test:\n  proxy_port: 3\n", environment="test")[0]

    def test_problems_of_other_sections_are_not_this_ones(self):
        """Only the chosen section must be right."""
        assert load_config(self.TEXT + "test:\n  proxy_port: ${UNSET}\n  bad key: 1\n").proxy_port == 2

    def test_an_empty_environment_is_an_empty_section(self):
        """A key with nothing under it is there, and has no server."""
        assert "no server" in problems(self.TEXT + "test:\n", environment="test")[0]
        assert "no server" in problems("~\n")[0]

    def test_a_section_of_another_kind_is_a_problem(self):
        """YAML's sets are mappings in shape only."""
        assert problems("production: !!set {a}\n") == ["line 1: the tag 'tag:yaml.org,2002:set' is not supported"]

    def test_settings_beside_environments_are_a_problem(self):
        """They would hold nowhere."""
        assert problems("request_timeout: 5\n" + self.TEXT) == [
            "line 1: request_timeout: this setting is outside all environments; move it into one"
        ]

    def test_a_stray_value_beside_environments_is_a_problem(self):
        """A top-level key must be an environment or a setting."""
        assert problems("version: 1\n" + self.TEXT) == ["line 1: version: expected an environment, a mapping"]

    @pytest.mark.parametrize("name", ["production", "staging"])
    def test_an_environment_may_have_any_name(self, name: str):
        """Names are the operator's."""
        assert load_config(self.TEXT.replace("production", name), environment=name).proxy_port == 2

    def test_the_first_of_several_merged_mappings_wins(self):
        """`<<: [*a, *b]` reads as in YAML's own rule."""
        text = "a: &a {proxy_port: 1}\nb: &b {proxy_port: 2, servers: {s: {host: h}}}\np: {<<: [*a, *b]}\n"
        config = load_config(text, environment="p")
        assert (config.proxy_port, list(config.servers)) == (1, ["s"])


def test_a_table_with_only_comments_is_empty():
    """`memory_overrides:` with nothing but comments under it is null in YAML and means none."""
    config = load_config(ONE_SERVER + "external_hosts:\n  # none yet\nmodel_config:\n  memory_overrides:\nlogging:\n")
    assert config == load_config(ONE_SERVER)


def test_brackets_around_an_address_are_taken_off():
    """`[::1]` and `::1` are the same host."""
    assert load_config("servers: {a: {host: '[fd00::1]', port: 1}}").servers["a"].host == "fd00::1"


def test_two_tables_may_hold_one_model_with_one_value():
    """Both spellings of a model may be listed when they say the same."""
    text = ONE_SERVER + "model_config: {memory_overrides: {llama3: 5, 'llama3:latest': 5}}\n"
    assert len(load_config(text).models.memory_overrides) == 2


def test_an_expired_alias_of_the_models_key_is_accepted():
    """`models` is another spelling of `model_config`, but not in the same section."""
    text = ONE_SERVER + "models: {default_memory_gb: 7, explicit_assignments: {m: nobody}}\n"
    assert problems(text)[0].startswith("line 2: models.explicit_assignments.m: expected the name of a server")


def test_the_database_password_is_not_shown():
    """Neither a config's repr nor its redacted dump holds the password."""
    config = Config(servers={}, database_url="postgresql://router:canary@db/x?password=canary&a=b")
    assert "canary" not in repr(config)
    assert "canary" not in dump_config(redacted(config))
    assert "postgresql://router:***@db/x?password=***&a=b" in dump_config(redacted(config))
    assert redacted(Config()) == Config()


@pytest.mark.parametrize(
    "text", ["\x85", "a\u2028b", "\ufeff", "\x00\x7f", "B\u00fcro", "a: b # c", "null", "${X}", "\n "]
)
def test_a_dump_keeps_awkward_texts(text: str):
    """Line separators, control characters, YAML's own signs and references survive a dump and a load."""
    config = load_config(ONE_SERVER).model_copy(update={"database_url": text})
    assert load_config(dump_config(config)).database_url == text


@pytest.mark.parametrize("pattern", ["(?=a)b", r"(a)\\1", "(?<!x)y", "a{1000}{1000}"])
def test_a_pattern_that_needs_backtracking_is_a_problem(pattern: str) -> None:
    """Names of models come from users; what meets them runs in time linear in the name."""
    text = '{"servers": {"a": {"host": "h", "port": 1}}, "model_config": {"memory_patterns": [{"pattern": "%s",'
    with pytest.raises(ConfigError, match="without lookarounds and back-references"):
        load_config((text + ' "memory_gb": 1}]}}') % pattern)


def test_a_pattern_that_no_model_can_match_is_a_problem():
    """It would keep nothing at home, or bound nothing."""
    models = (
        "model_config:\n  local_only: [secret*, library/team/x*]\n"
        "  rules:\n    - {pattern: '[z-a]*', num_ctx: 8192}\n    - {pattern: llama3, num_ctx: 8192}\n"
    )
    assert problems(ONE_SERVER + models) == [
        "line 3: model_config.local_only[1]: this pattern matches no model name",
        "line 5: model_config.rules[0].pattern: this pattern matches no model name",
    ]


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("proxy_port: 11500\nservers: {a: {hots: b}}\n", 11500),
        ("servers: {a: {host: b}\nproxy_port: ${PORT}  # of the machine\n", 11500),
        ("production:\n  proxy_port: 11500\n  servers: [\n", 11500),
        ("production: {\n  proxy_port: 1\nstaging:\n  proxy_port: 2\n", None),
        ("servers: {\nproxy_port:\n", None),
        ("servers: {\nproxy_port: [\n", None),
        ("other_proxy_port: 3\nservers: {\n", None),
    ],
)
def test_one_setting_is_read_from_a_text_with_problems(text: str, port: int | None):
    """Also from what is no YAML, where one line says it and no other does."""
    assert read_setting(text, "proxy_port", env={"PORT": "11500"}) == port
