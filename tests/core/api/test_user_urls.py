"""Addresses that lead inside a network are recognised however they are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.api.user_urls import leads_inside


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.0.0.1",
        "http://0177.0.0.1/",
        "http://0/",
        "HTTP://LOCALHOST:8080/",
        "http://localhost./",
        "http://gpu-box/x.png",
        f"https://{'a.' * 200}example.org/",
        "http://metadata.google.internal/computeMetadata",
        "http://169.254.169.254/latest/meta-data",
        "http://10.1.2.3",
        "http://192.168.1.1:11434/api/tags",
        "http://172.16.0.1",
        "http://100.64.0.1",
        "http://[::1]/",
        "http://[fe80::1%25eth0]/",
        "http://[fd00::1]",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://user:password@127.0.0.1/",
        "http://example.org@127.0.0.1/",
        "http:127.0.0.1/",
        "http:\\\\127.0.0.1\\x",
        "ht\ntp://127.0.0.1/",
        " http://127.0.0.1/",
        "http://%31%32%37.0.0.1/",
        "http://127\u30020\u30020\u30021/",
        "http://\uff11\uff12\uff17.0.0.1/",
        "http://224.0.0.1/",
        "http://nas.local/",
        "file:///etc/passwd",
        "FILE:/etc/passwd",
        "ftp://example.org/x",
        "gopher://example.org/",
        "s3://bucket/key",
        "//127.0.0.1/x",
        "http://",
        "http:///x",
    ],
)
def test_what_leads_inside(url: str) -> None:
    """Loopback, private, link-local and bare names, and every scheme but http, https and data."""
    assert leads_inside(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/cat.png",
        "http://example.org:8080/x?y=127.0.0.1",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]/",
        "data:image/png;base64,iVBORw0KGgo=",
        "iVBORw0KGgoAAAANSUhEUg==",
        "/9j/4AAQSkZJRg==",
        "https://xn--bcher-kva.example.org/",
        "https://localhost.example.org/",
    ],
)
def test_what_does_not(url: str) -> None:
    """Public addresses, and data itself."""
    assert not leads_inside(url)


@given(st.integers(0, 2**32 - 1))
def test_an_address_is_judged_alike_in_every_spelling(number: int) -> None:
    """The law: dotted, as one number, in hexadecimal and octal, within IPv6."""
    dotted = ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
    octal = ".".join(f"0{number >> shift & 255:o}" for shift in (24, 16, 8, 0))
    spellings = [dotted, str(number), hex(number), octal, f"[::ffff:{dotted}]"]
    assert len({leads_inside(f"http://{host}/") for host in spellings}) == 1
