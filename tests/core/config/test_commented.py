"""What `orouter config reference` prints."""

from __future__ import annotations

import re

from ollama_router_core.config import Config, load_config, render_commented, settings_reference


def test_every_setting_is_in_it_with_its_meaning():
    """Each key of a file stands in it, below its description."""
    text = render_commented()
    words = " ".join(re.sub(r"(?m)^ *#", "", text).split())
    for setting in settings_reference():
        key = re.split(r"[.\]]", setting.path)[-1]
        assert re.search(rf"(?m)^ *#?(- )?{key}:", text), setting.path
        assert " ".join(setting.description.split()) in words, setting.path


def test_it_loads_when_uncommented():
    """Taking away every # gives a file that loads, with every default as it is."""
    config = load_config(re.sub(r"(?m)^( *)#(\S)", r"\1\2", render_commented()))
    assert set(config.servers) == {"big"}
    assert set(config.external_hosts) == {"openai"}
    models = config.models.model_copy(
        update={"explicit_assignments": {}, "memory_overrides": {}, "memory_patterns": (), "rules": ()}
    )
    ways = {"files": (), "dns": (), "resolver": None, "mdns": None, "kubernetes": Config().discovery.kubernetes}
    discovery = config.discovery.model_copy(update=ways)
    shown = {"servers": {}, "external_hosts": {}, "models": models, "discovery": discovery}
    assert config.model_copy(update=shown) == Config()
