"""A certificate authority that nobody is, so that no certificate is ever believed. Pure.

In TLS 1.3 a server may leave a client's key aside and show a certificate instead, and stunnel
believes any, unless it is told to ask an authority. So it is told to ask this one, whose public key
is random bytes: nobody knows the private key that would belong to them. With the right key, no
certificate is shown, and nobody is asked.
"""

from __future__ import annotations

import base64

__all__ = ["trust_anchor"]

_SEQUENCE, _SET, _OBJECT, _INTEGER, _BITS, _TEXT, _TIME = 0x30, 0x31, 6, 2, 3, 0x0C, 0x17


def trust_anchor(public_key: bytes) -> str:
    """Makes a certificate, in PEM.

    Args:
        public_key: 32 random bytes, in the place of an Ed25519 key.
    """
    algorithm = _der(_SEQUENCE, _der(_OBJECT, bytes([0x2B, 0x65, 0x70])))  # 1.3.101.112, Ed25519
    common_name = _der(_OBJECT, bytes([0x55, 4, 3]))  # 2.5.4.3
    name = _der(_SEQUENCE, _der(_SET, _der(_SEQUENCE, common_name, _der(_TEXT, b"nobody"))))
    times = _der(_SEQUENCE, _der(_TIME, b"500101000000Z"), _der(_TIME, b"491231235959Z"))
    key = _der(_SEQUENCE, algorithm, _der(_BITS, b"\0" + public_key))
    number = _der(_INTEGER, b"\1")
    body = _der(_SEQUENCE, number, algorithm, name, times, name, key)
    no_signature = _der(_BITS, bytes(65))  # an authority's own is not looked at
    certificate = base64.encodebytes(_der(_SEQUENCE, body, algorithm, no_signature)).decode()
    return f"-----BEGIN CERTIFICATE-----\n{certificate}-----END CERTIFICATE-----\n"


def _der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = bytes([len(body)]) if len(body) < 0x80 else bytes([0x81, len(body)])
    return bytes([tag]) + size + body
