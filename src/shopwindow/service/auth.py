"""Who may ask? API keys, and the middleware that asks for one before anything is parsed.

A key is 32 random bytes, shown once, kept as its SHA-256 and compared in constant time. A keys file has one line a
key: its name, white space, the hash in hex; `#` begins a comment. Knows no endpoint but those that are public.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from shopwindow.files import DataError, alone, text_lines, whole_file
from shopwindow.service.problems import Problem

_LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_WAIT_SECONDS: Final = 5.0


@dataclass(frozen=True)
class KeyRing:
    """The keys that are accepted, as (name, hash) of each. An empty one accepts none."""

    hashes: tuple[tuple[str, str], ...]

    def name_of(self, key: str) -> str | None:
        """The name of a key, None when it is unknown. Takes the same time whichever key matches.

        >>> ring = KeyRing((("shop", hash_of("open sesame")),))
        >>> ring.name_of("open sesame"), ring.name_of("open")
        ('shop', None)
        """
        wanted = hash_of(key)
        matching = [name for name, known in self.hashes if hmac.compare_digest(wanted, known)]
        return matching[-1] if matching else None


def hash_of(key: str) -> str:
    """The SHA-256 of a key, in hex."""
    return hashlib.sha256(key.encode("utf-8", errors="surrogatepass")).hexdigest()


def read_keys(path: str | os.PathLike[str]) -> KeyRing:
    """The keys of a keys file.

    Raises: DataError naming the line that is no name and hash, or a file without a key.
    """
    hashes = [pair for _, pair in _lines(path) if pair is not None]
    if not hashes:
        raise DataError("holds no key; `shopwindow key NAME --keys FILE` makes one", path=path)
    return KeyRing(tuple(hashes))


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[str, tuple[str, str] | None]]:
    """Each line, and its name and hash, None of a line that has a comment only. Raises: DataError."""
    for number, line in text_lines(path):
        fields = line.split("#")[0].split()
        if fields and (len(fields) != 2 or not _NAME.fullmatch(fields[0]) or not _HASH.fullmatch(fields[1])):
            raise DataError("not a name and a SHA-256 in hex", path=path, line=number)
        yield line, (fields[0], fields[1]) if fields else None


def add_key(path: str | os.PathLike[str], name: str) -> str:
    """A new key, whose hash is added to a keys file. The key itself is kept nowhere.

    Waits some seconds for another process that is adding one.

    Raises: DataError for a file that is no keys file. ValueError for a name that is taken or has other characters
    than letters, digits, `_`, `.`, `-`.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"a key's name has letters, digits, _ . - and at most 64 of them, not {name!r}")
    file = Path(path)
    with alone(file, wait_seconds=_WAIT_SECONDS):
        before = list(_lines(file)) if file.exists() else []  # a file of others is not written to
        lines = [line for line, _ in before]
        if name in {pair[0] for _, pair in before if pair is not None}:
            raise ValueError(f"{file} has a key {name} already; remove its line first")
        key = secrets.token_urlsafe(32)
        with whole_file(file) as partial:
            text = "".join(f"{line}\n" for line in [*lines, f"{name} {hash_of(key)}"])
            partial.write_text(text, encoding="utf-8")
            partial.chmod(0o600)
    return key


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine only. A name other than localhost does not count, whatever it means.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "example.org")]
    [True, True, True, False, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_public(path: str) -> bool:
    """Whether a path needs no key and no place among the requests inside: the page without its contents, the probes."""
    return path in ("/", "/docs", "/healthz", "/readyz", "/favicon.ico") or path.startswith("/page/")


class AuthMiddleware:
    """Lets a request in by its key, or raises a Problem.

    `keys`: whose keys are accepted. None accepts everybody who speaks to this machine by a loopback name. A foreign
    name that was made to point here could carry a web page's requests past the browser's rules.
    """

    def __init__(self, app: ASGIApp, keys: KeyRing | None) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on. Raises: Problem."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if self._keys is None:
                _check_host(headers.get("host", ""))
            elif not is_public(scope["path"]):
                scope["state"]["key_name"] = _key_name(self._keys, headers.get("authorization", ""))
        await self._app(scope, receive, send)


def _check_host(host: str) -> None:
    name = host if host.endswith("]") else host.rsplit(":", 1)[0]
    if name.lower() not in _LOOPBACK_NAMES:
        raise Problem(421, "misdirected-request", "this service answers to loopback names only")


def _key_name(keys: KeyRing, authorization: str) -> str:
    scheme, _, key = authorization.partition(" ")
    name = keys.name_of(key.strip()) if scheme.lower() == "bearer" else None
    if name is None:
        detail = "an API key is needed: Authorization: Bearer KEY"
        raise Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
    return name
