"""Operations on models belong to the router: they outlive who began them and the process that carries them out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator, StreamError, model
from support.eventually import eventually, eventually_async
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

SMALL = "llama3.2:3b"
NEW = "qwen3:8b"


async def begun(client: httpx.AsyncClient, **asked: Any) -> str:
    """Begin an operation; its id."""
    answer = await client.post("/router/operations", json=asked)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def ended(client: httpx.AsyncClient, operation_id: str) -> dict[str, Any]:
    """The operation once it is over."""
    view: dict[str, Any] = {}

    async def is_over() -> bool:
        nonlocal view
        view = (await client.get(f"/router/operations/{operation_id}")).json()
        return view["finished_at"] is not None

    await eventually_async(is_over)
    return view


def states(view: dict[str, Any]) -> dict[str, str]:
    """What became of it, server by server."""
    return {one["server"]: one["state"] for one in view["targets"]}


async def test_a_pull_to_three_servers_names_the_one_whose_disk_is_full(tmp_path: Path) -> None:
    """The others have the model; trying again asks only the one that failed."""
    async with (
        OllamaSimulator(models=[SMALL], registry=[NEW]) as one,
        OllamaSimulator(models=[SMALL], registry=[NEW]) as two,
        OllamaSimulator(models=[SMALL], registry=[NEW]) as full,
        running_router(
            tmp_path, {"one": server_entry(one), "two": server_entry(two), "full": server_entry(full)}
        ) as router,
        router.client(router.admin_token) as admin,
    ):
        full.misbehave(StreamError(message="write: no space left on device"), path="/api/pull", times=1)
        view = await ended(admin, await begun(admin, kind="pull", model=NEW, servers="all"))
        assert view["state"] == "partly"
        assert states(view) == {"one": "done", "two": "done", "full": "failed"}
        (failed,) = [target for target in view["targets"] if target["state"] == "failed"]
        assert "no space left on device" in failed["error"]
        (done, _) = [target for target in view["targets"] if target["state"] == "done"]
        assert done["completed"] == done["total"] > 0
        again = (await admin.post(f"/router/operations/{view['id']}/retry")).json()
        assert states(await ended(admin, again["id"])) == {"full": "done"}
        await eventually(
            lambda: all(NEW in (facts.installed or {}) for facts in router.services.fleet.snapshot.servers.values())
        )


async def test_a_cancelled_pull_closes_its_connections(tmp_path: Path) -> None:
    """The server sees the client go; what is not done is cancelled, and the row says so."""
    async with (
        OllamaSimulator(models=[SMALL], registry=[NEW], time_scale=1.0) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        operation_id = await begun(admin, kind="pull", model=NEW, servers="one")
        await eventually(lambda: bool(sim.requests_to("/api/pull")))
        assert (await admin.delete(f"/router/operations/{operation_id}")).status_code == 200
        view = await ended(admin, operation_id)
        assert (view["state"], states(view)) == ("cancelled", {"one": "cancelled"})
        await eventually(lambda: sim.requests_to("/api/pull")[0].aborted)
        assert (await admin.delete(f"/router/operations/{operation_id}")).json()["code"] == "operation_over"


async def test_an_operation_goes_on_after_a_restart(tmp_path: Path) -> None:
    """The next process takes it over, asks the servers that are not done, and ends it."""
    async with OllamaSimulator(models=[SMALL], registry=[NEW], time_scale=1.0) as sim:
        async with (
            running_router(tmp_path, {"one": server_entry(sim)}) as first,
            first.client(first.admin_token) as admin,
        ):
            operation_id = await begun(admin, kind="pull", model=NEW, servers="one")
            await eventually(lambda: bool(sim.requests_to("/api/pull")))
        sim.time_scale = 0.001
        async with second_router(tmp_path, sim) as second, second.client(second.admin_token) as admin:
            view = await ended(admin, operation_id)
        assert (view["state"], states(view)) == ("done", {"one": "done"})
        assert len(sim.requests_to("/api/pull")) == 2


def second_router(folder: Path, sim: OllamaSimulator) -> Any:
    """A router on the database that another has left."""
    return running_router(folder, {"one": server_entry(sim)}, fresh=False)


async def test_models_are_loaded_unloaded_copied_and_deleted(tmp_path: Path) -> None:
    """Each where it is said, or where the model is; the audit trail has who and what."""
    async with (
        OllamaSimulator(models=[model(SMALL)]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
    ):
        await done(admin, kind="load", model=SMALL, context=2048)
        assert sim.loaded == [SMALL]
        await done(admin, kind="unload", model=SMALL)
        assert sim.loaded == []
        await done(admin, kind="copy", model=SMALL, destination="small:latest", servers="one")
        await eventually(lambda: "small:latest" in known(router))
        await done(admin, kind="delete", model="small")
        await eventually(lambda: "small:latest" not in known(router))
        trail = (await admin.get("/router/audit?action=operation")).json()["entries"]
        assert [entry["detail"]["kind"] for entry in trail] == ["delete", "copy", "unload", "load"]
        assert {entry["actor"] for entry in trail} == {"root"}


async def done(client: httpx.AsyncClient, **asked: Any) -> None:
    """Carry out an operation to its end."""
    view = await ended(client, await begun(client, **asked))
    assert view["state"] == "done", view


def known(router: RunningRouter) -> set[str]:
    """The models that the router knows."""
    facts = router.services.fleet.snapshot.servers.values()
    return {name for one in facts for name in one.installed or {}}


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"kind": "pull", "model": NEW, "servers": "nobody"}, 400, "nobody"),
        ({"kind": "unload", "model": SMALL}, 404, "in memory"),
        ({"kind": "delete", "model": "none:1b"}, 404, "none:1b"),
        ({"kind": "copy", "model": SMALL}, 400, "destination"),
        ({"kind": "pull", "model": NEW, "destination": "x"}, 400, "destination"),
        ({"kind": "burn", "model": SMALL}, 400, "kind"),
    ],
)
async def test_what_cannot_be_done_is_refused_at_once(
    tmp_path: Path, asked: dict[str, Any], status: int, words: str
) -> None:
    """With a text that says why, and without a row."""
    async with (
        OllamaSimulator(models=[SMALL]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
        router.client() as alice,
    ):
        answer = await admin.post("/router/operations", json=asked)
        assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text
        assert (await admin.get("/router/operations")).json() == {"operations": []}
        assert (await alice.post("/router/operations", json=asked)).status_code == 403


async def test_whoever_deletes_a_model_learns_who_used_it(tmp_path: Path) -> None:
    """Users of the last week, those with most requests first."""
    async with (
        OllamaSimulator(models=[SMALL]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client(router.admin_token) as admin,
        router.client() as alice,
    ):
        for client in (alice, alice, admin):
            await client.post("/api/generate", json={"model": SMALL, "prompt": "hi", "stream": False})
        await router.rows(3)
        found = (await admin.get("/router/usage/users", params={"model": SMALL})).json()
        assert found["users"] == [{"name": "alice", "requests": 2}, {"name": "root", "requests": 1}]
