"""`orouter`: run and question ollama-router from the command line."""
