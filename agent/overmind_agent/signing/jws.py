"""
Signatures as JSON Web Signatures in their compact form, with the work that is signed as their payload.

The library, joserfc, is an extra and is imported when a signature is made or checked.

Source:
    RFC 7515; RFC 9864 for the name of the algorithm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from overmind_agent.signing.keys import HS256, Key, UnusableKey
from overmind_executors import strict_json

VERSION: Final = 1
KIND: Final = "overmind-job+jws"
EXPIRES: Final = "expires_at"
_VERSION: Final = "version"
_HEADER: Final = frozenset({"alg", "kid", "typ"})


class NotSigned(Exception):
    """What should be a signature is none that can be believed; the message says why."""


def sign(claims: Mapping[str, Any], key: Key, key_name: str, *, expires_at: int) -> str:
    """
    A signature of *claims*.

    Args:
        key_name: under which whoever checks it knows the key.
        expires_at: until when it is believed, seconds since 1970.

    Raises:
        UnusableKey: the file holds no key that one can sign with.
    """
    from joserfc import jws

    payload = strict_json.canonical({**claims, EXPIRES: expires_at, _VERSION: VERSION})
    header = {"alg": key.algorithm, "kid": key_name, "typ": KIND}
    return str(jws.serialize_compact(header, payload, _imported(key), algorithms=[key.algorithm]))


def signed(token: str, key_of: Callable[[str], Key]) -> tuple[str, int, Mapping[str, Any]]:
    """
    What *token* says once its signature was found to be right: the key's name, until when, and the claims.

    Args:
        key_of: the key of a name; raises UnusableKey when there is none.

    Raises:
        NotSigned: it is no signature of one of these keys.
    """
    from joserfc import jws
    from joserfc.errors import JoseError

    try:
        header = jws.extract_compact(_ascii(token)).headers()
        key_name = _key_name(header)
        key = key_of(key_name)
        checked = jws.deserialize_compact(token, _imported(key), algorithms=[key.algorithm])
        claims = strict_json.loads(bytes(checked.payload))
    except (JoseError, UnusableKey, strict_json.NotJson, ValueError) as error:
        raise NotSigned(_in_words(error)) from error
    if not isinstance(claims, dict) or claims.pop(_VERSION, None) != VERSION:
        raise NotSigned(f"it is not of version {VERSION}")
    expires_at = claims.pop(EXPIRES, None)
    if not isinstance(expires_at, int) or isinstance(expires_at, bool):
        raise NotSigned("it does not say until when it is good")
    return key_name, expires_at, claims


def _ascii(token: str) -> bytes:
    if not token.isascii():
        raise NotSigned("it is not a JSON Web Signature")
    return token.encode("ascii")


def _key_name(header: Mapping[str, Any]) -> str:
    """What no header of ours has is refused, too: it may change what the rest means."""
    name = header.get("kid")
    if set(header) != _HEADER or header["typ"] != KIND or not isinstance(name, str):
        raise NotSigned("its header is not one of a job's signature")
    return name


def _imported(key: Key) -> Any:
    from joserfc.errors import JoseError
    from joserfc.jwk import OctKey, OKPKey

    try:
        return OctKey.import_key(key.content) if key.algorithm == HS256 else OKPKey.import_key(key.content)
    except (JoseError, ValueError) as error:
        raise UnusableKey("the file holds no key of Ed25519") from error


def _in_words(error: Exception) -> str:
    if isinstance(error, UnusableKey | NotSigned):
        return str(error)
    return f"the signature is not right ({type(error).__name__})"
