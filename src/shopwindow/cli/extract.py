"""`shopwindow extract`: a shop's photos into features, with progress and what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shopwindow.cli.arguments import Filled, at_least
from shopwindow.cli.shards import ShardOptions
from shopwindow.files import DataError, check_replaceable
from shopwindow.shards import forget

if TYPE_CHECKING:
    from shopwindow.vision.backbone import Detector
    from shopwindow.vision.extract import Extracted
    from shopwindow.vision.photo_shards import PhotoWork
    from shopwindow.vision.sources import ShopPhotos


def extract(
    products: str,
    *,
    out: Filled,
    photos: str | None = None,
    backbone: str = "lite0",
    detector: str | None = None,
    nouns: str | None = None,
    id: str | None = None,
    title: str | None = None,
    photo: str | None = None,
    allow_unreadable: bool = False,
    threads: int | None = None,
    shard: str | None = None,
    merge: bool = False,
    shards: int | None = None,
    over: str | None = None,
) -> None:
    """Encode a shop's photos as features. Photos that were encoded before are not encoded again.

    Args:
        products: A table of products (CSV, TSV, Parquet, JSON lines), a folder of photos named after their products
            (ID, ID_2, ID-3), Hugging Face's imagefolder, or webdataset tars.
        out: The features to write, a directory; features there of the same backbone are gone on with.
        photos: The folder of the photos, where the table does not lie beside them or names none.
        backbone: What encodes a photo: lite0; plain, which needs no package; a directory or hub id for transformers; an
            ONNX description (.yaml); or a file of vectors by id (.parquet, .npz, .lance).
        detector: What finds the things in a photo, each of which becomes a region: a YOLOX file (.onnx), or a directory
            or hub id for transformers (DETR, RT-DETR, OWLv2).
        nouns: What the detector OWLv2 seeks, with commas between: apple, milk carton.
        id: The column of ids; none given: found by its usual names.
        title: The column of titles.
        photo: The column of photos: paths or URLs, several with | between them.
        allow_unreadable: Go on even when more than 1 % of the photos cannot be read.
        threads: Threads that encode, and as many that decode; none given: one for each core.
        shard: Do one shard of the work alone, such as 3/10, beside OUT; slurm takes it from the task of a Slurm array.
        merge: Join the shards that --shard made, once all are there.
        shards: Into how many shards --over cuts the work; none given: by its size.
        over: Do the work in shards over several workers, then join them: processes, processes:N, ray or
            ray://HOST:PORT.
    """
    from shopwindow.cli.progress import counting
    from shopwindow.vision.backbone import open_backbone
    from shopwindow.vision.extract import extract as encode_photos
    from shopwindow.vision.photo_shards import PhotoWork
    from shopwindow.vision.precomputed import ENDINGS, take_vectors
    from shopwindow.vision.sources import ShopPhotos, find_photos

    at_least(1, threads=threads)
    options = ShardOptions(shard, merge, shards, over)
    if options.given:
        threads = options.threads(threads)
        given = [noun.strip() for noun in (nouns or "").split(",") if noun.strip()]
        work = PhotoWork(products, photos, id, title, photo, backbone, detector, tuple(given), threads)
        _in_shards(options, work, out, allow_unreadable=allow_unreadable)
        return
    if products.endswith((".npz", ".lance")) or products == backbone:
        with counting("extract", "products") as tell:
            _print(take_vectors(products, out, allow_unreadable=allow_unreadable, progress=tell), None, out)
        return
    if backbone.endswith(ENDINGS):
        from shopwindow.data.products import read_products

        table = read_products(products, id=id, title=title, photo=photo)
        with counting("extract", "products") as tell:
            done = take_vectors(
                backbone, out, products=table, allow_unreadable=allow_unreadable, progress=tell
            )
        _print(done, ShopPhotos(table), out)
        return
    shop = find_photos(products, photos=photos, id=id, title=title, photo=photo)
    with counting("extract", "photos") as tell:
        done = encode_photos(
            shop.products,
            out,
            backbone=open_backbone(backbone),
            detector=None if detector is None else _detector(detector, nouns),
            allow_unreadable=allow_unreadable,
            threads=threads,
            progress=tell,
        )
    _print(done, shop, out)


def _in_shards(options: ShardOptions, work: PhotoWork, out: str, *, allow_unreadable: bool) -> None:
    from shopwindow.cli.progress import counting
    from shopwindow.data.features import MANIFEST
    from shopwindow.vision.extract import extract as join
    from shopwindow.vision.photo_shards import features_of
    from shopwindow.vision.precomputed import ENDINGS

    if work.place.endswith((".npz", ".lance")) or work.backbone.endswith(ENDINGS):
        raise DataError("vectors made elsewhere are taken at once, not in shards", field="--backbone")
    check_replaceable(out, marker=MANIFEST)
    folders = options.run("extract", work, out, threads=work.threads)
    if not folders:
        return
    shop = work.shop()
    backbone, detector = work.encoders()
    with counting("extract", "photos") as tell:
        done = join(
            shop.products,
            out,
            backbone=backbone,
            detector=detector,
            allow_unreadable=allow_unreadable,
            shards=[features_of(folder) for folder in folders],
            progress=tell,
        )
    forget(folders)
    _print(done, shop, out)


def _detector(name: str, nouns: str | None) -> Detector:
    from shopwindow.vision.detectors import open_detector

    return open_detector(name, nouns=[noun.strip() for noun in (nouns or "").split(",") if noun.strip()])


def _print(done: Extracted, shop: ShopPhotos | None, out: str) -> None:
    from shopwindow.cli.console import AlignedTable, say
    from shopwindow.vision.shards import UNREADABLE

    if shop is not None and shop.products.found:
        columns = ", ".join(f"{role} is {name!r}" for role, name in shop.products.found.items())
        say(f"columns of the products: {columns}")
    table = AlignedTable(["extract", "count"])
    table.add_row("products", f"{done.products:,}")
    table.add_row("photos", f"{done.photos:,}")
    table.add_row("photos encoded by this run", f"{done.encoded:,}")
    if done.unreadable:
        table.add_row(f"photos that cannot be read ({UNREADABLE})", f"{done.unreadable:,}")
    if done.without_photo:
        table.add_row("products left out, without a photo", f"{done.without_photo:,}")
    if shop is not None and shop.unclaimed:
        table.add_row("photos of no product, passed over", f"{shop.unclaimed:,}")
    table.show()
    say(f"features: {out}")
