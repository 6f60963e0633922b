"""Which photos has a shop, and whose are they?

From a table of products, a folder of photos, Hugging Face's imagefolder or webdataset tars to Products whose photos
are sources that `fetch` can read. Opens no photo.
"""

from __future__ import annotations

import json
import math
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from shopwindow.data.products import Products, read_products
from shopwindow.files import PHOTO_ENDINGS, DataError, check_ordinary, check_photo_folder, parse_json
from shopwindow.ids import RowError, ids_from_text
from shopwindow.objects import below, is_object, names_below
from shopwindow.vision.fetch import IN_TAR

ENDINGS: Final = frozenset(
    (
        *PHOTO_ENDINGS,
        ".jfif",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".avif",
        ".jp2",
        ".ppm",
        ".pgm",
        ".heic",
        ".heif",
    )
)
"""Of files that are taken for photos; whether they can be read shows later."""
_TEXT_BYTES: Final = 2**20
"""Of one text or JSON object in a tar."""
_METADATA: Final = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Of Hugging Face's imagefolder."""
_NUMBERED: Final = re.compile(r"(.+)[_-](\d+)")


@dataclass(frozen=True)
class ShopPhotos:
    """Products with the sources of their photos, () where a product has none; and how many files are nobody's."""

    products: Products
    unclaimed: int = 0


def find_photos(
    place: str | Path,
    *,
    photos: str | Path | None = None,
    id: str | None = None,
    title: str | None = None,
    photo: str | None = None,
) -> ShopPhotos:
    """The products of a table, a folder or a tar. `id`, `title` and `photo` name the table's columns.

    In a folder of photos a file belongs to the product it is named after: `ID`, and with more photos `ID_2`, `ID-3`. An
    id that itself ends so wins. `photos` is the folder of a table's photos.

    Raises: DataError for a place that is none of these, and as `read_products`.
    """
    if is_object(place):
        return _from_folder(str(place).rstrip("/"))
    path = Path(place)
    if path.suffix == ".tar":
        return _from_tars([path])
    if not path.is_dir():
        return _from_table(read_products(path, id=id, title=title, photo=photo), path.parent, photos)
    for name in _METADATA:
        if (path / name).is_file():
            return _from_table(read_products(path / name, id=id, title=title, photo=photo), path, photos)
    if tars := sorted(path.glob("*.tar")):
        return _from_tars(tars)
    return _from_folder(path)


def _from_table(products: Products, folder: Path, photos: str | Path | None) -> ShopPhotos:
    if products.photos is None and photos is None:
        raise DataError(
            "has no column of photos; --photo names the column, --photos the folder of the photos",
            path=products.path,
        )
    if photos is not None and not is_object(photos):
        check_photo_folder(photos)
    named: dict[str, list[str]] = {}
    unclaimed = 0
    ids = products.ids.astype(str).tolist()
    if photos is not None and (products.photos is None or not all(products.photos)):
        named, unclaimed = _by_name(photos, ids)
    folders = [folder] if photos is None else [photos, folder]
    cells: Iterable[tuple[str, ...]] = products.photos or [()] * len(products)
    sources = [
        tuple(_located(cell, folders) for cell in written) or tuple(named.get(identity, ()))
        for identity, written in zip(ids, cells, strict=True)
    ]
    # Where the column names all photos, nothing was looked for in the folder.
    return ShopPhotos(replace(products, photos=sources), unclaimed if products.photos is None else 0)


def _located(cell: str, folders: Sequence[str | Path]) -> str:
    """The source that a cell names: a URL, an object, or the file of the first folder that has it."""
    if "://" in cell:
        return cell
    if is_object(folders[0]):
        return below(str(folders[0]), cell)
    tries = [*(Path(folder) / cell for folder in folders), Path(folders[0]) / Path(cell).name]
    return os.path.abspath(next((path for path in tries if _is_file(path)), tries[0]))  # noqa: PTH100 - follows no link


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that the system does not take
        return False


def _from_folder(folder: str | Path) -> ShopPhotos:
    """A product for each name. Photos in folders below have their folder in their id."""
    ids: dict[str, None] = {}
    for stem in sorted({name.rpartition(".")[0] for name in _photo_names(folder)}):
        if _base(stem) not in ids:
            ids[stem] = None
    if not ids:
        raise DataError("holds no photo (such as SKU-1.jpg), no metadata.csv and no tar", path=folder)
    named, unclaimed = _by_name(folder, list(ids))
    return ShopPhotos(_products(list(ids), [tuple(named[identity]) for identity in ids], folder), unclaimed)


def _by_name(folder: str | Path, ids: Sequence[str]) -> tuple[dict[str, list[str]], int]:
    """The photos of each id in a folder, and how many are nobody's."""
    known = set(ids)
    found: dict[str, list[tuple[int, str]]] = {}
    unclaimed = 0
    for name in _photo_names(folder):
        stem = name.rpartition(".")[0]
        last, parent = stem.rpartition("/")[2], stem.rpartition("/")[0].rpartition("/")[2]
        owner = next((to for to in (stem, last, _base(stem), _base(last), parent) if to in known), None)
        if owner is None:
            unclaimed += 1
            continue
        numbered = _NUMBERED.fullmatch(last)
        number = int(numbered[2]) if numbered and owner not in (stem, last) else 0
        found.setdefault(owner, []).append((number, _source(folder, name)))
    return {owner: [path for _, path in sorted(photos)] for owner, photos in found.items()}, unclaimed


def _source(folder: str | Path, name: str) -> str:
    if is_object(folder):
        return below(str(folder), name)
    return os.path.abspath(Path(folder) / name)  # noqa: PTH100 - follows no link


def _base(stem: str) -> str | None:
    """
    >>> _base("SKU_2"), _base("SKU")
    ('SKU', None)
    """
    numbered = _NUMBERED.fullmatch(stem)
    return numbered[1] if numbered else None


def _photo_names(folder: str | Path) -> Iterator[str]:
    """Paths of photos within a folder, / between their parts; none that is hidden or cannot be written as text."""
    if is_object(folder):
        names = (name for name, _, _ in names_below(str(folder)))
        yield from (
            name
            for name in names
            if Path(name).suffix.lower() in ENDINGS
            and not any(part.startswith(".") for part in name.split("/"))
        )
        return
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        within = Path(place).relative_to(folder).as_posix()
        for name in sorted(files):
            if Path(name).suffix.lower() in ENDINGS and not name.startswith(".") and _is_text(name):
                yield name if within == "." else f"{within}/{name}"


def _is_text(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:  # bytes that are no UTF-8
        return False


def _from_tars(tars: Sequence[Path]) -> ShopPhotos:
    """Webdataset: KEY.jpg with KEY.txt (a title) and KEY.json (a flat object: title or caption, and columns)."""
    photos: dict[str, list[str]] = {}
    said: dict[str, dict[str, Any]] = {}
    for path in tars:
        here: set[str] = set()
        for name, content in _tar_members(path):
            key, ending = _split(name)
            if ending in ENDINGS:
                if key in photos and key not in here:
                    raise DataError(f"the key {key} stands in another tar as well", path=path)
                here.add(key)
                photos.setdefault(key, []).append(f"{path.absolute()}{IN_TAR}{name}")
            else:
                said.setdefault(key, {}).update(_said(content, ending, path, name))
    if not photos:
        raise DataError("holds no photo (KEY.jpg)", path=tars[0])
    rows = [said.get(key, {}) for key in photos]
    titles = [str(row.pop("title", "") or row.pop("caption", "")) for row in rows]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    products = _products(list(photos), [tuple(sources) for sources in photos.values()], tars[0])
    titled = titles if any(titles) else None
    return ShopPhotos(
        replace(products, titles=titled, columns=pa.table(columns) if columns else products.columns)
    )


def _tar_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names of files; the content of texts alone."""
    check_ordinary(path)
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                text = member.name.endswith((".txt", ".json"))
                wanted = text or _split(member.name)[1] in ENDINGS
                if member.isfile() and wanted and _is_text(member.name):
                    if text and member.size > _TEXT_BYTES:
                        raise DataError(f"{member.name}: {member.size:,} bytes of text", path=path)
                    file = tar.extractfile(member) if text else None
                    yield member.name, file.read() if file else b""
    except (tarfile.TarError, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise DataError(f"no tar that can be read: {reason}", path=path) from error


def _split(name: str) -> tuple[str, str]:
    """
    >>> _split("train/0001.front.JPG")
    ('train/0001', '.jpg')
    """
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0], Path(file).suffix.lower()


def _said(content: bytes, ending: str, path: Path, name: str) -> dict[str, Any]:
    try:
        text = content.decode()
    except ValueError as error:
        raise DataError(f"{name}: no {ending[1:]} in UTF-8: {error}", path=path) from error
    if ending == ".txt":
        return {"title": text.strip()}
    row = parse_json(text, f"{path} {name}")
    if not isinstance(row, dict):
        raise DataError(f"{name}: no JSON object", path=path)
    if not _is_text(json.dumps(row, ensure_ascii=False)):
        raise DataError(f"{name}: no JSON object: half a character", path=path)
    return {key: value for key, value in row.items() if isinstance(value, str | int | float)}


def _column(values: list[Any]) -> pa.Array:
    """Numbers where all are and a float keeps each whole, else text."""
    if all(value is None or _is_kept(value) for value in values):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _is_kept(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**53


def _products(ids: list[str], photos: list[tuple[str, ...]], path: str | Path) -> Products:
    try:
        column = ids_from_text(ids)
    except RowError as error:
        raise DataError(f"{ids[error.row]}: as an id {error.problem}", path=path) from error
    none = pa.table({"": pa.nulls(len(ids))}).select([])
    return Products(column, None, photos, none, {}, str(path))
