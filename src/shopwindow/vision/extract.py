"""How do a shop's photos become features?

Photos are read and decoded beside those that are being encoded, each content once. What was encoded by an earlier run
is taken up, whether that run ended or was killed. `shards` writes; this module knows only the flow.

```
sources -> read (threads) -> new photos -> batches -> encode (threads) -> shards -> catalogue
```
"""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import torch

from shopwindow.data.products import Products
from shopwindow.files import DataError, check_fields, parse_json, text_lines
from shopwindow.processors import processors
from shopwindow.vision.backbone import Backbone, Detector
from shopwindow.vision.boxed import Boxed
from shopwindow.vision.fetch import fetch
from shopwindow.vision.pictures import Picture, UnreadablePicture, open_picture
from shopwindow.vision.shards import UNREADABLE, Encoded, FeaturesWriter, Row, Unreadable, open_writer

MOST_UNREADABLE: Final = 0.01
BATCH: Final = 16
"""Photos that a backbone is given at once."""
_REMOTE_READERS: Final = 16
"""Threads that wait for other machines."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Extracted:
    """What a run did: distinct photos by what became of them, and products."""

    products: int
    photos: int
    encoded: int
    unreadable: int
    without_photo: int

    def lasting(self) -> dict[str, int]:
        """What is true of the features, whichever run wrote them."""
        return {name: count for name, count in vars(self).items() if name != "encoded"}


@dataclass(frozen=True)
class _Read:
    """What reading a source gave: its key; its picture where that is new; or the reason why it cannot be read."""

    source: str
    state: str = ""
    key: str = ""
    picture: Picture | None = None
    reason: str = ""


@dataclass
class _Flow:
    """A run: where photos go, and what is counted."""

    writer: FeaturesWriter
    backbone: Backbone
    progress: Callable[[int], None]
    """Takes how many sources were read."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Of the sources that cannot be read."""
    encoded: int = 0
    read: int = 0


def extract(
    products: Products,
    out: str | Path,
    *,
    backbone: Backbone,
    detector: Detector | None = None,
    allow_unreadable: bool = False,
    threads: int | None = None,
    shards: Sequence[Path] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Extracted:
    """Encodes the photos of products (`find_photos`) that `out` does not hold yet, and writes their catalogue.

    With a detector a photo's regions are the whole photo and what the detector boxed, else what the backbone gives. A
    product without a photo that can be read is left out. `threads` decode, and as many encode; None: one a core.
    With `shards`, folders of `encode_photos` that together hold all photos, none is read or encoded here.

    Raises: DataError for more than 1 % unreadable photos unless `allow_unreadable`, for a photo that no shard holds,
    and as `open_writer`.
    """
    sources = sources_of(products)
    with _open_flow(out, backbone, detector, len(sources), progress) as flow:
        if shards:
            _take_up(flow, sources, shards)
        else:
            _encode_new(flow, sources, threads or processors())
        flow.writer.flush()
        return _finish(flow, products, len(sources), allow_unreadable)


def sources_of(products: Products) -> list[str]:
    """The sources of all photos of some products, each once."""
    return list(dict.fromkeys(source for photos in products.photos or () for source in photos))


def encode_photos(
    sources: Sequence[str],
    folder: Path,
    *,
    backbone: Backbone,
    detector: Detector | None = None,
    threads: int | None = None,
) -> None:
    """Encodes photos into a folder without a catalogue, for `extract(..., shards=)`; goes on with what lies there."""
    with _open_flow(folder, backbone, detector, len(sources), None) as flow:
        _encode_new(flow, sources, threads or processors())
        flow.writer.flush()
        reasons = (Unreadable("", source, reason) for source, reason in flow.reasons.items())
        flow.writer.write_unreadable(reasons)


@contextlib.contextmanager
def _open_flow(
    out: str | Path,
    backbone: Backbone,
    detector: Detector | None,
    total: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[_Flow]:
    by_detector = None if detector is None else detector.spec()
    with (
        open_writer(out, backbone=backbone.spec(), detector=by_detector) as writer,
        warnings.catch_warnings(),
    ):
        # Pillow warns of odd metadata and of sizes that are refused anyway.
        warnings.filterwarnings("ignore", module="PIL")
        show = progress or (lambda _done, _total: None)
        whole = backbone if detector is None else Boxed(backbone, detector)
        yield _Flow(writer, whole, lambda done: show(done, total))


def _take_up(flow: _Flow, sources: Sequence[str], shards: Sequence[Path]) -> None:
    """What the shards hold. Raises: DataError for a source of which none knows anything."""
    for folder in shards:
        flow.encoded += flow.writer.take_up(folder)
        for number, line in text_lines(folder / UNREADABLE):
            entry = parse_json(line, folder / UNREADABLE)
            check_fields(entry, {"source": str, "reason": str}, f"{folder / UNREADABLE} line {number}")
            flow.reasons[entry["source"]] = entry["reason"]
    for source in sources:
        if source not in flow.reasons and flow.writer.known(source) is None:
            raise DataError(f"no shard holds the photo {source}", path=flow.writer.folder)


def _encode_new(flow: _Flow, sources: Sequence[str], threads: int) -> None:
    readers = _REMOTE_READERS if any("://" in source for source in sources) else threads
    # A thread that encodes computes alone: on a busy machine torch's own threads wait for each other for seconds.
    torch_threads = torch.get_num_threads()
    with (
        contextlib.ExitStack() as stack,
        ThreadPoolExecutor(readers) as reading,
        ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as encoding,
    ):
        stack.callback(torch.set_num_threads, torch_threads)
        jobs = ((source, flow.writer.known(source)) for source in sources)
        reads = _ahead(reading, lambda job: _read(flow, *job), jobs, most=2 * BATCH + readers)
        batches = _ahead(
            encoding, lambda batch: _encode(flow, batch), _new_photos(flow, reads), most=2 * threads
        )
        for batch in batches:
            for photo in batch:
                flow.writer.add(photo)
            flow.encoded += len(batch)


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], *, most: int
) -> Iterator[Result]:
    """The results in order, while at most so many items are worked on or wait."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _read(flow: _Flow, source: str, known: tuple[str, str] | None) -> _Read:
    state, key = known or ("", "")
    try:
        fetched = fetch(source, state)
    except UnreadablePicture as error:
        # A server that is down today takes no photo away that was encoded yesterday.
        return _Read(source, state, key) if key and "://" in source else _Read(source, reason=error.reason)
    if fetched.data is None:
        return _Read(source, fetched.state, key)
    key = hashlib.sha256(fetched.data).hexdigest()
    try:
        picture = None if key in flow.writer else open_picture(fetched.data, wanted=flow.backbone.side)
    except UnreadablePicture as error:
        return _Read(source, reason=error.reason)
    return _Read(source, fetched.state, key, picture)


def _new_photos(flow: _Flow, reads: Iterable[_Read]) -> Iterator[list[_Read]]:
    """Batches of photos that are to be encoded, each key once; what else was read is noted."""
    batch: list[_Read] = []
    begun: set[str] = set()
    for read in reads:
        flow.read += 1
        flow.progress(flow.read)
        if read.reason:
            flow.reasons[read.source] = read.reason
            flow.writer.forget(read.source)
            continue
        flow.writer.remember(read.source, read.state, read.key)
        if read.picture is not None and read.key not in begun:
            begun.add(read.key)
            batch.append(read)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _encode(flow: _Flow, batch: list[_Read]) -> list[Encoded]:
    pictures = [read.picture for read in batch if read.picture is not None]
    regions = flow.backbone.encode([picture.image for picture in pictures])
    assert regions.boxes is not None
    assert regions.labels is not None
    encoded = []
    ends = regions.counts.cumsum(0).tolist()
    for read, picture, start, end in zip(batch, pictures, [0, *ends], ends, strict=False):
        scale = [picture.height / picture.image.height, picture.width / picture.image.width] * 2
        features = regions.features[start:end].half().numpy()
        boxes = regions.boxes[start:end].numpy() * np.array(scale, np.float32)
        labels = regions.labels[start:end].numpy()
        encoded.append(Encoded(read.key, picture.height, picture.width, features, boxes, labels))
    return encoded


def _finish(flow: _Flow, products: Products, photos: int, allow_unreadable: bool) -> Extracted:
    ids = products.ids.astype(str).tolist()
    sources_of = products.photos or [()] * len(ids)
    kept, unreadable, bare = [], [], 0
    for row, (identity, sources) in enumerate(zip(ids, sources_of, strict=True)):
        broken = [source for source in sources if source in flow.reasons]
        unreadable += [Unreadable(identity, source, flow.reasons[source]) for source in broken]
        if len(broken) < len(sources):
            kept.append(row)
        elif not sources:
            bare += 1
            unreadable.append(Unreadable(identity, None, "the product has no photo"))
    flow.writer.write_unreadable(unreadable)
    if not allow_unreadable:
        check_share(flow.writer.folder / UNREADABLE, unreadable, len(flow.reasons) + bare, photos + bare)
    counts = Extracted(len(kept), photos, flow.encoded, len(flow.reasons), len(ids) - len(kept))
    rows = (_row(flow, row, sources_of[row]) for row in kept)
    flow.writer.finish(products, rows, counts.lasting())
    return counts


def check_share(path: Path, unreadable: Sequence[Unreadable], lost: int, total: int) -> None:
    """Raises: DataError where more than 1 % are lost."""
    if lost <= MOST_UNREADABLE * total:
        return
    first = unreadable[0]
    raise DataError(
        f"{lost:,} of {total:,} photos cannot be read, more than 1 %, such as {first.source or first.product}: "
        f"{first.reason}; all are listed there; --allow-unreadable goes on without them",
        path=path,
    )


def _row(flow: _Flow, product: int, sources: Iterable[str]) -> Row:
    keys = {}
    for source in sources:
        known = None if source in flow.reasons else flow.writer.known(source)
        if known is not None:
            keys[source] = known[1]
    return Row(product, list(keys), list(keys.values()))
