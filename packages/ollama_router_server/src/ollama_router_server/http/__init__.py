"""The strict HTTP/1.1 front: an asyncio protocol on httptools, run by uvicorn."""
