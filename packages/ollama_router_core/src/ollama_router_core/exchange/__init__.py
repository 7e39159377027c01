"""The life cycle of one request, as a state machine without I/O.

A driver starts an `Exchange`, performs the actions that it yields (`actions`) and resumes it with each result until no
action is left. An external event that ends the request, such as a client disconnect, is an interruption (`events`). The
machine waits only where an action has to wait.
"""
