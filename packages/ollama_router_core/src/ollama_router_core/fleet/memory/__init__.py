"""The memory that a model needs on a server, with the source of each number.

All sizes are bytes; GiB means 1024^3 bytes.
"""
