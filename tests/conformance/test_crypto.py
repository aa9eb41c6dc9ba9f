"""Every crypto provider in the tree, put through the conformance suite one check at a time."""

from __future__ import annotations

import pytest

from stt_backends.pyca import PycaCrypto
from tests.conformance import crypto_suite
from tests.conformance.crypto_suite import PROMISES, VECTORS, Check
from tests.core.toy import ToyCrypto


def name(check: Check) -> str:
    return check.__name__


@pytest.mark.parametrize("check", PROMISES + VECTORS, ids=name)
def test_pyca(check: Check) -> None:
    check(PycaCrypto())


# The toy's ciphers and signatures are its own, so it has promises to keep but no published results to give.
@pytest.mark.parametrize("check", PROMISES, ids=name)
def test_toy(check: Check) -> None:
    check(ToyCrypto())


def test_suite_has_no_check_it_does_not_run() -> None:
    checks = {
        value
        for value in vars(crypto_suite).values()
        if getattr(value, "__module__", None) == crypto_suite.__name__
        and getattr(value, "__annotations__", None) == {"crypto": "Crypto", "return": "None"}
    }
    assert checks - {crypto_suite.check_crypto} == set(PROMISES + VECTORS)
