"""CryptoSessionContinuity: what :class:`BaseContinuity` knows, and the wait."""

from __future__ import annotations

from typing import Any

from stt_anyio.node import STTNode
from stt_anyio.session import STTSession
from stt_backends.adapter.connecting import address_for
from stt_backends.adapter.continuity import BaseContinuity


class CryptoSessionContinuity(BaseContinuity[STTNode, STTSession]):
    """Sessions that are named by seeds; see :class:`BaseContinuity` (chapter, "Cryptographic Session Continuity")."""

    async def resume_session(
        self,
        resume_token: bytes,
        new_transport_type: str,
        new_peer_addr: tuple[Any, ...] | str,
        stc_wrapper: STTNode | None = None,
        *,
        timeout: float | None = None,
    ) -> STTSession:
        """Go on with that session by ``"udp"`` or ``"websocket"``, with its peer at ``new_peer_addr`` now.

        The session's ``resumed`` says how much goes on, as from :meth:`STTNode.resume`: ``"full"`` where this process
        has its streams; ``"identity"`` from another device, or after a restart, and whoever had the session until then
        sees it end as ``superseded``; ``"no"`` where the peer doesn't know us any more, or the token is too old.
        ``stc_wrapper`` is the node to resume it at, by default the one this was made with.

        :raises ConfigurationError: if the token is damaged or belongs to another seed; otherwise as
            :meth:`STTNode.connect`.
        """
        node = self.node if stc_wrapper is None else stc_wrapper
        plan = self._plan(resume_token, node)
        peer = plan.peer_node_id
        if plan.afresh:
            address = address_for(new_peer_addr, new_transport_type)
            return self._keep(plan, await node.connect(address, peer, timeout=timeout))
        session = await node.resume(
            plan.token, new_peer_addr, peer, transport=new_transport_type, timeout=timeout, takeover=True
        )
        return self._keep(plan, session)
