"""``ws://`` and ``wss://`` URLs (RFC 6455 section 3), and those of proxies."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Final, TypeGuard
from urllib.parse import SplitResult, unquote, urlsplit

from stt_core.errors import ConfigurationError

SCHEMES: Final = {"ws": 80, "wss": 443}
PROXY_SCHEMES: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class WebSocketUrl:
    """Where a WebSocket is: ``host`` without brackets, in ASCII; ``target`` is the path with the query."""

    secure: bool
    host: str
    port: int
    target: str

    def __str__(self) -> str:
        return f"{'wss' if self.secure else 'ws'}://{self.authority}{self.target}"

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them; the scheme's own port is left out."""
        host = bracketed(self.host)
        return host if self.port == SCHEMES["wss" if self.secure else "ws"] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ProxyUrl:
    """An HTTP proxy; ``authorization`` is the value of Proxy-Authorization, or empty. Its repr shows no secret.

    One that is ``secure`` is spoken to by TLS.
    """

    host: str
    port: int
    authorization: bytes = field(default=b"", repr=False)
    secure: bool = False

    def __str__(self) -> str:
        return f"{'https' if self.secure else 'http'}://{bracketed(self.host)}:{self.port}"


def is_url(address: object) -> TypeGuard[str]:
    """Whether somebody means a URL, be it a right one or not, and no ``(host, port)``."""
    return isinstance(address, str) and "://" in address


def bracketed(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def parse_url(url: str) -> WebSocketUrl:
    """Take a WebSocket's URL apart.

    :raises ConfigurationError: if it is none, or says what a WebSocket's may not: a user, a fragment.
    """
    parts = _split("the address", url)
    if parts.scheme not in SCHEMES:
        raise ConfigurationError(f"the address is {url!r}, expected ws://host:port/path or wss://host:port/path")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("the address holds a user or a password, expected none: STT knows nodes by the seed")
    if parts.fragment:
        raise ConfigurationError(f"the address is {url!r}, expected no fragment ('#'; RFC 6455 section 3)")
    target = check_target("the address", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
    return WebSocketUrl(
        parts.scheme == "wss", _host("the address", parts), _port(parts) or SCHEMES[parts.scheme], target
    )


def parse_proxy(url: str) -> ProxyUrl:
    """Take ``http://user:password@host:port`` or ``https`` apart; user and password, percent-encoded, may be left out.

    :raises ConfigurationError: if it is no such URL. The message never shows it: it may hold a password.
    """
    parts = _split("proxy", url, secret=True)
    if parts.scheme not in PROXY_SCHEMES:
        raise ConfigurationError(
            f"proxy is a {parts.scheme or 'nameless'} URL, expected http://user:password@host:port, or https"
        )
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigurationError("proxy has a path, expected http://user:password@host:port alone")
    authorization = b""
    if parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "")
        if ":" in user:
            raise ConfigurationError("proxy: its user has a colon in it, and Basic authentication can't say that")
        authorization = b"Basic " + b64encode(f"{user}:{password}".encode())  # RFC 7617 section 2
    port = _port(parts) or PROXY_SCHEMES[parts.scheme]
    return ProxyUrl(_host("proxy", parts), port, authorization, parts.scheme == "https")


def check_target(setting: str, target: str) -> str:
    """A path, with or without a query, as it stands in a request.

    :raises ConfigurationError: naming ``setting``.
    """
    if not target.startswith("/") or "#" in target or not all("!" <= char <= "~" for char in target):
        raise ConfigurationError(f"{setting}: the path is {target!r}, expected printable ASCII that begins with '/'")
    return target


def _split(setting: str, url: str, *, secret: bool = False) -> SplitResult:
    try:
        if any(char <= " " or char == "\x7f" for char in url):
            raise ValueError("there is a space or a control character in it")
        parts = urlsplit(url)
        if parts.port == 0:
            raise ValueError("its port is 0")
    except ValueError as error:
        raise ConfigurationError(f"{setting} {'' if secret else f'is {url!r}, which '}is no URL: {error}") from None
    return parts


def _port(parts: SplitResult) -> int | None:
    return parts.port


def _host(setting: str, parts: SplitResult) -> str:
    host = parts.hostname or ""
    try:
        return host.encode("idna").decode("ascii") if host and ":" not in host else host or _no_host(setting)
    except UnicodeError:
        raise ConfigurationError(f"{setting}: {host!r} is no host name") from None


def _no_host(setting: str) -> str:
    raise ConfigurationError(f"{setting} names no host")
