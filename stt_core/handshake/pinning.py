"""What pins say of a peer that has proven to hold the seed, and perhaps an identity.

Rule: only an identity that outlives its process is pinned, and only under a name that it chose: an id derived from the
key is checked against it already. Whoever is pinned is never again let in without that key, and where the store can't
tell, nobody is.
"""

from __future__ import annotations

from stt_core.errors import ConnectError, PeerKeyError, StoreError
from stt_core.handshake.identity import claims_key
from stt_core.handshake.sealed import SealedContent
from stt_core.pins import PinStore


def pin_error(pins: PinStore | None, peer: SealedContent) -> ConnectError | None:
    """Pin the peer's identity where it is new; why it is to be refused, None where it isn't."""
    if pins is None or claims_key(peer.node_id):
        return None
    found = peer.identity_key
    try:
        pinned = pins.pin(peer.node_id, found) if found and peer.identity_kept else pins.pinned(peer.node_id)
    except StoreError as error:
        return ConnectError(f"nobody is let in while it isn't known whose identity is pinned: {error}")
    if pinned is None or pinned == found:
        return None
    shown = repr(peer.node_id)[1:]
    what = "none" if found is None else "another"
    return PeerKeyError(
        f"the peer {shown} holds the seed, but the identity pinned for it is {pinned.hex()}, and it has {what}: if it "
        "was set up anew, take out the pin yourself",
        node_id=peer.node_id,
        expected=pinned,
        found=found,
    )
