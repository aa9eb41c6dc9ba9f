"""What :meth:`extra` tells of a session and its streams, through whatever wraps them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

from anyio import TypedAttributeSet, typed_attribute
from anyio.abc import SocketAttribute

from stt_backends.adapter.session import BaseSession
from stt_backends.adapter.stream import BaseStream


class STTAttribute(TypedAttributeSet):
    """Attributes of sessions and streams, besides anyio's own ``SocketAttribute`` (addresses, ports and family)."""

    session_id: bytes = typed_attribute()
    """8 bytes, the same on both sides."""
    peer_node_id: bytes = typed_attribute()
    """The label the peer gave itself."""
    peer_identity_key: bytes = typed_attribute()
    """The peer's proven Ed25519 key; only there where it has one."""
    stream_id: int = typed_attribute()
    """Of streams only."""
    purpose: str = typed_attribute()
    """Of streams only: what whoever opened it said that it is for."""


def of_session(session: BaseSession[Any, Any]) -> Mapping[Any, Callable[[], Any]]:
    """What a session answers."""
    attributes: dict[Any, Callable[[], Any]] = {
        STTAttribute.session_id: lambda: session.session_id,
        STTAttribute.peer_node_id: lambda: session.peer_node_id,
        SocketAttribute.local_address: lambda: session.node.address[:2],
        SocketAttribute.local_port: lambda: session.node.port,
        SocketAttribute.remote_address: lambda: _remote(session)[:2],
        SocketAttribute.remote_port: lambda: _remote(session)[1],
        SocketAttribute.family: lambda: _family(session),
    }
    key = session.peer_identity_key
    if key is not None:
        attributes[STTAttribute.peer_identity_key] = lambda: key
    return attributes


def of_stream(stream: BaseStream) -> Mapping[Any, Callable[[], Any]]:
    """What a stream answers: what its session does, and who it is itself."""
    return {
        **of_session(stream.session),
        STTAttribute.stream_id: lambda: stream.stream_id,
        STTAttribute.purpose: lambda: stream.purpose,
    }


def _remote(session: BaseSession[Any, Any]) -> tuple[Any, ...]:
    address: Any = session.path.address  # to the core it is anything; to us what a socket takes
    return tuple(address)


def _family(session: BaseSession[Any, Any]) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in str(_remote(session)[0]) else socket.AF_INET
