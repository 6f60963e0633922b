"""The nginx of docs/how-to/serve.md before a running service with keys: what it passes on, and what it refuses."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from tests.docs import pages
from tests.search.conftest import Shop
from tests.service.conftest import start_server

pytestmark = pytest.mark.slow
SECONDS = 30


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A file of keys, and the key in it."""
    from shopwindow.service.auth import add_key

    file = tmp_path_factory.mktemp("keys") / "keys"
    return file, add_key(str(file), "shop-frontend")


@pytest.fixture(scope="module")
def address(shop: Shop, key: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an nginx that is set as the page says, but for names, port and certificate."""
    nginx, openssl = shutil.which("nginx", path="/usr/sbin:/usr/bin"), shutil.which("openssl")
    if nginx is None or openssl is None:
        pytest.skip("no nginx and openssl here")
    folder = tmp_path_factory.mktemp("nginx")
    names = [str(folder / "shop.key"), str(folder / "shop.pem")]
    made = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=shop.example",
    ]
    subprocess.run([*made, "-keyout", names[0], "-out", names[1]], check=True, capture_output=True)
    service = start_server("shopwindow", "serve", str(shop.index), "--port", "0", "--keys", str(key[0]))
    try:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        (snippet,) = pages.fenced((pages.DOCS / "how-to" / "serve.md").read_text(encoding="utf-8"), "nginx")
        for written, here in (
            ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
            ("/etc/ssl/shop.key", names[0]),
            ("/etc/ssl/shop.pem", names[1]),
            ("http://127.0.0.1:8000", service.url.rstrip("/")),
        ):
            assert written in snippet
            snippet = snippet.replace(written, here)
        temporary = "".join(
            f"{kind}_temp_path {folder / kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        settings = folder / "nginx.conf"
        settings.write_text(
            f"daemon off; master_process off; pid {folder / 'pid'}; error_log {folder / 'errors'};\n"
            f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{snippet}}}\n"
        )
        tried = subprocess.run(
            [nginx, "-t", "-c", str(settings)], check=False, capture_output=True, text=True
        )
        assert tried.returncode == 0, tried.stderr
        assert "warn" not in tried.stderr
        proxy = subprocess.Popen([nginx, "-c", str(settings)], stderr=subprocess.DEVNULL)
        try:
            wait_for(port)
            yield port
        finally:
            proxy.terminate()
            proxy.wait(SECONDS)
    finally:
        service.end()


def wait_for(port: int) -> None:
    end = time.monotonic() + SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def ask(
    port: int, method: str, path: str, *, key: str | None = None, body: bytes | None = None, **headers: str
) -> tuple[int, bytes]:
    """The status and the body of one request."""
    connection = HTTPSConnection("127.0.0.1", port, timeout=SECONDS, context=ssl._create_unverified_context())
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        sent["Authorization"] = f"Bearer {key}"
    try:
        connection.request(method, path, body, sent)
        got = connection.getresponse()
        return got.status, got.read()
    finally:
        connection.close()


def test_a_request_with_a_key_reaches_the_service_and_one_without_is_refused(
    address: int, key: tuple[Path, str]
) -> None:
    status, body = ask(address, "GET", "/search?q=red&k=3", key=key[1])
    assert status == 200
    assert b'"hits"' in body
    assert ask(address, "GET", "/search?q=red&k=3")[0] == 401
    assert ask(address, "HEAD", "/search?q=red&k=3", key=key[1]) == (200, b"")
    assert ask(address, "GET", "/readyz")[0] == 200


def test_what_is_too_large_is_refused_by_nginx(address: int, key: tuple[Path, str]) -> None:
    large = {"key": key[1], "body": b"x" * 300_000, "Content_Type": "application/json"}
    assert ask(address, "POST", "/search", **large)[0] == 413  # type: ignore[arg-type] # by name
    assert ask(address, "GET", "/search?q=red", key=key[1], X_Long="x" * 40_000)[0] == 400


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze here")
    (unit,) = pages.fenced((pages.DOCS / "how-to" / "serve.md").read_text(encoding="utf-8"), "ini")
    installed = "/opt/shopwindow/.venv/bin/shopwindow"
    assert installed in unit
    file = tmp_path / "shopwindow.service"
    file.write_text(unit.replace(installed, "/bin/true"))
    tried = subprocess.run([program, "verify", str(file)], check=False, capture_output=True, text=True)
    assert (tried.returncode, tried.stderr) == (0, "")
