"""Probes: a server that hangs is out in time, one that comes back is not believed at once. On a fake clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.probes import FALL, RISE, ProbeState

DEFAULTS = Config()
PROMISED = 32.0


def seconds_until_out(pulse, hangs_at, timeout):
    """How long after it began to hang a server is out, when it hung at a moment between two probes."""
    now = 0.0
    pulse.passed()
    while pulse.up:
        now += pulse.pause
        if now < hangs_at:
            pulse.passed()
        else:
            now += timeout
            pulse.failed(refused=False)
    return now - hangs_at


@given(hangs_at=st.floats(0.001, 100.0), phase=st.floats(-1.0, 1.0))
def test_a_server_that_hangs_is_out_within_32_seconds(hangs_at, phase):
    """By default, at whatever moment it begins; the formula of the docstring is the bound."""
    interval = DEFAULTS.health_check_interval * (1 + 0.1 * phase)
    seconds = seconds_until_out(ProbeState(interval), hangs_at, DEFAULTS.probe_timeout)
    assert seconds <= 1.1 * DEFAULTS.health_check_interval + FALL * DEFAULTS.probe_timeout + 2.0 + 1e-6
    assert seconds <= PROMISED


def test_one_that_answers_twice_in_three_is_not_put_out():
    """Only failures in a row count."""
    pulse = ProbeState(10.0)
    pulse.passed()
    for _ in range(50):
        pulse.failed(refused=False)
        pulse.failed(refused=False)
        pulse.passed()
    assert pulse.up


def test_a_refused_connection_is_enough():
    """Nobody is there: no need to ask thrice."""
    pulse = ProbeState(10.0)
    pulse.passed()
    pulse.failed(refused=True)
    assert pulse.up is False


def test_the_first_finding_is_believed():
    """Whichever it is: a router that starts must not wait."""
    up, down = ProbeState(10.0), ProbeState(10.0)
    up.passed()
    down.failed(refused=False)
    assert (up.up, down.up) == (True, False)


def test_is_back_after_two_in_a_row():
    """A server that answers every other probe stays out."""
    pulse = ProbeState(10.0)
    pulse.failed(refused=True)
    for _ in range(10):
        pulse.passed()
        assert pulse.up is False
        pulse.failed(refused=False)
    for _ in range(RISE):
        pulse.passed()
    assert pulse.up


def test_what_is_in_doubt_is_asked_again_within_a_second():
    """And what is down every five."""
    pulse = ProbeState(10.0)
    pulse.passed()
    assert pulse.pause == 10.0
    pulse.failed(refused=False)
    assert pulse.pause == 1.0
    pulse.failed(refused=True)
    assert pulse.pause == 5.0
    pulse.passed()
    assert pulse.pause == 1.0
