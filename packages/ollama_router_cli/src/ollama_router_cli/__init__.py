"""`orouter`: run and query ollama-router from the command line."""
