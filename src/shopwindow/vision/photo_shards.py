"""How are a shop's photos encoded in shards? Each takes a stretch of the list of all photos.

`extract` joins them: it takes up their photos and what they know of every source, and writes the catalogue.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from shopwindow.shards import Shard
from shopwindow.vision.backbone import Backbone, Detector, open_backbone
from shopwindow.vision.extract import BATCH, encode_photos, sources_of
from shopwindow.vision.sources import ShopPhotos, find_photos

_PHOTOS: Final = 4096


@dataclass(frozen=True)
class PhotoWork:
    """A shop's photos and what encodes them, by name. `place` and its options are those of `find_photos`."""

    place: str
    photos: str | None = None
    id: str | None = None
    title: str | None = None
    photo: str | None = None
    backbone: str = "lite0"
    detector: str | None = None
    nouns: tuple[str, ...] = ()
    threads: int | None = None
    things: str = "photos"

    def usual_count(self) -> int:
        """One shard for every 4,096 photos: half a minute of a processor with lite0."""
        return -(-len(self.sources()) // _PHOTOS)

    def shop(self) -> ShopPhotos:
        """The products with the sources of their photos; read once in each process."""
        return _shop(self)

    def sources(self) -> list[str]:
        """The sources of all photos, each once."""
        return _sources(self)

    def encoders(self) -> tuple[Backbone, Detector | None]:
        """The backbone and the detector; opened once in each process."""
        return _encoders(self)

    def settings(self) -> dict[str, Any]:
        """The list of photos by its hash, and what encodes them by its fingerprint. Not what a photo's file holds."""
        backbone, detector = self.encoders()
        by = {"backbone": backbone.spec(), "detector": None if detector is None else detector.spec()}
        named = {
            name: None if spec is None else f"{spec.get('name')} {spec.get('fingerprint')}"
            for name, spec in by.items()
        }
        return {"verb": "extract", "photos": _hash_of_sources(self), **named}

    def do(self, shard: Shard) -> int:
        """Encodes the photos of a shard; goes on where an earlier try was killed."""
        sources = self.sources()
        rows = shard.rows(len(sources), unit=BATCH)
        backbone, detector = self.encoders()
        chosen = sources[rows.start : rows.stop]
        encode_photos(
            chosen, features_of(shard.path), backbone=backbone, detector=detector, threads=self.threads
        )
        return len(chosen)


def features_of(shard: Path) -> Path:
    """Where the photos of a shard lie."""
    return shard / "features"


@functools.lru_cache(maxsize=1)
def _shop(work: PhotoWork) -> ShopPhotos:
    return find_photos(work.place, photos=work.photos, id=work.id, title=work.title, photo=work.photo)


@functools.lru_cache(maxsize=1)
def _sources(work: PhotoWork) -> list[str]:
    return sources_of(_shop(work).products)


@functools.lru_cache(maxsize=1)
def _hash_of_sources(work: PhotoWork) -> str:
    digest = hashlib.sha256()
    for source in _sources(work):
        digest.update(source.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


@functools.lru_cache(maxsize=1)
def _encoders(work: PhotoWork) -> tuple[Backbone, Detector | None]:
    from shopwindow.vision.detectors import open_detector

    detector = None if work.detector is None else open_detector(work.detector, nouns=work.nouns)
    return open_backbone(work.backbone), detector
