"""Any file at all, for every reader of a file from elsewhere: a value, or one line that names the file."""

from __future__ import annotations

import gzip
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shopwindow.cli.systems import read_queries, read_scores
from shopwindow.data.prepare import prepare
from shopwindow.data.weights import WeightTable
from shopwindow.files import DataError
from shopwindow.model.recipe import load_recipe
from shopwindow.model.tokenizer_files import load_tokenizer
from shopwindow.ranking.answers import read_answers
from shopwindow.ranking.pools import read_pools
from shopwindow.ranking.submission import check_submission
from shopwindow.report.photos import read_photo
from shopwindow.search.building import read_label_names
from shopwindow.service.auth import read_keys

EXAMPLES = int(os.environ.get("SHOPWINDOW_FUZZ_EXAMPLES", "60"))
"""`make fuzz` asks for more."""

CORPUS = {
    "table": [
        b"query_id,product_id,score\n1,7,0.5\n1,8,1e3\n",
        b"1\t7\t0.5\n1\t8\t0.25\n",
        b"1 Q0 7 1 0.5 tag\n1 Q0 8 2 -0.5 tag\n",
        b'qid;docno;sim\n"1";"7";0.5\n1;"a;""b""\nc";1\n',
        b'{"1": {"7": 0.5, "8": 1}}',
        b"1,[[0.5,'7'],[0.75,'8']]\n2,\"[[1, '9']]\"\n",
        b"query-id,product1,product2\n1,7,8\n",
        b"PAR1\x15\x04\x15\x00PAR1",
        b'{"1": [7, 8], "2": []}',
        b"query-id\tcorpus-id\tscore\n1\t7\t1\n",
        b"1 0 7 1\n",
        b"product_id,query_id,weight\n7,1,2\n",
        b"query_id,query\n1,red bag\n",
        b"category_id\tcategory_name\n0\tshoes\n",
    ],
    "recipe": [
        b"parts:\n- width: 8\n  text: [{words: {}}]\noptimiser:\n  epochs: 2\n",
        b"base: small\noptimiser: {epochs: 1}\n",
        b"a: &a [1]\nb: [*a, *a]\n",
        b"{a: {a: {a: [1, 2, 0x, 2020-13-45]}}}\n",
    ],
    "tokenizer": [
        b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nred\n##s\n",
        b'{"version": "1.0", "model": {"type": "WordPiece"}}',
    ],
    "photo": [
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x02\x00\x00\x00\x02\x08\x02\x00\x00\x00",
        b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01",
        b"RIFF\x24\x00\x00\x00WEBPVP8 ",
        b"GIF89a\x01\x00\x01\x00\x00\x00\x00",
    ],
    "keys": [b"shop " + b"0" * 64 + b"\n# nobody\n"],
    "tsv": [
        b"product_id\timage_h\timage_w\tnum_boxes\tboxes\tfeatures\tclass_labels\tquery\tquery_id\n"
        b"7\t10\t10\t1\tAAAAAAAAAAAAAIA/AACAPw==\tAACAPw==\tAAAAAAAAAAA=\tred bag\t1\n"
    ],
}


def weights(path: Path) -> None:
    with WeightTable(path, path.parent):
        pass


READERS: list[tuple[str, Callable[[Path], object]]] = [
    ("table", lambda path: read_scores(str(path))),
    ("table", read_answers),
    ("table", read_pools),
    ("table", check_submission),
    ("table", weights),
    ("table", lambda path: read_queries(str(path))),
    ("table", read_label_names),
    ("recipe", lambda path: load_recipe(str(path))),
    ("tokenizer", load_tokenizer),
    ("photo", read_photo),
    ("keys", read_keys),
    ("tsv", lambda path: prepare([path], path.parent / "dataset")),
]
PIECES = [
    b"\t",
    b",",
    b";",
    b"\n",
    b"\r",
    b'"',
    b"\0",
    b"nan",
    b"-1",
    b"[",
    b"}",
    b"*a",
    b"&a ",
    b"1e400",
    b"9" * 30,
    b"\xff",
]
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def read_or_named(read: Callable[[Path], object], path: Path) -> None:
    try:
        read(path)
    except DataError as error:
        said = str(error)
        assert path.name in said
        assert "\n" not in said
        assert len(said) < 800


@pytest.mark.parametrize("number", range(len(READERS)))
@FUZZ
@given(data=st.data())
def test_mutated_files_are_read_or_named(tmp_path: Path, number: int, data: st.DataObject) -> None:
    kind, read = READERS[number]
    content = bytearray(data.draw(st.sampled_from(CORPUS[kind] + CORPUS["table"][:2])))
    for _ in range(data.draw(st.integers(0, 5))):
        place = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(place, min(place + 8, len(content))))
        content[place:end] = data.draw(st.binary(max_size=4) | st.sampled_from(PIECES))
    path = tmp_path / ("x.yaml" if kind == "recipe" else "vocab.txt" if kind == "tokenizer" else "x")
    path.write_bytes(gzip.compress(bytes(content)) if data.draw(st.booleans()) else bytes(content))
    read_or_named(read, path)


def test_a_recipe_of_aliases_is_refused_at_once(tmp_path: Path) -> None:
    names = "abcdefghij"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{one}: &{one} [{', '.join([f'*{last}'] * 9)}]" for last, one in itertools.pairwise(names)]
    (tmp_path / "x.yaml").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"x\.yaml: holds an alias"):
        load_recipe(str(tmp_path / "x.yaml"))


@pytest.mark.parametrize("piece", ["[", "{a: ", "[{"])
def test_a_deeply_nested_recipe_is_refused_at_once(tmp_path: Path, piece: str) -> None:
    (tmp_path / "x.yaml").write_text(piece * 50_000)
    with pytest.raises(DataError, match=r"x\.yaml: no YAML"):
        load_recipe(str(tmp_path / "x.yaml"))
