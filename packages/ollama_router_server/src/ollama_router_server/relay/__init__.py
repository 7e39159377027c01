"""The data plane: relay a client's request to a server and stream the response back."""
