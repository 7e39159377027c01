"""Simulation of a fleet in virtual time with the real decisions.

text of a trace -> `parse_trace` -> `assign_models` -> jobs
machines, models, jobs, a router -> `simulate` -> `summarise` -> `table`, `losses`
"""
