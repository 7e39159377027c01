"""The suite finds what it is there for: every way in which a relay can change an answer, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conformance.by_design import row_for
from conformance.catalogue.building import Exchange, get, raw
from conformance.comparison import compare
from conformance.wire import Answer, Framing

NDJSON = (("content-type", "application/x-ndjson"), ("transfer-encoding", "chunked"))
JSON = (("content-type", "application/json; charset=utf-8"), ("content-length", "9"))
LINES = (b'{"n":1}\n', b'{"n":2}\n', b'{"n":3}\n', b'{"n":4}\n')
PLAIN = get("group", "name", "/api/tags")


def answer(
    *chunks: bytes,
    headers: tuple[tuple[str, str], ...] = JSON,
    status: int = 200,
    framing: Framing = "length",
    reusable: bool = True,
) -> Answer:
    """A complete answer."""
    return Answer(status=status, headers=headers, framing=framing, chunks=chunks, reusable=reusable)


def stream(*chunks: bytes, span: float = 1.0) -> Answer:
    """A complete stream of lines that took so many seconds."""
    return replace(answer(*chunks, headers=NDJSON, framing="chunked"), span=span)


def places(direct: Answer, through: Answer, exchange: Exchange = PLAIN) -> list[str]:
    """Where the two differ."""
    return [difference.where for difference in compare(exchange, [direct], [through])]


def test_the_same_is_the_same() -> None:
    """Nothing is found in equal answers."""
    assert places(answer(b'{"a":[1]}'), answer(b'{"a":[1]}')) == []
    assert places(stream(*LINES), stream(*LINES)) == []


@pytest.mark.parametrize(
    ("through", "place"),
    [
        (answer(b'{"a":[1]}', status=201), "status"),
        (answer(b'{"a":[1]}', framing="chunked"), "framing"),
        (answer(b'{"a":[1]}', headers=(("content-type", "application/json"),)), "header content-type"),
        (answer(b'{"a":[1]}', headers=(*JSON, ("set-cookie", "a=b"))), "header set-cookie"),
        (answer(b'{"a":[1]}', reusable=False), "connection kept"),
        (answer(b'{"a":[2]}'), "body $.a[0]"),
        (answer(b'{"a":[1.0]}'), "body $.a[0]"),
        (answer(b'{"a":[]}'), "body $.a length"),
        (answer(b'{"b":[1]}'), "body $ keys"),
        (answer(b'{"a": [1]}'), "body bytes, same values"),
        (answer(b'{"a":[1]}\n'), "body bytes, same values"),
        (Answer(problem="no answer"), "connection"),
    ],
)
def test_each_change_is_named(through: Answer, place: str) -> None:
    """Status, framing, fields, values, their types, bytes: each has a name of its own."""
    assert place in places(answer(b'{"a":[1]}'), through)


def test_order_of_keys_counts() -> None:
    """A relay that parses and writes anew is found."""
    assert places(answer(b'{"a":1,"b":2}'), answer(b'{"b":2,"a":1}')) == ["body $ keys"]


@pytest.mark.parametrize(
    ("chunks", "place"),
    [
        ((LINES[0] + LINES[1], LINES[2], LINES[3]), "chunks joined"),
        ((b"".join(LINES),), "chunks held back"),
        ((LINES[0][:3], LINES[0][3:], *LINES[1:]), "chunks"),
        ((LINES[0] + LINES[1][:2], LINES[1][2:] + LINES[2], LINES[3]), "chunks"),
        ((*LINES[:3], LINES[3][:-1]), "chunks"),
    ],
)
def test_chunks_may_be_joined_but_not_cut_nor_collected(chunks: tuple[bytes, ...], place: str) -> None:
    """Lines may travel together; a line in two chunks, or a whole stream in one, is wrong."""
    found = places(stream(*LINES), stream(*chunks))
    assert found[0] == place


def test_chunks_of_a_burst_may_all_be_joined() -> None:
    """What the server itself sent in one moment was not held back by anybody."""
    assert places(stream(*LINES, span=0.001), stream(b"".join(LINES)))[0] == "chunks joined"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"created_at":"2026-01-01T00:00:00Z"}', b'{"created_at":"2027-12-31T23:59:59.999Z"}'),
        (b'{"total_duration":1,"eval_count":2}', b'{"total_duration":99999,"eval_count":2}'),
        (b'{"id":"chatcmpl-1","created":5}', b'{"id":"chatcmpl-999","created":6}'),
        (b'{"request_id":"req_1"}', b'{"request_id":"018f"}'),
        (
            rb'{"modelfile":"FROM x\nPARAMETER a \"1\"\nPARAMETER b 2\n","parameters":"a  1\nb  2"}',
            rb'{"modelfile":"FROM x\nPARAMETER b 2\nPARAMETER a \"1\"\n","parameters":"b  2\na  1"}',
        ),
    ],
)
def test_what_changes_by_itself_is_masked(one: bytes, other: bytes) -> None:
    """Times, durations and ids of an answer, and the order of a model's parameters."""
    assert places(answer(one), answer(other)) == []


def test_parameters_themselves_count() -> None:
    """Only their order is Go's."""
    one, other = rb'{"parameters":"a  1\nb  2"}', rb'{"parameters":"b  3\na  1"}'
    assert places(answer(one), answer(other)) == ["body $.parameters"]


def test_a_missing_duration_is_not_masked() -> None:
    """The value is masked, the field is not."""
    assert places(answer(b'{"total_duration":1}'), answer(b"{}")) == ["body $ keys"]


def test_creation_times_in_lists_of_models_count() -> None:
    """There `created` is the model's, not the answer's."""
    models = get("group", "models", "/v1/models")
    assert places(answer(b'{"created":5}'), answer(b'{"created":6}'), models) == ["body $.created"]


def test_names_of_the_run_are_masked() -> None:
    """What was created under another name for each side is the same model."""
    one, other = answer(b'{"model":"x-aaaa"}'), answer(b'{"model":"x-bbbb"}')
    assert compare(PLAIN, [one], [other], nonces=("aaaa", "bbbb")) == []


def test_a_wanted_difference_is_only_wanted_in_its_place() -> None:
    """401 is the answer to nobody's request; for anybody else it is an error."""
    nobody = raw("group", "name", "/api/chat", b"{}", "anonymous")
    direct, through = answer(b"{}"), answer(b'{"error":"who?"}', status=401)
    assert all(row_for(nobody, one, [direct], [through]) for one in compare(nobody, [direct], [through]))
    assert not any(row_for(PLAIN, one, [direct], [through]) for one in compare(PLAIN, [direct], [through]))


def test_a_header_is_only_wanted_where_the_server_has_none() -> None:
    """`X-Router-Server` may be added; a `Cache-Control` of the server's may not be changed."""
    direct = answer(b"{}", headers=(("cache-control", "no-store"),))
    through = answer(b"{}", headers=(("cache-control", "no-cache"), ("x-router-server", "one")))
    judged = {one.where: row_for(PLAIN, one, [direct], [through]) for one in compare(PLAIN, [direct], [through])}
    assert judged["header cache-control"] is None
    assert judged["header x-router-server"] is not None


def test_differences_on_a_reused_connection_say_which_answer() -> None:
    """The second answer of three is named, and by-design rows still apply to it."""
    exchange = Exchange(group="g", name="n", requests=PLAIN.requests * 2)
    first, second = answer(b"{}"), answer(b"{}", headers=(*JSON, ("x-router-server", "one")))
    found = compare(exchange, [first, first], [first, second])
    assert [one.where for one in found] == ["answer 2: header x-router-server"]
    assert row_for(exchange, found[0], [first, first], [first, second]) is not None


def test_an_old_server_may_know_no_405() -> None:
    """404 directly and 405 through the router is wanted for a wrong method, the other way round it is not."""
    exchange = get("group", "name", "/api/tags", "wrong method", method="PUT")
    old, new = answer(b"404 page not found", status=404), answer(b"405 method not allowed", status=405)
    assert all(row_for(exchange, one, [old], [new]) for one in compare(exchange, [old], [new]))
    assert not any(row_for(exchange, one, [new], [old]) for one in compare(exchange, [new], [old]))
