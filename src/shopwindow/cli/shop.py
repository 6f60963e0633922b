"""`shopwindow shop`: a shop's own files in, a searched and measured shop out. It composes the other verbs."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shopwindow import __version__
from shopwindow.cli.arguments import Filled
from shopwindow.cli.console import AlignedTable, counted, say
from shopwindow.files import DataError

if TYPE_CHECKING:
    from shopwindow.data.products import Products
    from shopwindow.shop.verdict import Verdict


def shop(
    products: str,
    *,
    out: Filled,
    photos: str | None = None,
    clicks: str | None = None,
    judgements: str | None = None,
    backbone: str = "lite0",
    detector: str | None = None,
    recipe: str = "shop",
    set: list[str] | None = None,
    id: str | None = None,
    title: str | None = None,
    photo: str | None = None,
    click_columns: list[str] | None = None,
    allow_unreadable: bool = False,
    threads: int | None = None,
) -> None:
    """Turn a shop's photos, products and clicks into a search that is measured; then `shopwindow serve OUT`.

    Photos are encoded, clicks cleaned and split, a model trained, an index made. A table compares it with simpler
    ways to rank on clicks that it never saw. What is done is kept: the same command again does only what changed.

    Args:
        products: The table of products (CSV, TSV, Parquet, JSONL): id, title, photo and any other columns. Or a folder
            of photos named after their products.
        out: The folder for everything.
        photos: The folder of the photos, where the table has no column of them or names them relative to it.
        clicks: The click log: query, id, and any of clicks, date, position, impressions. Without it the titles teach.
        judgements: Grades by people, for measuring only: query, id, relevant.
        backbone: What encodes a photo, as `shopwindow extract` says: lite0, plain ...
        detector: What finds the things in a photo, each of which becomes a region.
        recipe: How to train.
        set: Fields of the recipe changed, by dotted name.
        id: The column of ids, where it has an unusual name.
        title: The same of titles.
        photo: The same of photos.
        click_columns: Columns of the click log by role, where their names are not usual: query=term id=article.
        allow_unreadable: Go on where more than 1 % of the photos cannot be read.
        threads: How many to compute with; as many as there are processors when not given.
    """
    from shopwindow.cli.extract import extract
    from shopwindow.cli.learn import assignments
    from shopwindow.cli.progress import duration
    from shopwindow.cli.threads import take_threads
    from shopwindow.model.recipe import load_recipe
    from shopwindow.shop.stages import Stages, file_hash
    from shopwindow.vision.precomputed import ENDINGS
    from shopwindow.vision.sources import find_photos

    take_threads(threads)
    # What can be refused before photos are encoded comes first.
    changes = assignments(set or ())
    chosen = load_recipe(recipe, changes).to_yaml()
    if not any(
        place.endswith(ENDINGS) for place in (products, backbone)
    ):  # vectors made elsewhere name no photos
        table = find_photos(products, photos=photos, id=id, title=title, photo=photo).products
        _check(table, clicks, judgements, click_columns or [], backbone)
    started, stages = time.monotonic(), Stages(Path(out))
    folder = stages.folder

    def stage(number: int, says: str) -> None:
        say(f"\n{number}  {says}", style="bold")

    stage(1, "extract: photos into regions")
    extract(
        products,
        out=str(folder / "features"),
        photos=photos,
        backbone=backbone,
        detector=detector,
        id=id,
        title=title,
        photo=photo,
        allow_unreadable=allow_unreadable,
        threads=threads,
    )
    made_of: dict[str, Any] = {"features": _content(folder / "features"), "version": __version__}

    def make(name: str, inputs: dict[str, Any], verb: Callable[[Path], None]) -> None:
        made_of.update(inputs)
        if not stages.run(name, made_of, verb):
            say(f"{folder / name}: kept, nothing it is made of has changed")

    stage(2, "prepare: clicks into pairs, a part of them held out")
    given = {"clicks": file_hash(clicks), "judgements": file_hash(judgements), "columns": click_columns}
    make("dataset", given, partial(_prepare, folder, clicks, judgements, click_columns))
    stage(3, f"train: recipe {recipe}")
    make("bundle", {"recipe": chosen}, partial(_train, folder, recipe, changes))
    stage(4, "index: the whole catalogue, with its photos")
    make("index", {}, partial(_index, folder))
    stage(5, "measure: what the model is worth, beside simpler ways to rank")
    verdicts = _measure(folder, from_clicks=clicks is not None)
    stages.finish({"products": str(products), "verdicts": verdicts})
    say(f"\nsearch page: shopwindow serve {out}")
    say(f"{duration(time.monotonic() - started)} in all", style="dim")


def _check(
    table: Products, clicks: str | None, judgements: str | None, click_columns: list[str], backbone: str
) -> None:
    """Raises: DataError for a backbone that cannot be opened, for clicks or judgements that cannot be read, and where
    nothing says which words mean what."""
    from shopwindow.cli.prepare import columns_by_role
    from shopwindow.data.clicks import read_clicks, read_judgements
    from shopwindow.model.pretrained import TextEncoder
    from shopwindow.vision.backbone import open_backbone

    reads_text = isinstance(open_backbone(backbone), TextEncoder)
    if judgements is not None:
        read_judgements(judgements, table.ids)
    if clicks is not None:
        read_clicks(clicks, table.ids, columns=columns_by_role(click_columns))
    elif not reads_text and not any(table.titles or ()):
        raise DataError(
            "there are neither clicks nor titles, so nothing says which words mean which photo: give --clicks, a "
            "table with titles, or a --backbone that reads text (CLIP, SigLIP)"
        )


def _prepare(
    folder: Path, clicks: str | None, judgements: str | None, click_columns: list[str] | None, out: Path
) -> None:
    from shopwindow.cli.prepare import prepare

    files = {"clicks": clicks, "judgements": judgements, "click_columns": click_columns}
    prepare([], products=str(folder / "features"), out=str(out), **files)  # type: ignore[arg-type] # by name


def _train(folder: Path, recipe: str, changes: dict[str, str], out: Path) -> None:
    """Learns from clicks, or else from titles. Towers that read texts need neither: without clicks they stay as they
    are."""
    from shopwindow.cli.learn import train
    from shopwindow.data.dataset import Dataset
    from shopwindow.model.pretrained import open_text_tower
    from shopwindow.model.recipe import load_recipe
    from shopwindow.model.zero_shot import write_zero_shot

    dataset = Dataset(folder / "dataset")
    if not dataset.has_weights and (tower := open_text_tower(dataset.backbone)) is not None:
        write_zero_shot(dataset, out, text_tower=tower)
        say("No clicks: the pretrained towers search as they are, nothing was trained.")
        return
    fitting = {"loss.weighting": "none"} if not dataset.has_weights else {}
    pairs, size = int(dataset.pair_training.sum()), load_recipe(recipe, changes).batches.size
    if size > pairs // _FEWEST_BATCHES:
        fitting["batches.size"] = str(max(2, pairs // _FEWEST_BATCHES))
        say(f"Few pairs: {pairs:,}; batches of {fitting['batches.size']} instead of {size}.")
    settings = {**changes, **fitting}
    train(str(folder / "dataset"), out=str(out), recipe=recipe, set=[f"{k}={v}" for k, v in settings.items()])


def _index(folder: Path, out: Path) -> None:
    from shopwindow.cli.index import make

    make(str(folder / "bundle"), str(folder / "dataset"), out=str(out))


def _measure(folder: Path, *, from_clicks: bool) -> dict[str, Any]:
    """Prints the tables and the sentence; gives them as plain values. Titles are no test of a search for titles."""
    from shopwindow.data.dataset import Dataset
    from shopwindow.model.bundle import Bundle
    from shopwindow.ranking.measures import unjudged_note
    from shopwindow.shop.measuring import Judged, measure, rankers_of
    from shopwindow.shop.verdict import FEWEST_QUERIES

    dataset = Dataset(folder / "dataset")
    files = {name: dataset.held_out(name) for name in _WHAT if from_clicks or name != "test"}
    if not any(files.values()):
        say("Nothing can be measured: no clicks are held out, and there are no judgements.")
        return {}
    rankers = rankers_of(Bundle.load(folder / "bundle"), dataset)
    verdicts: dict[str, Verdict] = {}
    for name, path in files.items():
        if path is None:
            continue
        judged = Judged.read(path, dataset)
        if judged.unanswered:
            what = counted(judged.unanswered, "query has", "queries have")
            say(f"{path.name}: {what} no right product, and cannot be measured")
        if len(judged.texts) < FEWEST_QUERIES:
            what = counted(len(judged.texts), "query", "queries")
            say(f"{path.name}: {what}, too few to compare anything")
            continue
        verdict = measure(rankers, dataset, judged, pools=name == "judgements")
        _print_table(_WHAT[name], verdict)
        verdicts[name] = verdict
        if name == "judgements":
            say("Ranked: the judged products of each query alone.")
        else:
            note = unjudged_note(judged.answers, dataset.product_ids)
            say(f"Ranked: the whole catalogue. {note and note + '.'}")
        say(verdict.sentence, style="bold")
    if len({verdict.serve for verdict in verdicts.values()}) > 1:
        say(_DISAGREE)
    return {name: verdict.to_json() for name, verdict in verdicts.items()}


_FEWEST_BATCHES: Final = 4
"""Steps of an epoch; where the pairs are fewer, batches are smaller than the recipe says."""
_WHAT: Final = {"judgements": "judged queries", "test": "queries of held-out clicks"}
"""What is held out, in the order in which it is measured."""
_DISAGREE: Final = (
    "The two tables name different systems. Judgements say how judged products are ordered; clicks rank the whole "
    "catalogue, as a search does, but favour what was shown before. Decide by the clicks, unless many "
    "queries are judged."
)


def _print_table(what: str, verdict: Verdict) -> None:

    names = ("nDCG@5", "95 % interval", *verdict.lines[0].others, "to the best other")
    table = AlignedTable([f"{verdict.queries:,} {what}", *names])
    for line in verdict.lines:
        score = line.score
        others = [f"{value:.3f}" for value in line.others.values()]
        interval = f"{score.low:.3f} to {score.high:.3f}"
        table.add_row(line.name, f"{score.mean:.3f}", interval, *others, line.against)
    say("")
    table.show()


def _content(features: Path) -> str:
    from shopwindow.data.features import Features

    return Features(features).content_hash
