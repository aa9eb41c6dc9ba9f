"""The whole way from a seed to packet keys, written down a second time, as plainly as it can be.

Rule: nothing of ``stt_core`` is imported here. ``python -m tests.core.key_schedule_reference`` prints what
``tests/vectors/key_schedule.json`` holds; the tests compare that file with this page and with the real code. Whoever
writes another implementation checks it against the file.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256, sha512
from hmac import new as hmac_new

P = 2**255 - 19
A = 486662


def hmac256(key: bytes, message: bytes) -> bytes:
    return hmac_new(key, message, sha256).digest()


def prepend_len(part: bytes) -> bytes:
    length, prefix = len(part), b""
    while length >= 128:
        prefix += bytes([length % 128 + 128])
        length //= 128
    return prefix + bytes([length]) + part


def x(prk: bytes, label: str, context: bytes = b"") -> bytes:
    info = prepend_len(b"STT1 " + label.encode()) + prepend_len(context)
    return hmac256(prk, info + b"\x01")


def cpace_generator(password: bytes, channel_id: bytes, session_id: bytes) -> bytes:
    head = prepend_len(b"CPace255") + prepend_len(password)
    text = head + prepend_len(bytes(max(0, 127 - len(head)))) + prepend_len(channel_id) + prepend_len(session_id)
    r = int.from_bytes(sha512(text).digest()[:32], "little") % 2**255
    v = -A * pow(1 + 2 * r * r, P - 2, P) % P
    epsilon = pow(v**3 + A * v**2 + v, (P - 1) // 2, P)
    return ((epsilon * v - (1 - epsilon) * A * pow(2, P - 2, P)) % P).to_bytes(32, "little")


def multiply(scalar: bytes, point: bytes) -> bytes:
    """X25519 by the textbook formulas for doubling and adding x-coordinates, one after the other."""
    k = (int.from_bytes(scalar, "little") % 2**255 | 2**254) // 8 * 8
    u = int.from_bytes(point, "little") % 2**255 % P
    low, high = (1, 0), (u, 1)
    for bit in bin(k)[2:]:
        both = _add(low, high, u)
        low, high = (both, _double(high)) if bit == "1" else (_double(low), both)
    return (low[0] * pow(low[1], P - 2, P) % P).to_bytes(32, "little")


def _double(p: tuple[int, int]) -> tuple[int, int]:
    x1, z1 = p
    return (x1 * x1 - z1 * z1) ** 2 % P, 4 * x1 * z1 * (x1 * x1 + A * x1 * z1 + z1 * z1) % P


def _add(p: tuple[int, int], q: tuple[int, int], difference: int) -> tuple[int, int]:
    (x1, z1), (x2, z2) = p, q
    return (x1 * x2 - z1 * z2) ** 2 % P, difference * (x1 * z2 - z1 * x2) ** 2 % P


def inputs() -> dict[str, bytes]:
    """Made-up values; the messages are short stand-ins for the real ones, which is all the hashes care about."""
    return {
        "seed": b"correct-horse-battery-staple",
        "responder_node_id": b"Bob-67890",
        "nonce_i": bytes(range(32)),
        "nonce_r": bytes(range(32, 64)),
        "scalar_i": bytes(range(64, 96)),
        "scalar_r": bytes(range(96, 128)),
        "hello": b"HELLO, all of it".ljust(256, b"\x00"),
        "challenge_89": b"the first 89 bytes of CHALLENGE",
        "auth_proof_without_ta": b"AUTH_PROOF without the bytes 206 to 238",
        "final_without_tb": b"FINAL without the bytes 22 to 54",
        "rpsk": bytes(range(128, 160)),
        "cid": bytes.fromhex("0123456789abcdef"),
    }


def handshake(given: dict[str, bytes]) -> dict[str, bytes]:
    out = {"ci": prepend_len(b"STT1") + prepend_len(given["responder_node_id"])}
    out["ci_unnamed"] = prepend_len(b"STT1") + prepend_len(b"")
    sid = given["nonce_i"] + given["nonce_r"]
    g = out["generator"] = cpace_generator(given["seed"], out["ci"], sid)
    ya = out["share_i"] = multiply(given["scalar_i"], g)
    yb = out["share_r"] = multiply(given["scalar_r"], g)
    point = multiply(given["scalar_i"], yb)
    assert point == multiply(given["scalar_r"], ya)
    text = b"".join(map(prepend_len, (b"CPace255_ISK", sid, point, ya, b"i", yb, b"r")))
    isk = out["isk"] = sha512(text).digest()

    def th(n: int, *parts: bytes) -> bytes:
        return sha256(b"".join(map(prepend_len, (b"STT1 th%d" % n, *parts)))).digest()

    out["th1"] = th(1, given["hello"], given["challenge_89"])
    hs = hmac256(out["th1"], isk)
    out |= {"confirm_i": x(hs, "confirm i"), "confirm_r": x(hs, "confirm r")}
    out |= {"sealed_i": x(hs, "hs key i"), "sealed_r": x(hs, "hs key r")}
    out["th2"] = th(2, out["th1"], given["auth_proof_without_ta"])
    out["ta"] = hmac256(out["confirm_i"], prepend_len(out["th2"]))
    out["th3"] = th(3, out["th2"], out["ta"], given["final_without_tb"])
    out["tb"] = hmac256(out["confirm_r"], prepend_len(out["th3"]))
    out["master"] = x(x(hs, "master"), "traffic master", out["th3"])
    out["master_resumed"] = hmac256(out["master"], given["rpsk"])
    return out


def session(master: bytes, cid: bytes) -> dict[str, bytes]:
    out = {}
    for side in "ir":
        secret = x(master, f"traffic {side}")
        for phase in (0, 1):
            out[f"traffic_{side}_{phase}"] = secret
            out[f"key_{side}_{phase}"] = x(secret, "key")
            out[f"iv_{side}_{phase}"] = x(secret, "iv")[:12]
            secret = x(secret, "update")
    out |= {name.replace(" ", "_"): x(master, name) for name in ("pn mask", "resumption", "exporter")}
    for side in "ir":
        digest = hmac256(out["pn_mask"], side.encode() + cid)
        out[f"mask_{side}"] = digest[:4]
        out[f"phase_mask_{side}"] = bytes([digest[4] % 2])
    return out


def vectors() -> dict[str, dict[str, str]]:
    """Everything, in hexadecimal, by section and name."""
    given = inputs()
    keys = handshake(given)
    sections = {"inputs": given, "handshake": keys, "session": session(keys["master"], given["cid"])}
    return {section: {name: value.hex() for name, value in values.items()} for section, values in sections.items()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(vectors(), indent=1) + "\n")
