"""How is shopwindow used from Python, in few words? `import shopwindow as sw` offers the names of this module.

Each function takes what one has at hand: paths, arrays, dicts, columns of a table such as pandas'. Each gives an object
that prints in a line or a table, and shows itself in a notebook. It composes the rooms, as the command line does, and
imports each when it is called.
"""

from __future__ import annotations

import html
import io
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, overload

if TYPE_CHECKING:
    import numpy as np

    from shopwindow.data.dataset import Dataset
    from shopwindow.data.regions import Regions
    from shopwindow.model.bundle import Bundle
    from shopwindow.ranking.answers import Answers
    from shopwindow.ranking.audit import Audit
    from shopwindow.ranking.measures import Evaluation
    from shopwindow.ranking.pools import Pools
    from shopwindow.ranking.runs import Run
    from shopwindow.ranking.significance import Comparison
    from shopwindow.search.engine import SearchEngine
    from shopwindow.search.hits import Hit, ProductView

_QUERY: Final = "query_id"
_PRODUCT: Final = "product_id"
_PHOTO_PX: Final = 160


def load(bundle: str | os.PathLike[str], *, device: str = "cpu") -> Model:
    """The trained model of a bundle, or that of a folder of `shopwindow shop`.

    Raises: TypeError for no path, DataError as `Bundle.load`.
    """
    from shopwindow.model.bundle import Bundle

    path = _part(bundle, "bundle")
    return Model(path, Bundle.load(path, device=device))


def open(index: str | os.PathLike[str]) -> Index:
    """An index to search, or that of a folder of `shopwindow shop`. torch is imported when a search needs it.

    Raises: TypeError for no path, DataError as `SearchEngine.open`.
    """
    from shopwindow.search.engine import SearchEngine

    path = _part(index, "index")
    return Index(path, SearchEngine.open(path, quick=True))


def extract(
    products: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    photos: str | os.PathLike[str] | None = None,
    backbone: str = "lite0",
) -> Path:
    """Encodes a shop's photos as `shopwindow extract` does; gives the folder of features."""
    goal = _goal(out, products, photos)
    from shopwindow.vision.backbone import open_backbone
    from shopwindow.vision.extract import extract as encode_photos
    from shopwindow.vision.sources import find_photos

    folder = None if photos is None else str(_path(photos, "photos"))
    table = find_photos(str(_path(products, "products")), photos=folder).products
    encode_photos(table, goal, backbone=open_backbone(_text(backbone, "backbone")))
    return Path(out)


def prepare(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    out: str | os.PathLike[str] | None = None,
    *,
    features: str | os.PathLike[str] | None = None,
    clicks: str | os.PathLike[str] | None = None,
    judgements: str | os.PathLike[str] | None = None,
) -> Dataset:
    """The dataset of competition files, or of a shop's features and clicks, written to `out`."""
    given = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    goal = _goal(out, *given, features, clicks, judgements)
    from shopwindow.data.dataset import Dataset
    from shopwindow.data.features import Features
    from shopwindow.data.prepare import prepare as prepare_files
    from shopwindow.data.shop import prepare_shop

    if features is None:
        prepare_files([_path(source, "sources") for source in given], goal)
    else:
        shop = {
            name: None if file is None else _path(file, name)
            for name, file in (("clicks", clicks), ("judgements", judgements))
        }
        prepare_shop(
            Features(_path(features, "features")), shop["clicks"], goal, judgements=shop["judgements"]
        )
    return Dataset(goal)


def train(
    dataset: str | os.PathLike[str] | Dataset,
    out: str | os.PathLike[str],
    *,
    valid: str | os.PathLike[str] | Dataset | None = None,
    answers: object = None,
    recipe: str = "default",
    settings: Mapping[str, object] | None = None,
) -> Model:
    """A model trained by a recipe, kept at `out`. `settings`: fields of the recipe by dotted name.

    `valid` and `answers` measure it; without them the dataset's held-out clicks do, or pairs that the recipe holds out.
    """
    goal = _goal(out, dataset, valid, answers)
    from shopwindow.model.recipe import load_recipe
    from shopwindow.model.training import train as train_model
    from shopwindow.model.validation import Validation

    if (valid is None) != (answers is None):
        raise TypeError("valid and answers go together: give both or neither")
    if settings is not None and not isinstance(cast(object, settings), Mapping):
        raise TypeError(f"settings: {_kind(settings)}; wanted a mapping of values by name")
    changes = {name: str(value) for name, value in (settings or {}).items()}
    chosen, pairs = load_recipe(_text(recipe, "recipe"), changes), _dataset(dataset, "dataset")
    validation = None if valid is None else Validation(_dataset(valid, "valid"), answers_of(answers))
    return Model(goal, train_model(pairs, chosen, goal, validation=validation))


def rank(
    model: Model | str | os.PathLike[str],
    dataset: str | os.PathLike[str] | Dataset,
    *,
    out: str | os.PathLike[str] | None = None,
) -> Run:
    """The score of every candidate of every query of a dataset; written to `out` too, where it is given."""
    goal = None if out is None else _goal(out, model, dataset)
    from shopwindow.ranking.runs import write_run

    opened = model if isinstance(model, Model) else load(model)
    run = opened.bundle.rank(_dataset(dataset, "dataset"))
    if goal is not None:
        write_run(run, goal)
    return run


def evaluate(run: object, answers: object, *, measures: str | Sequence[str] | None = None) -> Evaluation:
    """What a run is worth: `run` and `answers` as `run_of` and `answers_of` take them."""
    from shopwindow.ranking.measures import DEFAULT_MEASURES, Measure
    from shopwindow.ranking.measures import evaluate as evaluate_run

    names = [measures] if isinstance(measures, str) else measures
    wanted = DEFAULT_MEASURES if names is None else [Measure.parse(_text(name, "measure")) for name in names]
    return evaluate_run(run_of(run), answers_of(answers), wanted)


def compare(
    run: object, others: object, answers: object, *, measure: str = "nDCG@5", seed: int = 0
) -> list[Comparison]:
    """A run against another one, or against each of a list: difference, interval, p-values, verdict."""
    import numpy as np

    from shopwindow.ranking.measures import Measure
    from shopwindow.ranking.measures import evaluate as evaluate_run
    from shopwindow.ranking.significance import System
    from shopwindow.ranking.significance import compare as compare_systems

    judged, parsed = answers_of(answers), [Measure.parse(_text(measure, "measure"))]
    many = list(others) if isinstance(others, list | tuple) else [others]
    runs = [run_of(run, name="run"), *(run_of(one, name=f"other {n}") for n, one in enumerate(many, 1))]
    systems = [System(one.name, (evaluate_run(one, judged, parsed),)) for one in runs]
    return compare_systems(systems[0], systems[1:], np.random.default_rng(seed))


def audit(pools: object, answers: object, *, measure: str = "nDCG@5", seed: int = 0) -> Audit:
    """What can be scored on a set without its queries. `pools`: a run, or what `run_of` takes, or a file of pools."""
    import numpy as np

    from shopwindow.ranking.audit import audit as audit_pools
    from shopwindow.ranking.measures import Measure

    generator = np.random.default_rng(seed)
    return audit_pools(
        _pools_of(pools), answers_of(answers), generator, measure=Measure.parse(_text(measure, "measure"))
    )


def run_of(scores: object, *, name: str = "run") -> Run:
    """A run from a path, `{query: {product: score}}`, three columns (query_id, product_id, score) or a table of them.

    Raises: TypeError for anything else, ValueError as `Run.from_arrays`, DataError as `read_run`.
    """
    from shopwindow.ranking.runs import Run, read_run

    if isinstance(scores, Run):
        return scores
    if isinstance(scores, str | os.PathLike):
        return read_run(scores)
    columns = _columns(scores, (_QUERY, _PRODUCT, "score"))
    if columns is None:
        wanted = "a path, {query: {product: score}}, or columns query_id, product_id, score"
        raise TypeError(f"run: {_kind(scores)}; wanted {wanted}")
    queries, products, values = columns
    return Run.from_arrays(_ids(queries), _ids(products), _numbers(values, "score"), name=name)


def answers_of(answers: object) -> Answers:
    """Answers from a path, `{query: [product, ...]}`, `{query: {product: grade}}` or columns query_id, product_id and
    perhaps grade.

    Raises: TypeError for anything else, ValueError as `Answers.from_arrays`, DataError as `read_answers`.
    """
    from shopwindow.ranking.answers import Answers, read_answers

    if isinstance(answers, Answers):
        return answers
    if isinstance(answers, str | os.PathLike):
        return read_answers(answers)
    if isinstance(answers, Mapping) and all(isinstance(own, list | tuple) for own in answers.values()):
        return Answers.from_lists({str(query): list(map(str, own)) for query, own in answers.items()})
    graded = _columns(answers, (_QUERY, _PRODUCT, "grade"))
    columns = graded or _columns(answers, (_QUERY, _PRODUCT))
    if columns is None:
        wanted = "a path, {query: [product, ...]}, {query: {product: grade}}, or columns query_id, product_id, grade"
        raise TypeError(f"answers: {_kind(answers)}; wanted {wanted}")
    grades = _numbers(columns[2], "grade") if graded else None
    return Answers.from_arrays(_ids(columns[0]), _ids(columns[1]), grades)


@dataclass(frozen=True, repr=False)
class Model:
    """A trained model. `bundle` is the `Bundle` with all that it can do."""

    path: Path
    bundle: Bundle

    @overload
    def encode_queries(self, texts: str) -> np.ndarray: ...
    @overload
    def encode_queries(self, texts: Sequence[str]) -> np.ndarray: ...
    def encode_queries(self, texts: object) -> np.ndarray:
        """float32 vectors [texts, values] of several texts, or the one vector [values] of a text.

        Raises: TypeError for anything but texts.
        """
        return self.bundle.encode_texts(cast(Any, texts))

    def encode_products(self, products: str | os.PathLike[str] | Dataset | Regions) -> np.ndarray:
        """float32 vectors [products, values] of a dataset, or of regions in memory."""
        from shopwindow.data.regions import Regions

        if isinstance(products, Regions):
            return self.bundle.encode_products(products)
        return self.bundle.encode_dataset(_dataset(products, "products"))

    def __repr__(self) -> str:
        scores = "".join(f", {name} {value:.4f}" for name, value in list(self.bundle.scores.items())[:1])
        return f"Model({str(self.path)!r}, {self.bundle.dimensions:,} values{scores})"


@dataclass(frozen=True, repr=False)
class Index:
    """An opened index. `engine` is the `SearchEngine` with all that it can do."""

    path: Path
    engine: SearchEngine

    def search(
        self,
        words: str = "",
        *,
        photo: object = None,
        share: float = 0.5,
        k: int = 10,
        where: str | Sequence[str] = (),
        labels: Sequence[int] = (),
        exact: bool = False,
        hybrid: bool = False,
        rerank: Any = None,
    ) -> Hits:
        """The best k products for words, for a photo (a path, bytes or a PIL picture) or for both.

        `where`: conditions such as `price<40`. The others are those of `SearchRequest`.

        Raises: TypeError for wrong types, ValueError as `SearchEngine.search`.
        """
        from shopwindow.search.conditions import parse_conditions
        from shopwindow.search.hits import Filter, SearchRequest

        if not isinstance(words, str):
            raise TypeError(f"words: {_kind(words)}; wanted one text, such as 'red lamp'")
        conditions = parse_conditions([where] if isinstance(where, str) else list(where))
        request = SearchRequest(
            words,
            photo=None if photo is None else self.engine.encode_photo(_picture(photo)),
            share=share,
            k=_whole(k, "k"),
            where=Filter(frozenset(labels), conditions),
            exact=exact,
            hybrid=hybrid,
            rerank=rerank,
        )
        hits = self.engine.search(request)
        return Hits(words, tuple((hit, self.engine.product(hit.product_id)) for hit in hits))

    def encode_queries(self, texts: str | Sequence[str]) -> np.ndarray:
        """As `Model.encode_queries`."""
        from shopwindow.model.text_side import as_texts

        several = as_texts(texts)
        vectors = self.engine.encode(several)
        return cast("np.ndarray", vectors[0] if isinstance(texts, str) else vectors)

    def __len__(self) -> int:
        return self.engine.count()

    def __repr__(self) -> str:
        columns = ", ".join(column.name for column in self.engine.columns)
        return f"Index({str(self.path)!r}, {len(self):,} products{f', columns {columns}' if columns else ''})"


@dataclass(frozen=True, repr=False)
class Hits(Sequence["Hit"]):
    """Products found, best first: a sequence of `Hit`. In a notebook they are shown as photos."""

    words: str
    shown: tuple[tuple[Hit, ProductView], ...]

    @overload
    def __getitem__(self, place: int) -> Hit: ...
    @overload
    def __getitem__(self, place: slice) -> Hits: ...
    def __getitem__(self, place: int | slice) -> Hit | Hits:
        return Hits(self.words, self.shown[place]) if isinstance(place, slice) else self.shown[place][0]

    def __len__(self) -> int:
        return len(self.shown)

    def __iter__(self) -> Iterator[Hit]:
        return (hit for hit, _ in self.shown)

    def to_dicts(self) -> list[dict[str, Any]]:
        """A flat dict of each product, as `pandas.DataFrame` takes them."""
        return [
            {
                "rank": hit.rank,
                _PRODUCT: hit.product_id,
                "score": hit.score,
                "title": view.title,
                "photo": view.photo_url or (str(view.photo) if view.photo else None),
                **view.values,
            }
            for hit, view in self.shown
        ]

    def __repr__(self) -> str:
        lines = [f"{len(self)} hits for {self.words!r}"]
        for hit, view in self.shown:
            lines.append(f"{hit.rank:>3}  {hit.score:.4f}  {hit.product_id}  {view.title or ''}".rstrip())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The photos in a row that wraps, with title and score; all that a shop wrote is escaped."""
        return f"<div>{''.join(_tile(hit, view) for hit, view in self.shown)}</div>"


def _tile(hit: Hit, view: ProductView) -> str:
    name = html.escape(view.title or str(hit.product_id))
    source = _photo_source(view)
    style = f"width:{_PHOTO_PX}px;height:{_PHOTO_PX}px;object-fit:contain"
    photo = f'<img src="{html.escape(source)}" alt="{name}" style="{style}">' if source else ""
    says = f"{hit.rank}. {name}<br><small>{html.escape(str(hit.product_id))}, {hit.score:.4f}</small>"
    return (
        f'<figure style="display:inline-block;width:{_PHOTO_PX}px;margin:4px;vertical-align:top">'
        f"{photo}<figcaption>{says}</figcaption></figure>"
    )


def _photo_source(view: ProductView) -> str | None:
    """The address of a photo, or a small copy of its file within the page; None where there is none to show."""
    import base64

    from shopwindow.vision.fetch import fetch
    from shopwindow.vision.pictures import UnreadablePicture, read_picture

    if view.photo is None:
        return view.photo_url
    try:
        content = fetch(str(view.photo)).data
        assert content is not None
        picture = read_picture(content, wanted=2 * _PHOTO_PX)
    except UnreadablePicture:
        return None
    small = io.BytesIO()
    picture.thumbnail((2 * _PHOTO_PX, 2 * _PHOTO_PX))
    picture.save(small, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(small.getvalue()).decode()}"


def _picture(photo: object) -> bytes:
    """The bytes of a photo. Raises: TypeError, DataError as `read_photo`."""
    if isinstance(photo, bytes):
        return photo
    if isinstance(photo, str | os.PathLike):
        from shopwindow.vision.fetch import read_photo

        return read_photo(photo)
    save = getattr(photo, "save", None)
    if callable(save) and hasattr(photo, "convert"):
        content = io.BytesIO()
        cast(Any, photo).convert("RGB").save(content, "PNG")
        return content.getvalue()
    raise TypeError(f"photo: {_kind(photo)}; wanted a path, the bytes of a picture, or a PIL picture")


def _text(given: object, name: str) -> str:
    if not isinstance(given, str):
        raise TypeError(f"{name}: {_kind(given)}; wanted a text")
    return given


def _path(given: object, name: str) -> Path:
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"{name}: {_kind(given)}; wanted a path")
    return Path(cast("str | os.PathLike[str]", given))


def _part(given: object, part: str, name: str | None = None) -> Path:
    """The path of a bundle, a dataset or an index, which a folder of `shopwindow shop` may stand for."""
    from shopwindow.shop.stages import part_of

    return part_of(_path(given, name or part), part)


def _goal(out: object, *inputs: object) -> Path:
    """Where to write. Raises: TypeError for no path, DataError where it is, lies inside or holds what is read."""
    from shopwindow.files import check_apart

    goal = _path(out, "out")
    read = [getattr(given, "path", given) for given in inputs]  # of a model or a dataset, where it lies
    check_apart(goal, [path for path in read if isinstance(path, str | os.PathLike)], field="out")
    return goal


def _dataset(given: object, name: str) -> Dataset:
    from shopwindow.data.dataset import Dataset

    return given if isinstance(given, Dataset) else Dataset(_part(given, "dataset", name))


def _pools_of(given: object) -> Pools:
    from shopwindow.ranking.pools import Pools, read_pools

    if isinstance(given, Pools):
        return given
    if isinstance(given, str | os.PathLike):
        return read_pools(given)
    pairs = None if isinstance(given, Mapping) else _columns(given, (_QUERY, _PRODUCT))
    if pairs is not None:
        return Pools.from_arrays(_ids(pairs[0]), _ids(pairs[1]))
    return Pools.of_run(run_of(given))


def _columns(given: object, names: Sequence[str]) -> list[list[Any]] | None:
    """Columns of these names from a table (anything that gives a column by its name, as pandas does), a dict of
    columns, as many columns in a tuple, or a dict of dicts; None where it is none of these."""
    if isinstance(given, Mapping) and given and all(isinstance(own, Mapping) for own in given.values()):
        rows = [(query, product, value) for query, own in given.items() for product, value in own.items()]
        return [list(column) for column in zip(*rows, strict=True)][: len(names)] if rows else None
    if isinstance(given, tuple):
        return [list(column) for column in given] if len(given) == len(names) else None
    known = getattr(given, "columns", given if isinstance(given, Mapping) else None)
    if known is None or not all(name in known for name in names):
        return None
    return [list(cast(Any, given)[name]) for name in names]


def _ids(column: list[Any]) -> np.ndarray:
    """Ids as text or integers. Raises: TypeError for another kind."""
    import numpy as np

    from shopwindow.ids import ids_from_text

    for place, value in enumerate(column):
        if not isinstance(value, str | int | np.integer) or isinstance(value, bool):
            raise TypeError(f"ids: {_kind(value)} at place {place}; wanted whole numbers or texts")
    return ids_from_text([str(value) for value in column]) if column else np.zeros(0, np.int64)


def _numbers(column: list[Any], name: str) -> np.ndarray:
    import numpy as np

    try:
        return np.array([float(value) for value in column], np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{name}: {error}; wanted numbers") from error


def _whole(number: object, name: str) -> int:
    try:
        return operator.index(cast(Any, number))
    except TypeError:
        raise TypeError(f"{name}: {number!r}, {_kind(number)}; wanted a whole number") from None


def _kind(given: object) -> str:
    """What something is, in a word or two."""
    name = type(given).__name__
    return "None" if given is None else f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"
