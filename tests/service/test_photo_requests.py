"""A photo is searched with over HTTP; what is no picture, too large or not taken gets a problem."""

from __future__ import annotations

import io
import json
import logging
import shutil
import struct
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from PIL import Image

from shopwindow.data.dataset import CATALOGUE
from shopwindow.search.building import build_index
from shopwindow.search.engine import SearchEngine
from shopwindow.search.hits import SearchRequest
from shopwindow.service.access_log import log_lines_to
from shopwindow.service.app import Service
from shopwindow.service.limits import BODY_BYTES, Limits
from tests.search.photographed import PhotoShop
from tests.service.running import problem, product_path, running

JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(scope="module")
def client(photo_index: Path) -> Iterator[httpx.Client]:
    limits = Limits(upload_bytes=BODY_BYTES * 4)
    with running(Service(SearchEngine.open(photo_index), limits=limits)) as client:
        yield client


def test_a_photo_finds_what_the_engine_finds(
    client: httpx.Client, photo_index: Path, photo_shop: PhotoShop
) -> None:
    engine = SearchEngine.open(photo_index)
    product_id, path = list(photo_shop.photos.items())[4]
    content = path.read_bytes()
    found = client.post("/search/photo", params={"k": 5}, content=content, headers=JPEG).json()
    wanted = engine.search(SearchRequest(photo=engine.encode_photo(content), k=5))
    assert [hit["product_id"] for hit in found["hits"]] == [hit.product_id for hit in wanted]
    first = found["hits"][0]
    assert (first["product_id"], first["title"]) == (product_id, photo_shop.titles[product_id])
    assert (found["query"], found["unknown_words"]) == ("", [])
    assert client.get(first["photo"]).content == content
    assert client.get(first["href"]).json()["title"] == photo_shop.titles[product_id]


def test_words_and_filters_go_with_a_photo(
    client: httpx.Client, photo_index: Path, photo_shop: PhotoShop
) -> None:
    engine = SearchEngine.open(photo_index)
    content = list(photo_shop.photos.values())[4].read_bytes()
    words = photo_shop.titles[list(photo_shop.titles)[9]]
    text = f"{words} \u7ea2"
    asked: dict[str, str | float] = {"share": 0.8, "where": "Unit_price<=30", "exact": "true"}
    found = client.post("/search/photo", params={"q": text, **asked}, content=content, headers=JPEG).json()
    photo = engine.encode_photo(content)
    wanted = engine.search(SearchRequest(text, photo=photo, share=0.8, k=100))
    passing = [hit for hit in wanted if photo_shop.prices[hit.product_id] <= 30][:24]
    assert [(hit["product_id"], hit["score"]) for hit in found["hits"]] == [
        (hit.product_id, pytest.approx(hit.score, abs=1e-5)) for hit in passing
    ]
    assert found["unknown_words"] == ["\u7ea2"]


def _bomb() -> bytes:
    """A PNG of 400 megapixels in a few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def _jpeg() -> bytes:
    content = io.BytesIO()
    Image.effect_noise((200, 200), 90).save(content, "JPEG")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "kind", "status", "name"),
    [
        (b"", "image/jpeg", 422, "unreadable-photo"),
        (_jpeg()[:-3000], "image/jpeg", 422, "unreadable-photo"),
        (_bomb(), "image/png", 422, "unreadable-photo"),
        (b"<svg onload=alert(1)>", "image/png", 422, "unreadable-photo"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "image/jpeg", 422, "unreadable-photo"),
        (b"GIF89a" + bytes(100), "image/gif", 422, "unreadable-photo"),
        (b"RIFF\0\0\0\0WEBPVP8 " + bytes(60), "image/webp", 422, "unreadable-photo"),
        (_jpeg(), "text/plain", 415, "unsupported-media-type"),
        (_jpeg(), "image/svg+xml", 415, "unsupported-media-type"),
        (_jpeg() + bytes(BODY_BYTES * 4), "image/jpeg", 413, "body-too-large"),
    ],
    ids=["empty", "truncated", "bomb", "svg", "eps", "gif", "webp", "text", "kind", "large"],
)
def test_hostile_pictures_are_problems(
    client: httpx.Client, content: bytes, kind: str, status: int, name: str
) -> None:
    answer = client.post("/search/photo", content=content, headers={"Content-Type": kind})
    told = problem(answer, status, name)
    assert "/" not in told["detail"].replace("image/", "").replace("text/plain", "")


def test_a_body_beyond_the_bound_of_others_is_taken(client: httpx.Client) -> None:
    answer = client.post("/search/photo", content=_jpeg() + bytes(BODY_BYTES * 2), headers=JPEG)
    assert answer.status_code == 200


@pytest.mark.parametrize("wrong", [{"share": 2}, {"share": "nan"}, {"q": ""}, {"hybrid": "true"}, {"k": 0}])
def test_wrong_parameters_are_named(client: httpx.Client, wrong: dict[str, str]) -> None:
    answer = client.post("/search/photo", params=wrong, content=_jpeg(), headers=JPEG)
    assert f"query.{next(iter(wrong))}" in problem(answer, 422, "invalid-request")["detail"]


def test_an_index_without_photos_says_so(drawn_index: Path) -> None:
    with running(Service(SearchEngine.open(drawn_index))) as client:
        answer = client.post("/search/photo", content=_jpeg(), headers=JPEG)
        assert "an index made from photos" in problem(answer, 422, "invalid-request")["detail"]
        assert client.get("/index").json()["ways"]["photo"] is False


def test_the_log_and_the_metrics_know_of_a_photo_and_not_what_it_is(client: httpx.Client) -> None:
    lines = io.StringIO()
    log_lines_to(logging.StreamHandler(lines))
    before = client.get("/metrics").text
    client.post("/search/photo", params={"q": "red secret"}, content=_jpeg(), headers=JPEG)
    note = next(json.loads(line) for line in lines.getvalue().splitlines() if "/search/photo" in line)
    assert (note["method"], note["route"], note["status"]) == ("POST", "/search/photo", 200)
    assert "secret" not in lines.getvalue()
    assert max(map(len, lines.getvalue().splitlines())) < 500

    def queries(text: str) -> float:
        return float(text.split("\nshopwindow_queries_total ")[1].split()[0])

    assert queries(client.get("/metrics").text) == queries(before) + 1


def test_a_photo_on_the_web_is_named_and_redirected_to(photo_shop: PhotoShop, tmp_path: Path) -> None:
    address = "https://shop.example/a photo.jpg?size=2"
    index = index_of_moved_photo(photo_shop, address, tmp_path)
    product_id = next(iter(photo_shop.photos))
    with running(Service(SearchEngine.open(index))) as client:
        assert client.get(product_path(product_id)).json()["photo"] == address
        answer = client.get(product_path(product_id, "photos"))
        assert (answer.status_code, answer.headers["location"]) == (307, address.replace(" ", "%20"))


def test_a_photo_in_a_tar_is_shown(photo_shop: PhotoShop, tmp_path: Path) -> None:
    product_id, path = next(iter(photo_shop.photos.items()))
    with tarfile.open(tmp_path / "shop.tar", "w") as tar:
        tar.add(path, "one.jpg")
    index = index_of_moved_photo(photo_shop, f"{tmp_path}/shop.tar::one.jpg", tmp_path)
    with running(Service(SearchEngine.open(index))) as client:
        link = client.get(product_path(product_id)).json()["photo"]
        answer = client.get(link)
        assert (answer.status_code, answer.content) == (200, path.read_bytes())
        assert client.get(link, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
        (tmp_path / "shop.tar").unlink()
        assert "cannot be read" in problem(client.get(link), 404, "no-photo")["detail"]


def index_of_moved_photo(shop: PhotoShop, source: str, folder: Path) -> Path:
    """An index whose first product's photo lies elsewhere now."""
    dataset = folder / "dataset"
    shutil.copytree(shop.dataset, dataset)
    with pa.ipc.open_file(dataset / CATALOGUE) as file:
        table = file.read_all()
    photos = [[source], *table["photos"].to_pylist()[1:]]
    table = table.set_column(1, "photos", pa.array(photos, pa.list_(pa.string())))
    with pa.ipc.new_file(str(dataset / CATALOGUE), table.schema) as file:
        file.write_table(table)
    build_index(shop.bundle, dataset, folder / "index")
    return folder / "index"
