"""The data plane: from a client's request to a server's answer, byte by byte."""
