"""Which session to ask for a piece of content: the pool, its hash of likeness, and its index.

What the chapter has under "Content-Affinity Session Pooling".

Rule: affinity orders sessions that are authenticated already. It never says that a peer holds something, or that it
is to be trusted.
"""

from __future__ import annotations

from stt_core.affinity.likeness import affinity_hash
from stt_core.affinity.pool import ContentAffinityPool, Metric, PooledSession, PoolStatistics, ProviderSource

__all__ = ["ContentAffinityPool", "Metric", "PoolStatistics", "PooledSession", "ProviderSource", "affinity_hash"]
