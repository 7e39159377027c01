"""ollama-python: every method that talks to a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sdk.clients import Calls, open_calls
from support.stage import Stage

ollama = pytest.importorskip("ollama")

MODEL = "llama3.1:8b"
HI = [{"role": "user", "content": "say hi"}]
SPOKEN = "word0 word1 word2"
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def _open(stage: Stage, flavour: str, token: str) -> Iterator[Calls]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with open_calls(flavour, ollama.Client, ollama.AsyncClient, host=stage.url, headers=headers) as calls:
        yield calls


@pytest.fixture
def client(stage: Stage, flavour: str) -> Iterator[Calls]:
    """The user alice's client."""
    yield from _open(stage, flavour, stage.token)


@pytest.fixture
def admin(stage: Stage, flavour: str) -> Iterator[Calls]:
    """An admin's client."""
    yield from _open(stage, flavour, stage.admin_token)


def test_list(client: Calls) -> None:
    """The models of both servers, each once."""
    names = [one.model for one in client.call("list").models]
    assert sorted(names) == sorted(set(names))
    assert {MODEL, "nomic-embed-text:latest"} <= set(names)


def test_ps(client: Calls) -> None:
    """What is loaded, with every field the library knows."""
    client.call("generate", model=MODEL)
    loaded = next(one for one in client.call("ps").models if one.model == MODEL)
    assert loaded.size_vram > 0
    assert loaded.context_length > 0
    assert loaded.expires_at is not None


def test_show(client: Calls) -> None:
    """Facts of one model."""
    shown = client.call("show", MODEL)
    assert shown.modelinfo["llama.block_count"] == 32
    assert "tools" in shown.capabilities


def test_chat(client: Calls) -> None:
    """Whole and streamed."""
    whole = client.call("chat", model=MODEL, messages=HI)
    assert (whole.message.content, whole.eval_count, whole.done_reason) == (SPOKEN, 3, "stop")
    pieces = client.collect("chat", model=MODEL, messages=HI, stream=True)
    assert "".join(one.message.content for one in pieces) == SPOKEN
    assert [one.done for one in pieces] == [False, False, False, True]


def test_chat_with_tools_thinking_and_format(client: Calls) -> None:
    """What a chat can ask for beside text."""
    asked = [{"role": "user", "content": "use the weather tool"}]
    called = client.call("chat", model=MODEL, messages=asked, tools=[WEATHER])
    assert called.message.tool_calls[0].function.name == "weather"
    assert client.call("chat", model="qwen3:8b", messages=HI, think=True).message.thinking
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}}
    assert client.call("chat", model=MODEL, messages=HI, format=schema).message.content == '{"age": 1}'


def test_generate(client: Calls) -> None:
    """Whole and streamed, with options, and an image for a model that sees."""
    whole = client.call("generate", model=MODEL, prompt="hi", options={"num_predict": 2}, keep_alive="5m")
    assert (whole.response, whole.done_reason) == ("word0 word1", "length")
    pieces = client.collect("generate", model=MODEL, prompt="hi", stream=True)
    assert "".join(one.response for one in pieces) == SPOKEN
    assert client.call("generate", model="gemma3:12b", prompt="what is this", images=[b"picture"]).response == SPOKEN


def test_load_and_unload(client: Calls, admin: Calls) -> None:
    """An empty prompt loads; with `keep_alive` 0 it unloads, everywhere, for those who may take models from others."""
    assert client.call("generate", model=MODEL).done_reason == "load"
    with pytest.raises(ollama.ResponseError, match="may not unload"):
        client.call("generate", model=MODEL, keep_alive=0)
    assert admin.call("generate", model=MODEL, keep_alive=0).done_reason == "unload"
    assert MODEL not in {one.model for one in client.call("ps").models}


def test_embed(client: Calls) -> None:
    """One text, several texts, and the deprecated method."""
    assert len(client.call("embed", model="nomic-embed-text", input="x").embeddings[0]) == 768
    assert len(client.call("embed", model="nomic-embed-text", input=["x", "y"]).embeddings) == 2
    assert len(client.call("embeddings", model="nomic-embed-text", prompt="x").embedding) == 768


def test_pull(admin: Calls) -> None:
    """Progress ends in success, and the model is there."""
    assert admin.collect("pull", "mistral:7b", stream=True)[-1].status == "success"
    assert admin.call("pull", "mistral:7b").status == "success"
    assert "mistral:7b" in {one.model for one in admin.call("list").models}
    assert admin.call("chat", model="mistral:7b", messages=HI).message.content == SPOKEN


def test_pull_of_what_does_not_exist(admin: Calls) -> None:
    """The error is Ollama's, streamed and whole."""
    with pytest.raises(ollama.ResponseError, match="file does not exist"):
        admin.collect("pull", "nobody/nothing", stream=True)
    with pytest.raises(ollama.ResponseError, match="file does not exist") as caught:
        admin.call("pull", "nobody/nothing")
    assert caught.value.status_code == 500


def test_push(admin: Calls) -> None:
    """Progress ends in success."""
    admin.call("copy", MODEL, "alice/mine")
    assert admin.collect("push", "alice/mine", stream=True)[-1].status == "success"
    assert admin.call("push", "alice/mine").status == "success"
    admin.call("delete", "alice/mine")


def test_create_copy_delete(admin: Calls, flavour: str) -> None:
    """A model made from another one is used under two names, then forgotten."""
    made, copied = f"made-{flavour}", f"copied-{flavour}"
    assert admin.collect("create", model=made, from_=MODEL, system="Be brief.", stream=True)[-1].status == "success"
    assert admin.call("create", model=made, from_=MODEL, system="Be brief.").status == "success"
    assert admin.call("copy", made, copied).status == "success"
    assert admin.call("chat", model=copied, messages=HI).message.content == SPOKEN
    for name in (made, copied):
        assert admin.call("delete", name).status == "success"
    with pytest.raises(ollama.ResponseError, match="not found") as caught:
        admin.call("chat", model=copied, messages=HI)
    assert caught.value.status_code == 404


def test_create_from_a_blob(admin: Calls, flavour: str, tmp_path: Path) -> None:
    """The blob and the model made of it go to one server; a blob that is there is not sent again."""
    weights = tmp_path / "weights.gguf"
    weights.write_bytes(b"GGUF" + flavour.encode() * 50_000)
    digest = admin.call("create_blob", weights)
    assert admin.call("create_blob", weights) == digest
    made = f"from-blob-{flavour}"
    assert admin.call("create", model=made, files={"weights.gguf": digest}).status == "success"
    assert admin.call("chat", model=made, messages=HI).message.content == SPOKEN
    admin.call("delete", made)


def test_errors(client: Calls) -> None:
    """Status and text are Ollama's."""
    for method, options in (
        ("chat", {"messages": HI}),
        ("generate", {"prompt": "hi"}),
        ("embed", {"input": "x"}),
        ("show", {}),
    ):
        with pytest.raises(ollama.ResponseError, match="not found") as caught:
            client.call(method, model="nope", **options)
        assert caught.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="not found"):
        client.collect("chat", model="nope", messages=HI, stream=True)


def test_users_do_not_manage(client: Calls) -> None:
    """What changes a server's models is an admin's."""
    for method, arguments in (
        ("pull", ["mistral:7b"]),
        ("push", [MODEL]),
        ("copy", [MODEL, "other"]),
        ("delete", [MODEL]),
    ):
        with pytest.raises(ollama.ResponseError) as caught:
            client.call(method, *arguments)
        assert caught.value.status_code == 403


def test_nobody_is_refused(stage: Stage, flavour: str) -> None:
    """No token: 401 with a text that says what is missing."""
    with ExitStack() as stack:
        nobody = stack.enter_context(open_calls(flavour, ollama.Client, ollama.AsyncClient, host=stage.url, headers={}))
        with pytest.raises(ollama.ResponseError, match="token") as caught:
            nobody.call("list")
    assert caught.value.status_code == 401


def test_the_key_in_the_environment(stage: Stage, flavour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`OLLAMA_API_KEY` is enough."""
    monkeypatch.setenv("OLLAMA_API_KEY", stage.token)
    with open_calls(flavour, ollama.Client, ollama.AsyncClient, host=stage.url) as client:
        assert client.call("list").models


def test_a_route_of_the_future_is_404(client: Calls) -> None:
    """The library knows routes that are newer than the servers; the text says which version has them."""
    if not hasattr(ollama.Client, "systemone"):
        pytest.skip("this version of the library has no newer route")
    with pytest.raises(ollama.ResponseError, match="needs another version of Ollama") as caught:
        client.call("systemone", model=MODEL, state="x", questions={})
    assert caught.value.status_code == 404
