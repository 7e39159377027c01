"""The router's own certificate."""

from __future__ import annotations

import ssl
from contextlib import suppress

from ollama_router_core.config.settings import Tls
from ollama_router_core.errors import ConfigError

__all__ = ["check_certificate", "trust_in"]


def check_certificate(tls: Tls) -> None:
    """Check the certificate and its key at the start: uvicorn would fail on bad ones with a traceback.

    Raises:
        ConfigError: the files cannot be read, or the key does not match the certificate.
    """
    if tls.certificate is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key)
        except (OSError, ssl.SSLError) as error:
            files = tls.certificate if tls.key is None else f"{tls.certificate} with {tls.key}"
            raise ConfigError(f"tls: cannot use {files}: {error.strerror or error}") from None
    elif tls.key is not None:
        raise ConfigError("tls: a key needs a certificate")


def trust_in(certificate: str) -> ssl.SSLContext:
    """Return a client context that trusts only the certificate in this file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    with suppress(OSError):  # reported as a certificate that cannot be verified
        context.load_verify_locations(certificate)
    return context
