"""Forms have one reading, and what is sent is written from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.api.multipart import Form, Part, parse_form
from ollama_router_core.api.requests import parse_request
from ollama_router_core.errors import AmbiguousKey, InvalidBody, RouterError

TYPE = b"multipart/form-data; boundary=XX"
HEAD = b'Content-Disposition: form-data; name="model"'


def form(*parts: tuple[bytes, bytes]) -> bytes:
    """A body of parts: header fields and content."""
    return b"".join(b"--XX\r\n" + head + b"\r\n\r\n" + data + b"\r\n" for head, data in parts) + b"--XX--\r\n"


def test_a_form_is_read_and_written_as_it_was() -> None:
    """Fields, files and their types survive; the file's bytes do exactly."""
    audio = bytes(range(256)) * 3
    head = b'content-disposition: form-data; name="file"; filename="a b.wav"\r\ncontent-type: audio/wav'
    read = parse_form(TYPE, form((HEAD, b"whisper"), (head, audio)))
    assert read.value("model") == "whisper"
    assert parse_form(read.content_type, read.encode()) == read
    assert read.parts[1] == Part(name="file", data=audio, filename=b"a b.wav", content_type=b"audio/wav")


def test_another_model_changes_only_that_field() -> None:
    """An alias is resolved in forms too."""
    match = match_endpoint("POST", "/v1/audio/transcriptions")
    parsed = parse_request(match, form((HEAD, b"alias"), (b'Content-Disposition: form-data; name="prompt"', b"p")),
                           content_type=TYPE)  # fmt: skip
    changed = parsed.with_model("real:1b")
    assert changed.route.model == "real:1b"
    assert changed.content_type is not None
    read = parse_form(changed.content_type, changed.body)
    assert (read.value("model"), read.value("prompt")) == ("real:1b", "p")


REFUSED = {
    "no boundary": (b"multipart/form-data", form((HEAD, b"m"))),
    "two boundaries": (TYPE + b"; boundary=YY", form((HEAD, b"m"))),
    "urlencoded": (b"application/x-www-form-urlencoded", b"model=m"),
    "a preamble": (TYPE, b"hidden\r\n" + form((HEAD, b"m"))),
    "an epilogue": (TYPE, form((HEAD, b"m")) + b"more"),
    "bare line feeds": (TYPE, form((HEAD, b"m")).replace(b"\r\n", b"\n")),
    "no end": (TYPE, form((HEAD, b"m")).removesuffix(b"--\r\n")),
    "a boundary with blanks after it": (TYPE, form((HEAD, b"m")).replace(b"--XX\r\n", b"--XX \r\n", 1)),
    "quoted-printable": (TYPE, form((HEAD + b"\r\nContent-Transfer-Encoding: quoted-printable", b"=6Dodel"))),
    "an encoded name": (TYPE, form((b"Content-Disposition: form-data; name*=UTF-8''model", b"m"))),
    "a name without quotes": (TYPE, form((b"Content-Disposition: form-data; name=model", b"m"))),
    "an escaped name": (TYPE, form((b'Content-Disposition: form-data; name="mo\\del"', b"m"))),
    "two names": (TYPE, form((HEAD + b'; name="x"', b"m"))),
    "a folded field": (TYPE, form((HEAD + b"\r\n folded", b"m"))),
    "the field twice": (TYPE, form((HEAD + b"\r\n" + HEAD, b"m"))),
    "the model twice": (TYPE, form((HEAD, b"m"), (HEAD, b"other"))),
    "the model in other letters": (TYPE, form((HEAD.replace(b"model", b"Model"), b"m"))),
    "the model as a file": (TYPE, form((HEAD + b'; filename="x"', b"m"))),
    "a model that is not UTF-8": (TYPE, form((HEAD, b"\xff"))),
    "no model": (TYPE, form((HEAD.replace(b"model", b"prompt"), b"m"))),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_servers_might_read_otherwise_is_refused(why: str) -> None:
    """Each of these is one name to one parser and another, or none, to the next."""
    kind, body = REFUSED[why]
    with pytest.raises(RouterError) as caught:
        parse_request(match_endpoint("POST", "/v1/audio/transcriptions"), body, content_type=kind)
    assert caught.value.status_hint == 400


names = st.from_regex(r"[a-z_]{1,12}", fullmatch=True).filter(lambda name: name != "model")


@given(st.lists(st.tuples(names, st.binary(max_size=40)), max_size=5, unique_by=lambda pair: pair[0]))
def test_writing_then_reading_gives_the_same(parts: list[tuple[str, bytes]]) -> None:
    """Whatever the parts hold, as long as it is not the boundary itself."""
    made = Form(boundary=b"XX", parts=tuple(Part(name=name, data=data) for name, data in parts if b"--XX" not in data))
    if made.parts:
        assert parse_form(made.content_type, made.encode()) == made


@given(st.binary(max_size=200), st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(body: bytes, content_type: bytes) -> None:
    """No other error leaves the reading."""
    for kind in (content_type, TYPE):
        try:
            parse_form(kind, b"--XX\r\n" + body)
        except (InvalidBody, AmbiguousKey):
            continue


@pytest.mark.parametrize("blank", [b" ", b"\t", b" \t"])
@pytest.mark.parametrize("head", [b"X:%s\x01", b"Content-Disposition: form-data;%s\x01", b"%s\x01", HEAD + b"%s\x01"])
def test_blanks_before_a_control_character_cost_no_more_than_their_number(head: bytes, blank: bytes) -> None:
    """4 KB of blanks are rejected at once: where two quantifiers match one blank, this takes minutes."""
    with pytest.raises(InvalidBody):
        parse_form(TYPE, form((head % (blank * (4000 // len(blank))), b"whisper")))
    with pytest.raises(InvalidBody):
        parse_form(TYPE + blank * 4000 + b"\x01", form((HEAD, b"whisper")))


def test_blanks_around_a_value_are_no_part_of_it() -> None:
    """A field's value is what is left without blanks on either side."""
    (read,) = parse_form(TYPE, form((HEAD + b"\r\nContent-Type: \t text/plain \t", b"whisper"))).parts
    assert read.content_type == b"text/plain"
