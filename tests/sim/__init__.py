"""The laboratory: endpoints and a bad network in one process, under virtual time, all from one seed.

    lab = Lab()
    a, b = lab.endpoint("a"), lab.endpoint("b")
    lab.link(a, b, delay=0.02, jitter=0.005, loss=0.1, reorder=0.05, duplicate=0.02, corrupt=0.01)
    traffic = Traffic(a, b)
    traffic.stream(a, 300_000)
    a.connect(b)
    lab.run_until(traffic.done, timeout=60)
    traffic.check()

A scenario that fails prints its seed and the command that plays it again (``STT_SIM_SEED=... python -m pytest ...``).
"""

from tests.sim.apps import Echo, Reader, Sender, Traffic, payload
from tests.sim.host import App, Host
from tests.sim.lab import Lab, LabFailure, LabTimeout, Sent, seeded_entropy
from tests.sim.links import Link, LinkEnd
from tests.sim.wire import Bottleneck, Conditions, Datagram, Element, Meddler, Switch, change, double, drop, hold

__all__ = [
    "App", "Bottleneck", "Conditions", "Datagram", "Echo", "Element", "Host", "Lab", "LabFailure", "LabTimeout",
    "Link", "LinkEnd", "Meddler", "Reader", "Sender", "Sent", "Switch", "Traffic", "change", "double", "drop", "hold",
    "payload", "seeded_entropy",
]  # fmt: skip
