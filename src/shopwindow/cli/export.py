"""The verbs that write vectors and towers in the formats of other systems. They call `shopwindow.export` and print."""

from __future__ import annotations

from typing import Literal

from shopwindow.cli.arguments import Replaced, optional_libraries
from shopwindow.cli.console import counted, say
from shopwindow.cli.progress import counting
from shopwindow.files import DataError


def parquet(index: str, *, out: Replaced) -> None:
    """Write the vectors of an index into a Parquet file.

    Each product goes with its id, its vector as finely as the index keeps it, size in px, labels, texts and the
    shop's own columns.

    Args:
        index: An index that `shopwindow index make` wrote, or a folder of `shopwindow shop`.
        out: The file to write.
    """
    from shopwindow.export.parquet import write_parquet

    with counting("export", "products") as tell:
        count = write_parquet(index, out, progress=tell)
    _print_count(count, out)


def pgvector(
    index: str,
    *,
    url: str,
    table: str,
    nearest: Literal["hnsw", "ivfflat"] | None = None,
    upsert: bool = False,
) -> None:
    """Write the vectors of an index into a table of PostgreSQL with pgvector.

    Readers there see the old vectors or the new ones, never a mixture. Needs `pip install 'shopwindow[postgres]'`.

    Args:
        index: An index that `shopwindow index make` wrote, or a folder of `shopwindow shop`.
        url: The database, postgresql://USER@HOST/DATABASE; give a password better in PGPASSWORD or ~/.pgpass.
        table: The table, NAME or SCHEMA.NAME. One that shopwindow wrote is replaced.
        nearest: Build pgvector's index of this kind, for inner products.
        upsert: Keep the table's other products; replace those of the index, add the missing, and missing columns.
    """
    from shopwindow.export.pgvector import write_pgvector

    with counting("export", "products") as tell, optional_libraries():
        count = write_pgvector(index, url, table, upsert=upsert, nearest=nearest, progress=tell)
    _print_count(count, table)


def qdrant(index: str, *, url: str, collection: str) -> None:
    """Write the vectors of an index into a collection of Qdrant.

    Readers there see the old vectors or the new ones, never a mixture. Needs `pip install 'shopwindow[qdrant]'`.

    Args:
        index: An index that `shopwindow index make` wrote, or a folder of `shopwindow shop`.
        url: The server, http://HOST:6333; give a key in QDRANT_API_KEY.
        collection: The collection's name, an alias.
    """
    from contextlib import closing

    from shopwindow.export.qdrant import write_qdrant
    from shopwindow.search.stores.qdrant import open_qdrant

    with counting("export", "products") as tell, optional_libraries(), closing(open_qdrant(url)) as client:
        count = write_qdrant(index, client, collection, where=url, progress=tell)
    _print_count(count, collection)


def lance(index: str, *, url: str, table: str = "products") -> None:
    """Write the vectors of an index into a table of LanceDB: files in a folder, or on object storage.

    Readers there see the old vectors or the new ones, never a mixture. Needs `pip install 'shopwindow[lance]'`.

    Args:
        index: An index that `shopwindow index make` wrote, or a folder of `shopwindow shop`.
        url: Where the tables lie, lance://FOLDER or lance+s3://BUCKET/FOLDER.
        table: The table. One that shopwindow wrote is replaced.
    """
    with counting("export", "products") as tell, optional_libraries():
        from shopwindow.export.lance import write_lance

        count = write_lance(index, url, table, progress=tell)
    _print_count(count, table)


def milvus(index: str, *, url: str, collection: str = "products") -> None:
    """Write the vectors of an index into a collection of Milvus.

    Readers there see the old vectors or the new ones, never a mixture. Needs `pip install 'shopwindow[milvus]'`.

    Args:
        index: An index that `shopwindow index make` wrote, or a folder of `shopwindow shop`.
        url: The server, milvus://HOST:19530, or a file of milvus-lite, milvus://FILE.db; give a key in MILVUS_TOKEN.
        collection: The collection's name, an alias.
    """
    with counting("export", "products") as tell, optional_libraries():
        from shopwindow.export.milvus import write_milvus

        count = write_milvus(index, url, collection, progress=tell)
    _print_count(count, collection)


def onnx(bundle: str, *, out: Replaced, int8: bool = False) -> None:
    """Write what turns words into vectors as ONNX, with its tokenizer: `ExportedText` opens it without torch.

    What was written is opened and tried on texts of the vocabulary's words; their vectors must point as the bundle's do
    (1 - cosine at most 0.001; int8 0.01), or nothing is written. Needs `pip install 'shopwindow[onnx]'`.

    Args:
        bundle: A model that `shopwindow train` wrote, or a folder of `shopwindow shop`.
        out: The directory to write: text.onnx, tokenizer.json, text.json, and keys.npy where names are looked up.
        int8: Weights as whole numbers of 8 bits: a quarter of the bytes, vectors a little off.
    """
    from shopwindow.model.bundle import Bundle

    with optional_libraries():
        from shopwindow.export.onnx import export_text

        apart = export_text(Bundle.load(bundle), out, int8=int8)
    say(f"text side as ONNX, {'int8' if int8 else 'float32'}: {out}")
    say(
        f"its vectors against the bundle's, 1 - cosine over {counted(apart.texts, 'text')}: "
        f"at most {apart.worst:.1e}, mean {apart.mean:.1e}",
    )


def bert(bundle: str, *, out: Replaced, tower: Literal["text", "photo"] = "text") -> None:
    """Write a tower as a BERT checkpoint directory that other tools of the BERT family open.

    Args:
        bundle: A model that `shopwindow train` wrote, or a folder of `shopwindow shop`.
        out: The directory to write: config.json, model.safetensors, tokenizer.json, vocab.txt.
        tower: Which tower. The photo tower's layers take regions, mapped by projection.safetensors, as inputs_embeds.
    """
    from shopwindow.model.bundle import Bundle
    from shopwindow.model.checkpoint import write_tower

    opened = Bundle.load(bundle)
    towers = opened.model.text_towers if tower == "text" else opened.model.photo_towers
    if len(towers) != 1:
        raise DataError(f"has {len(towers)} {tower} transformers, wanted one to write", path=bundle)
    write_tower(towers[0], opened.tokenizer, out)
    say(f"{tower} tower: {out}")


def _print_count(count: int, goal: str) -> None:
    say(f"{counted(count, 'product')}: {goal}")
