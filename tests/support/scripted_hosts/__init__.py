"""Hosts of the four dialects whose model does what the prompt says, for tests with clients that are not ours.

A host reads requests by its own provider's rules, not by the router's code, and refuses with 400 what that provider
refuses. It remembers what it understood. The model obeys one directive in the latest turn of the user::

    [[say pong]]                                   answer with that text
    [[call Bash {"command": "echo 42"}]]           call that tool; the next answer repeats what it gave
    [[look]]                                       name the images of the conversation by type and digest
    [[recall]]                                     repeat what the user said first and what was answered
    [[recite 2000]]                                as many words, each in a piece of its own
    [[forever]]                                    words until the client leaves

Without one the answer is `ok`.
"""

from __future__ import annotations

from support.scripted_hosts.host import Dialect, ScriptedHost
from support.scripted_hosts.script import Picture, Seen, recited

__all__ = ["Dialect", "Picture", "ScriptedHost", "Seen", "recited"]
