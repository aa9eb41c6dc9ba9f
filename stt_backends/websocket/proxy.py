"""A tunnel through an HTTP proxy (CONNECT: RFC 9110 section 9.3.6), with Basic authentication (RFC 7617).

Rule: the password goes to the proxy and nowhere else: into no message, log or repr.
"""

from __future__ import annotations

import h11

from stt_backends.websocket.errors import UpgradeFailed
from stt_backends.websocket.head import Head
from stt_backends.websocket.url import ProxyUrl, bracketed


class Tunnel:
    """Asks ``proxy`` for a connection to ``host`` and ``port``; ``request`` is what to send."""

    def __init__(self, proxy: ProxyUrl, host: str, port: int) -> None:
        self._proxy = proxy
        self._authority = f"{bracketed(host)}:{port}"
        self._head = Head()
        self._http = h11.Connection(h11.CLIENT)
        headers = [("Host", self._authority)]
        if proxy.authorization:
            headers.append(("Proxy-Authorization", proxy.authorization.decode("ascii")))
        request = self._http.send(h11.Request(method="CONNECT", target=self._authority, headers=headers))
        self.request: bytes = (request or b"") + (self._http.send(h11.EndOfMessage()) or b"")

    def receive_untrusted(self, data: bytes) -> bytes | None:
        """Add what has arrived; what came through the tunnel behind the proxy's answer, once that is whole.

        :raises Violation: an :class:`~stt_backends.websocket.errors.UpgradeFailed` that says what the proxy said.
        """
        try:
            found = self._head.feed(data)
            if found is None:
                return None
            self._http.receive_data(found[0])
            answer = self._http.next_event()
        except (h11.RemoteProtocolError, ValueError, OverflowError) as error:
            raise UpgradeFailed(f"the proxy {self._proxy} gave no proper answer to CONNECT: {error}") from None
        if not isinstance(answer, h11.Response):
            raise UpgradeFailed(f"the proxy {self._proxy} gave no proper answer to CONNECT")
        if not 200 <= answer.status_code < 300:
            raise UpgradeFailed(self._refusal(answer.status_code), answer.status_code)
        return found[1]

    def _refusal(self, status: int) -> str:
        if status == 407:
            wrong = "refused the user and password in its URL" if self._proxy.authorization else "wants a user"
            advice = "give it as http://user:password@host:port"
            return f"the proxy {self._proxy} {wrong} (407): {advice}"
        if status in (403, 405):
            return f"the proxy {self._proxy} doesn't allow connections to {self._authority} ({status})"
        if status in (502, 503, 504):
            return f"the proxy {self._proxy} can't reach {self._authority} ({status})"
        return f"the proxy {self._proxy} answered CONNECT {self._authority} with HTTP status {status}"
