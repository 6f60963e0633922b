"""What can be shown of the products of an opened index? Of one everything, of the hits of a search what a list shows.

Knows no model; that a photo is there is asked of the file system.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from shopwindow.files import find_photo
from shopwindow.search.hits import Hit, ProductId, ProductView, ShownHit, UnknownProduct
from shopwindow.search.index import OpenIndex, as_ids

MOST_TEXTS_SHOWN: Final = 8


def shown_hits(index: OpenIndex, hits: Sequence[Hit]) -> list[ShownHit]:
    """Hits as a list shows them, looked up together; those that the index does not hold are left out."""
    places = index.places(as_ids([hit.product_id for hit in hits]))
    shown = []
    for hit, place in zip(hits, places, strict=True):
        if place is None:
            continue
        segment, row = place[0].segment, place[1]
        image_h, image_w = segment.columns.sizes[row].tolist()
        values = segment.attributes.of(row) if segment.attributes else {}
        photo = find_photo(index.manifest.photos, hit.product_id) is not None
        shown.append(ShownHit(hit, image_h, image_w, photo, values))
    return shown


def view_of(index: OpenIndex, product_id: ProductId) -> ProductView:
    """What is known of a product. Raises: UnknownProduct."""
    place = index.locate(product_id)
    if place is None:
        raise UnknownProduct(product_id)
    part, row = place
    columns, names = part.segment.columns, index.manifest.label_names
    regions = slice(*columns.region_bounds[row : row + 2].tolist())
    labels = columns.labels[regions].tolist()
    image_h, image_w = columns.sizes[row].tolist()
    held = columns.ids[row].item()
    return ProductView(
        product_id=held,
        image_h=image_h,
        image_w=image_w,
        boxes=tuple((box[0], box[1], box[2], box[3]) for box in columns.boxes[regions].tolist()),
        labels=tuple(labels),
        label_names=tuple(names.get(label, str(label)) for label in labels),
        photo=find_photo(index.manifest.photos, held),
        texts=part.texts.of(held)[:MOST_TEXTS_SHOWN] if part.texts else (),
        values=part.segment.attributes.of(row) if part.segment.attributes else {},
    )


def living_words(index: OpenIndex, column: str) -> tuple[str, ...]:
    """The words that products have in a column, rising; none where it is of numbers or there is none."""
    parts = ((part.segment.attributes, part.living_rows) for part in index.parts)
    words = (some.words(column, living) for some, living in parts if some is not None)
    return tuple(sorted(set().union(*words)))
