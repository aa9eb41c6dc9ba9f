"""Two hosts and a router between them, as network namespaces: real interfaces, real addresses, a real MTU on each link.

    host A  eth0 ── left  router  right ── eth0  host B

Rule: every namespace bears this process's id in its name, and :meth:`Network.close` removes all of them, whatever
happened before; what runs inside is ended by whoever started it. Links take their addresses and devices along when
their namespace goes.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from stt_backends.udp import UdpSocket

A4, A6 = "10.77.1.1", "fd77:1::1"
B4, B6 = "10.77.2.1", "fd77:2::1"
ROUTER_A4 = "10.77.1.254"
"""The router's address on host A's side: where a relay listens."""
JUMBO = 9000
"""The MTU of a link that carries jumbo frames."""

Place = Literal["a", "router", "b"]

_CLONE_NEWNET = 0x40000000
_SEARCH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
_serial = itertools.count()


def check_tools() -> None:
    """Whether namespaces can be made here.

    :raises RuntimeError: saying what is missing, and how to get it.
    """
    if shutil.which("ip", path=_SEARCH) is None:
        raise RuntimeError("these tests make network namespaces with `ip`, which isn't here: install iproute2")
    if os.geteuid() != 0:
        raise RuntimeError(
            "these tests make network namespaces, which only root may: run them as root, "
            "or the rest without them (pytest --ignore tests/netns)"
        )


class Network:
    """The three namespaces, with IPv4 and IPv6 and routes between the hosts; every link has ``mtu`` at first."""

    def __init__(self, mtu: int = 1500) -> None:
        tag = f"stt-{os.getpid()}-{next(_serial)}"
        self._names: dict[Place, str] = {"a": f"{tag}-a", "router": f"{tag}-router", "b": f"{tag}-b"}
        self._sockets: list[UdpSocket] = []
        try:
            self._make(mtu)
        except BaseException:
            self.close()
            raise

    def _make(self, mtu: int) -> None:
        a, router, b = self._names.values()
        _ip(*(f"netns add {name}" for name in (a, router, b)))
        ends: tuple[tuple[Place, str, str, int], ...] = (("a", a, "left", 1), ("b", b, "right", 2))
        for place, host, device, net in ends:
            _ip(f"link add {device} netns {router} mtu {mtu} type veth peer name eth0 netns {host} mtu {mtu}")
            self.ip(
                "router",
                f"addr add 10.77.{net}.254/24 dev {device}",
                f"addr add fd77:{net}::ff/64 dev {device} nodad",
                f"link set {device} up",
            )
            self.ip(
                place,
                "link set lo up",
                f"addr add 10.77.{net}.1/24 dev eth0",
                f"addr add fd77:{net}::1/64 dev eth0 nodad",
                "link set eth0 up",
                f"route add default via 10.77.{net}.254",
                f"route add fd77::/16 via fd77:{net}::ff",
            )
        self.set_sysctl("router", "net/ipv4/ip_forward", "1")
        self.set_sysctl("router", "net/ipv6/conf/all/forwarding", "1")

    def close(self) -> None:
        """Close the sockets made here and remove the namespaces, those that there are."""
        for sock in self._sockets:
            sock.close()
        for name in self._names.values():
            if Path("/run/netns", name).exists():
                _ip(f"netns del {name}")

    def prefix(self, place: Place) -> list[str]:
        """The command that runs another one there, under its own process id."""
        return [_program(), "netns", "exec", self._names[place]]

    def ip(self, place: Place, *commands: str) -> None:
        """Run ``ip`` commands there, without the word ``ip``."""
        _ip(*commands, namespace=self._names[place])

    def set_mtu(self, place: Place, device: str, mtu: int) -> None:
        """Change the MTU of one end of a link. An end drops larger packets that arrive, and tells nobody."""
        self.ip(place, f"link set {device} mtu {mtu}")

    def segment_late(self) -> None:
        """Let the router cut segmented batches apart before its interfaces judge each packet by its size."""
        for device in ("left", "right"):
            self.ip("router", f"link set {device} gso_max_segs 1")

    def set_sysctl(self, place: Place, name: str, value: str) -> None:
        with self.inside(place):
            Path("/proc/sys", name).write_text(value)

    @contextmanager
    def inside(self, place: Place) -> Iterator[None]:
        """This thread is there for the length of the block: a socket made in it stays there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            there = os.open(f"/run/netns/{self._names[place]}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _enter(there)
                try:
                    yield
                finally:
                    _enter(home)
            finally:
                os.close(there)
        finally:
            os.close(home)

    def socket(self, place: Place, bind_address: str, port: int = 0, **settings: Any) -> UdpSocket:
        """A socket of that host's, closed with the network."""
        with self.inside(place):
            self._sockets.append(UdpSocket(bind_address, port, **settings))
        return self._sockets[-1]


def _enter(namespace: int) -> None:
    # os.setns is there from Python 3.12 on.
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _program() -> str:
    return shutil.which("ip", path=_SEARCH) or "ip"


def _ip(*commands: str, namespace: str | None = None) -> None:
    target = [] if namespace is None else ["-n", namespace]
    done = subprocess.run(
        [_program(), *target, "-batch", "-"], input="\n".join(commands), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"ip {commands}: {done.stderr.strip()}")
