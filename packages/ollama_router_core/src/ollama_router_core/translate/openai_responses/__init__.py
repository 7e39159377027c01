"""OpenAI's dialect of `/v1/responses`, without the state that its servers keep."""
