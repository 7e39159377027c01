"""OpenAI's dialect of `/v1/responses`, without server-side state."""
