"""Datagrams as the binary messages of WebSocket connections (RFC 6455), without an event loop.

Rule: what parses is bytes in and bytes out, and knows no socket: :mod:`~stt_backends.websocket.proxy`,
:mod:`~stt_backends.websocket.tls`, :mod:`~stt_backends.websocket.upgrade` and
:mod:`~stt_backends.websocket.framing`, in the order a connection meets them.
:class:`~stt_backends.websocket.link.Link` puts them on a non-blocking socket,
:class:`~stt_backends.websocket.hub.Hub` holds an endpoint's links and whoever knocks.
"""
