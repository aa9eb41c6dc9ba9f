"""What a stream may ask to be connected to."""

from __future__ import annotations

import pytest

from stt_core.errors import ConfigurationError, Violation
from stt_core.forwarding import MAX_HOST, PURPOSE, Admission, Refusal, Target, parse_request_untrusted


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("127.0.0.1:6379", "127.0.0.1:6379"),
        ("DB.Example.org:1", "db.example.org:1"),
        ("[2001:DB8:0:0::7]:65535", "[2001:db8::7]:65535"),
        ("my_host-1:80", "my_host-1:80"),
    ],
)
def test_a_target_has_one_spelling(text: str, spelled: str) -> None:
    target = Target.parse(text)
    assert str(target) == spelled
    assert target == Target.parse(spelled)
    assert parse_request_untrusted(target.purpose) == target


@pytest.mark.parametrize(
    "text",
    ["", ":1", "a", "a:", "a:0", "a:01", "a:65536", "a:+1", "a:1 ", " a:1", "::1:80", "[::1]", "[a]:1", "[127.0.0.1]:1",
     "a..b:1", ".a:1", "a.:1", "-a:1", "a b:1", "a/b:1", "bücher:1", "a:\u0661", "a\n:1", "a" * 64 + ":1",
     ".".join(["a" * 60] * 4) + ":1"],
)  # fmt: skip
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Target.parse(text)
    with pytest.raises(Violation):
        parse_request_untrusted(PURPOSE + text)


@pytest.mark.parametrize(
    "purpose", ["", "stt.file", "a:1", "stt.tcp  a:1", "STT.TCP a:1", "stt.tcp A:1", "stt.tcp [0::1]:1"]
)
def test_a_request_in_another_spelling_is_a_violation(purpose: str) -> None:
    with pytest.raises(Violation):
        parse_request_untrusted(purpose)


def test_the_longest_target_fits_a_purpose() -> None:
    host = ".".join(["a" * 59] * 4)
    assert len(host) == MAX_HOST - 1
    assert len(Target(host + "b", 65535).purpose.encode()) <= 255


def test_nothing_is_allowed_but_what_was_and_no_more_at_once_than_was_said() -> None:
    allowed, other = Target.parse("a:1"), Target.parse("a:2")
    assert Admission([], 10).admit(allowed) is Refusal.NOT_ALLOWED
    admission = Admission([allowed], 2)
    assert admission.admit(other) is Refusal.NOT_ALLOWED
    assert [admission.admit(allowed) for _ in range(3)] == [None, None, Refusal.TOO_MANY]
    admission.release()
    assert admission.admit(allowed) is None
    assert admission.now == 2
