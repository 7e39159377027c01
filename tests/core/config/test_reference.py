"""The reference of settings is made from the settings."""

from __future__ import annotations

from pathlib import Path

from ollama_router_core.config import Setting, load_config, render_reference, settings_reference


def test_a_setting_has_path_type_default_and_meaning():
    """Paths are as in a file, types in words, defaults as YAML."""
    settings = {setting.path: setting for setting in settings_reference()}
    assert settings["servers.<name>.max_memory_gb"] == Setting(
        path="servers.<name>.max_memory_gb",
        type="a number above 0, or null",
        default="null",
        description="Largest model (GiB, context included) to place here; null sets no limit.",
    )
    assert settings["servers.<name>.host"].default is None
    assert settings["model_config.memory_patterns[].pattern"].type == "a regular expression"
    assert settings["logging.max_size"].default == "100MB"
    assert settings["proxy_port"].type == "a whole number from 1 to 65535"


def test_every_setting_says_what_it_means():
    """No key is without a description, and no path is there twice."""
    settings = list(settings_reference())
    assert all(setting.description.endswith(".") for setting in settings)
    assert len({setting.path for setting in settings}) == len(settings)


def test_defaults_are_values_a_file_may_hold():
    """Writing each scalar default into a file changes nothing."""
    lines = ["servers: {a: {host: h}}"]
    top = [setting for setting in settings_reference() if "." not in setting.path and setting.path != "servers"]
    lines += [f"{setting.path}: {setting.default}" for setting in top]
    assert load_config("\n".join(lines)) == load_config(lines[0])


def test_the_page_has_a_row_for_each_setting():
    """`render_reference` is the table in the documentation."""
    rows = render_reference().splitlines()
    assert len(rows) == 2 + len(list(settings_reference()))


def test_the_documentation_holds_the_table_as_it_is():
    """`docs/reference/settings.md` has what `render_reference()` returns; `python docs/generate.py` writes it there."""
    page = Path(__file__).parents[3] / "docs" / "reference" / "settings.md"
    assert "\n\n" + render_reference() in page.read_text(encoding="utf-8")
