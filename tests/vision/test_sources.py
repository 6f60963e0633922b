"""Which photos belong to which product, in every layout that shops and datasets have; and how they are fetched."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pytest

from shopwindow.files import DataError
from shopwindow.vision import fetch as fetching
from shopwindow.vision.fetch import Fetched, fetch
from shopwindow.vision.pictures import UnreadablePicture
from shopwindow.vision.sources import ShopPhotos, find_photos
from tests.vision.photos import photo

RED = photo((255, 0, 0))


def put(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(RED)
    return folder


def owners(shop: ShopPhotos, folder: Path) -> dict[str, list[str]]:
    """The photos of each product, within the folder."""
    photos = shop.products.photos
    assert photos is not None
    return {
        str(identity): [str(Path(source).relative_to(folder)) for source in sources]
        for identity, sources in zip(shop.products.ids.tolist(), photos, strict=True)
    }


def test_a_file_belongs_to_the_product_it_is_named_after(tmp_path: Path) -> None:
    put(
        tmp_path,
        "A.jpg",
        "A_2.png",
        "A-10.jpg",
        "A-3.jpg",
        "GOLDEL-001.jpg",
        "GOLDEL-002.jpg",
        "shoes/7.webp",
        "note.txt",
    )
    put(tmp_path, ".hidden.jpg", "B_1.JPG", "B_1_2.jpg")
    assert owners(find_photos(tmp_path), tmp_path) == {
        "A": ["A.jpg", "A_2.png", "A-3.jpg", "A-10.jpg"],
        "B_1": ["B_1.JPG", "B_1_2.jpg"],
        "GOLDEL-001": ["GOLDEL-001.jpg"],
        "GOLDEL-002": ["GOLDEL-002.jpg"],
        "shoes/7": ["shoes/7.webp"],
    }


def test_an_id_of_the_table_wins_over_the_number_at_its_end(tmp_path: Path) -> None:
    put(
        tmp_path / "p",
        "GOLDEL-001.jpg",
        "GOLDEL-001_2.jpg",
        "GOLDEL-1.jpg",
        "X-1.jpg",
        "X-2.jpg",
        "Y/front.jpg",
        "Y/1.jpg",
    )
    table = tmp_path / "products.csv"
    table.write_text("sku,title\nGOLDEL-001,one\nGOLDEL,all\nX,ex\nY,why\nZ,none\n")
    shop = find_photos(table, photos=tmp_path / "p")
    assert owners(shop, tmp_path / "p") == {
        "GOLDEL-001": ["GOLDEL-001.jpg", "GOLDEL-001_2.jpg"],
        "GOLDEL": ["GOLDEL-1.jpg"],
        "X": ["X-1.jpg", "X-2.jpg"],
        "Y": ["Y/1.jpg", "Y/front.jpg"],
        "Z": [],
    }
    assert (shop.products.titles, shop.unclaimed) == (["one", "all", "ex", "why", "none"], 0)


def test_photos_of_no_product_are_counted(tmp_path: Path) -> None:
    put(tmp_path / "p", "1.jpg", "2.jpg", "logo.png")
    (tmp_path / "products.csv").write_text("id,title\n1,one\n")
    shop = find_photos(tmp_path / "products.csv", photos=tmp_path / "p")
    assert (owners(shop, tmp_path / "p"), shop.unclaimed) == ({"1": ["1.jpg"]}, 2)


def test_a_column_of_photos_is_found_beside_the_table_or_in_the_folder(tmp_path: Path) -> None:
    put(tmp_path, "photos/a.jpg", "photos/b.jpg", "photos/C.jpg", "d.jpg")
    table = tmp_path / "products.csv"
    table.write_text(
        "sku,photo\nA,photos/a.jpg | https://shop.example/a 2.jpg\nB,b.jpg\nC,\nD,d.jpg\nE,s3://bucket/e.jpg\nF,gone.jpg\n"
    )
    photos = find_photos(table, photos=tmp_path / "photos").products.photos
    assert photos == [
        (str(tmp_path / "photos/a.jpg"), "https://shop.example/a 2.jpg"),
        (str(tmp_path / "photos/b.jpg"),),
        (str(tmp_path / "photos/C.jpg"),),
        (str(tmp_path / "d.jpg"),),
        ("s3://bucket/e.jpg",),
        (str(tmp_path / "photos/gone.jpg"),),
    ]
    beside = find_photos(table).products.photos
    assert beside is not None
    assert beside[2:4] == [(), (str(tmp_path / "d.jpg"),)]


def test_an_imagefolder_is_read_by_its_metadata(tmp_path: Path) -> None:
    put(tmp_path, "train/0001.png", "train/0002.png")
    (tmp_path / "metadata.csv").write_text(
        "file_name,text,price\ntrain/0001.png,a lamp,3\ntrain/0002.png,a shoe,4\n"
    )
    shop = find_photos(tmp_path, title="text")
    assert owners(shop, tmp_path) == {
        "train/0001.png": ["train/0001.png"],
        "train/0002.png": ["train/0002.png"],
    }
    assert (shop.products.titles, shop.products.columns["price"].to_pylist()) == (
        ["a lamp", "a shoe"],
        [3.0, 4.0],
    )


def tar_of(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_webdataset_tars_are_products_with_titles_and_columns(tmp_path: Path) -> None:
    blue = photo((0, 0, 255))
    says = {"caption": "a lamp", "price": 3, "colour": "red", "sizes": [1, 2]}
    tar_of(tmp_path / "0.tar", {"a/1.jpg": RED, "a/1.json": json.dumps(says).encode(), "a/2.seg.png": blue})
    tar_of(tmp_path / "1.tar", {"3.txt": b"a shoe\n", "3.png": blue, "3.cls": b"5"})
    products = find_photos(tmp_path).products
    assert (products.ids.tolist(), products.titles) == (["a/1", "a/2", "3"], ["a lamp", "", "a shoe"])
    assert products.columns.to_pylist()[0] == {"price": 3.0, "colour": "red"}
    assert products.columns["price"].type == pa.float64()
    assert products.photos is not None
    assert [fetch(source).data for (source,) in products.photos] == [RED, blue, blue]
    first = fetch(products.photos[0][0])
    assert fetch(products.photos[0][0], first.state) == Fetched(None, first.state)
    with pytest.raises(UnreadablePicture, match="no such file in the tar"):
        fetch(f"{tmp_path / '0.tar'}::gone.jpg")
    tar_of(tmp_path / "2.tar", {"3.jpg": RED})
    with pytest.raises(DataError, match=r"2\.tar: the key 3 stands in another tar as well"):
        find_photos(tmp_path)


def test_what_is_no_shop_says_what_is_wanted(tmp_path: Path) -> None:
    table = tmp_path / "products.csv"
    table.write_text("id,title\n1,one\n")
    with pytest.raises(
        DataError, match="has no column of photos; --photo names the column, --photos the folder"
    ):
        find_photos(table)
    with pytest.raises(DataError, match="no such folder of photos"):
        find_photos(table, photos=tmp_path / "gone")
    table.write_text("id,title,photo\n1,one,photos/1.jpg\n")
    with pytest.raises(DataError, match="no such folder of photos"):  # though the column names every photo
        find_photos(table, photos=tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no photo"):
        find_photos(tmp_path / "empty")
    (tmp_path / "bad.tar").write_bytes(b"no tar")
    with pytest.raises(DataError, match="no tar that can be read"):
        find_photos(tmp_path / "bad.tar")
    with pytest.raises(DataError, match=r"1\.json: no JSON object"):
        find_photos(tar_of(tmp_path / "list.tar", {"1.jpg": RED, "1.json": b"[1]"}))


class Shelf(BaseHTTPRequestHandler):
    """A web server, and a store as S3 is, of one photo; counts what it was asked."""

    asked: list[str]
    busy = 0

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        type(self).asked.append(f"{self.command} {self.path}")
        code, body = 200, RED
        if "gone" in self.path:
            code, body = 404, b""
        elif "busy" in self.path and type(self).busy:
            type(self).busy -= 1
            code, body = 503, b""
        elif "endless" in self.path:
            body = b"x" * 5000
        elif self.headers.get("If-None-Match") == '"red"':
            code, body = 304, b""
        self.send_response(code)
        self.send_header("ETag", '"red"')
        self.send_header("Last-Modified", "Mon, 30 Nov 2026 08:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def shelf() -> Iterator[str]:
    """Its address."""
    Shelf.asked, Shelf.busy = [], 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shelf)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_url_is_fetched_once_and_then_asked_whether_it_changed(shelf: str) -> None:
    first = fetch(f"http://{shelf}/a b.png")
    assert first == Fetched(RED, '"red"')
    assert fetch(f"http://{shelf}/a b.png", first.state) == Fetched(None, '"red"')
    assert Shelf.asked == ["GET /a%20b.png"] * 2


def test_a_busy_server_is_asked_again_and_a_lost_photo_is_not(shelf: str) -> None:
    Shelf.busy = 1
    assert fetch(f"http://{shelf}/busy.png").data == RED
    with pytest.raises(UnreadablePicture, match="HTTP 404"):
        fetch(f"http://{shelf}/gone.png")
    assert Shelf.asked.count("GET /gone.png") == 1


def test_s3_is_read_by_pyarrow(shelf: str) -> None:
    place = f"endpoint_override={shelf}&scheme=http&region=us-east-1"
    first = fetch(f"s3://key:secret@bucket/folder/a.png?{place}")
    assert first.data == RED
    assert fetch(f"s3://key:secret@bucket/folder/a.png?{place}", first.state).data is None
    assert "GET /bucket/folder/a.png" in Shelf.asked
    with pytest.raises(UnreadablePicture, match="no such file"):
        fetch(f"s3://key:secret@bucket/gone.png?{place}")


def test_what_pyarrow_does_not_know_is_read_by_fsspec(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://shelf/a.png", "wb") as file:
        file.write(RED)
    assert fetch("memory://shelf/a.png").data == RED
    put(tmp_path, "a.png")
    assert fetch((tmp_path / "a.png").as_uri()).data == RED


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("/no/such/file.jpg", "no such file"),
        ("/", "is a directory"),
        ("/dev/zero", "is no plain file"),
        ("/tmp/nu\0l", "cannot be read: embedded null byte"),
        ("gopher://shop/a.jpg", "neither pyarrow nor fsspec reads gopher:// here"),
        ("http://127.0.0.1:1/a.jpg", "not reachable"),
        ("http://[bad/a.jpg", "cannot be read: Invalid IPv6 URL"),
        ("memory://shelf/none.jpg", "no such file"),
    ],
)
def test_what_cannot_be_reached_says_why(source: str, reason: str) -> None:
    with pytest.raises(UnreadablePicture, match=reason):
        fetch(source)


def test_larger_files_than_allowed_are_not_read(
    tmp_path: Path, shelf: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "MOST_BYTES", 4000)
    (tmp_path / "large.png").write_bytes(b"x" * 5000)
    for source in (str(tmp_path / "large.png"), f"http://{shelf}/endless", (tmp_path / "large.png").as_uri()):
        with pytest.raises(UnreadablePicture, match="5,000 bytes, at most 4,000 are read"):
            fetch(source)


def test_a_folder_of_photos_that_is_none_is_told_even_where_the_table_names_all(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(photo((255, 0, 0)))
    (tmp_path / "products.csv").write_text("id,photo\n1,1.jpg\n")
    assert len(find_photos(tmp_path / "products.csv", photos=tmp_path).products) == 1
    with pytest.raises(DataError, match=r"typo: no such folder of photos"):
        find_photos(tmp_path / "products.csv", photos=tmp_path / "typo")


def test_a_tar_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"x" * 1000)
    with pytest.raises(
        DataError, match=r"a\.tar: no tar that can be read: file could not be opened successfully$"
    ):
        find_photos(tmp_path / "a.tar")


def test_half_characters_of_a_tar_name_it_and_names_that_are_no_text_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "shop.tar"
    for says, bad in (
        ("half a character", b'{"colour": "\\ud800"}'),
        ("half a character", b'{"\\udc00": 1}'),
    ):
        with tarfile.open(path, "w") as tar:
            for name, content in (("a.jpg", RED), ("a.json", bad)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        with pytest.raises(DataError, match=rf"shop\.tar: a\.json: .*{says}"):
            find_photos(path)
    with tarfile.open(path, "w") as tar:
        for name in ("a.jpg", "b\udcff.jpg"):
            member = tarfile.TarInfo(name)
            member.size = len(RED)
            tar.addfile(member, io.BytesIO(RED))
    assert find_photos(path).products.ids.tolist() == ["a"]


def test_a_photo_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "red.jpg").write_bytes(RED)
    assert fetching.read_photo(tmp_path / "red.jpg") == RED
    monkeypatch.setattr(fetching, "MOST_BYTES", 1000)
    with pytest.raises(DataError, match="/dev/zero: is no photo: more than 1,000 bytes"):
        fetching.read_photo("/dev/zero")
