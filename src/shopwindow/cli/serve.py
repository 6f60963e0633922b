"""The verbs of the service: serve an index, make an API key."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from shopwindow.cli.arguments import at_least, only_with, optional_libraries
from shopwindow.files import DataError
from shopwindow.processors import processors

if TYPE_CHECKING:
    from shopwindow.model.exported_text import ExportedText
    from shopwindow.service.live import Reranking


def serve(
    index: str | None = None,
    *,
    store: str | None = None,
    bundle: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    keys: str | None = None,
    text: str | None = None,
    rerank: str | None = None,
    candidates: int | None = None,
    budget: int | None = None,
    threads: int | None = None,
    seconds: float = 5.0,
    requests_at_once: int = 64,
    suggest: list[str] | None = None,
    log_queries: bool = False,
) -> None:
    """Answer searches over HTTP, with a page to search by, until SIGTERM or Ctrl-C.

    A newer state of the index is found within seconds, at once on SIGHUP; requests in flight end in the old one. While
    a database does not answer, requests get 503, and are answered again as soon as it does.

    Args:
        index: An index that `shopwindow index make` wrote, or a folder of `shopwindow shop`.
        store: A database that holds the products, instead of an index: postgresql://USER@HOST/DATABASE, lance://FOLDER,
            qdrant://HOST:6333 or milvus://HOST:19530, and ?table=NAME where the table is not called products.
        bundle: The model that made the vectors of --store.
        host: The address to listen at. One that others can reach needs --keys.
        port: The port to listen at; 0 takes a free one.
        keys: A file with the hashes of API keys (`shopwindow key NAME --keys FILE`); then every request needs a key.
        text: A directory that `shopwindow export onnx` wrote of the index's bundle; it then encodes the words, faster.
        rerank: What scores the first products of every search by words anew: a cross-encoder (a directory that train
            writes), late, or a pool operator.
        candidates: How many first products --rerank scores anew: 50 when not given.
        budget: Milliseconds that a cross-encoder may take for a search; what it has not scored then stays below.
        threads: Searches that run at once; as many as there are processors when not given.
        seconds: The longest that a request may take; after that it is answered with 503.
        requests_at_once: Requests inside at once; one more is answered with 503.
        suggest: Queries that the page offers to begin with.
        log_queries: Also write what was searched for into the log.
    """
    from functools import partial

    from shopwindow.cli.catalogue import engine_of
    from shopwindow.cli.console import say

    at_least(1, threads=threads, requests_at_once=requests_at_once, candidates=candidates, budget=budget)
    if rerank is None:
        only_with("goes with --rerank", candidates=candidates, budget=budget)
    if not seconds > 0:
        raise DataError(f"{seconds}, more than 0 is wanted", field="--seconds")
    with optional_libraries(), _without_collection():
        from shopwindow.service.app import Service
        from shopwindow.service.auth import read_keys
        from shopwindow.service.limits import Limits
        from shopwindow.service.run import check_reach, limit_library_threads, open_socket
        from shopwindow.service.run import serve as run_service

    ring = None if keys is None else read_keys(keys)
    check_reach(host, ring)
    threads = threads or processors()
    limits = Limits(engine_threads=threads, seconds=seconds, requests_at_once=requests_at_once)
    # Threads inside one search would only wait for those of the others: they cost, and nobody is answered sooner.
    prepare = partial(limit_library_threads, max(1, processors() // threads))
    if store is not None and index is not None:
        raise DataError("either an index or --store")
    engine = engine_of(index, store, bundle, text=None if text is None else _text_side(text))
    service = Service(
        engine,
        limits=limits,
        keys=ring,
        suggestions=suggest,
        log_queries=log_queries,
        prepare=prepare,
        reranking=None if rerank is None else reranking_of(rerank, candidates, budget),
    )
    with open_socket(host, port) as listener:
        shown = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}/"
        run_service(service, listener, on_listening=lambda: say(f"search page: {shown}"))


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Imports make no garbage: to look for it takes a tenth of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def reranking_of(rerank: str, candidates: int | None, budget: int | None) -> Reranking:
    """What all searches by words get. Raises: DataError for an unknown reranker, or a budget of another."""
    from shopwindow.cli.catalogue import reranker_of
    from shopwindow.model.cross_reranker import CrossReranker
    from shopwindow.search.hits import RERANKED
    from shopwindow.service.live import Reranking

    how = reranker_of(rerank)
    if budget is not None:
        if not isinstance(how, CrossReranker):
            raise DataError("goes with a cross-encoder", field="--budget")
        how = replace(how, budget_seconds=budget / 1000)
    return Reranking(how, candidates or RERANKED)


def _text_side(path: str) -> ExportedText:
    from shopwindow.model.exported_text import ExportedText

    with optional_libraries():
        return ExportedText.load(path)


def key(name: str, *, keys: str) -> None:
    """Make an API key: its hash is added to a file, the key itself is printed, once.

    Args:
        name: Whose key it is; the log names it.
        keys: The file for its hash; made when there is none.
    """
    from shopwindow.cli.console import say

    with optional_libraries():
        from shopwindow.service.auth import add_key
    say(add_key(keys, name))
