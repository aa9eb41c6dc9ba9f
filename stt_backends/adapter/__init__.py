"""What the adapters have in common: everything about nodes, sessions and streams that can be said without ``await``.

Rule: no room here waits, imports an event loop or knows which one runs. An adapter's classes inherit from these, so
that sharing costs no call, and add the waits: parking lots, cancel scopes, checkpoints, task groups. What they wait
for, and what is true when the wait is over, stands here.
"""
