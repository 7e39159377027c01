"""OpenAI's dialect: chat completions and the older completions of a plain prompt."""
