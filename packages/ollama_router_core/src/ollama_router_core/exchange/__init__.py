"""The way of one request, as a machine without I/O.

`serving.serve` is the list of its steps. A driver starts an `Exchange`, carries out the actions that it yields
(`actions`), and resumes it with what came of each, until there are none left. What ends a request from outside, such as
the client's leaving, is an interruption (`events`). The machine waits only where an action has to.
"""
