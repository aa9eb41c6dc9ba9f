"""TLS contexts of a server and of a client that trusts it, with a certificate made for the occasion."""

from __future__ import annotations

import ssl
from pathlib import Path

from benchmarks.certificates import HOST, make

__all__ = ["HOST", "contexts"]


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and the client's; what they are made of is written into ``folder``."""
    make(folder)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return server, ssl.create_default_context(cafile=folder / "authority.pem")
