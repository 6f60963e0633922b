"""A shop's own products are read: columns found, codes as written, and what is wrong told with its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopwindow.data.products import Products, read_products
from shopwindow.files import DataError

ROWS: list[dict[str, Any]] = [
    {"SKU": "0042", "Product Name": "red mug", "image-url": "a.jpg | b.jpg", "price": "1.50", "ean": "4006381333931"},
    {"SKU": "7", "Product Name": "", "image-url": "", "price": "", "ean": "0006381333931"},
]  # fmt: skip


def written(tmp_path: Path, content: str | bytes, name: str = "products.any") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def as_csv(separator: str) -> str:
    lines = [list(ROWS[0]), *([row[name] for name in ROWS[0]] for row in ROWS)]
    return "".join(separator.join(line) + "\n" for line in lines)


def check_rows(products: Products) -> None:
    assert products.ids.tolist() == ["0042", "7"]
    assert products.titles == ["red mug", ""]
    assert products.photos == [("a.jpg", "b.jpg"), ()]
    assert products.columns.to_pydict() == {"price": [1.5, None], "ean": ["4006381333931", "0006381333931"]}
    assert products.found == {"id": "SKU", "title": "Product Name", "photo": "image-url"}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_delimited_text_is_read(tmp_path: Path, separator: str) -> None:
    check_rows(read_products(written(tmp_path, as_csv(separator))))
    check_rows(read_products(written(tmp_path, gzip.compress(("\ufeff" + as_csv(separator)).encode()))))


def test_json_lines_are_read(tmp_path: Path) -> None:
    first: dict[str, Any] = ROWS[0] | {"image-url": ["a.jpg", "b.jpg"]}
    second = {"SKU": 7, "price": None, "ean": "0006381333931"}
    lines = json.dumps(first).replace('"1.50"', "1.50") + "\n\n" + json.dumps(second) + "\n"
    check_rows(read_products(written(tmp_path, lines)))


def test_parquet_is_read(tmp_path: Path) -> None:
    columns = {name: [row[name] or None for row in ROWS] for name in ROWS[0]}
    columns |= {"price": [1.5, None], "image-url": [["a.jpg", "b.jpg"], []]}
    pq.write_table(pa.table(columns), tmp_path / "p", row_group_size=1)
    check_rows(read_products(tmp_path / "p"))


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2.5", "-3e2"], pa.float64()),
        (["0", "0.5", ""], pa.float64()),
        (["1", "02"], pa.string()),
        (["4006381333931", "4006381333932"], pa.string()),
        (["12345678901234567890"], pa.string()),
        (["1", "big"], pa.string()),
        (["n/a", "n/a"], pa.string()),
        (["", ""], pa.string()),
    ],
)
def test_a_column_is_of_numbers_where_all_are_amounts(
    tmp_path: Path, cells: list[str], kind: pa.DataType
) -> None:
    rows = "".join(f"{row},{cell}\n" for row, cell in enumerate(cells))
    columns = read_products(written(tmp_path, "id,x\n" + rows)).columns
    assert columns.schema.field("x").type == kind
    if kind == pa.string():
        assert columns["x"].to_pylist() == [cell or None for cell in cells]


@pytest.mark.parametrize("cell", ["NULL", "n/a", "€ 1.99", "1,99", "1.99 EUR", "nan", "inf", "-"])
def test_what_stands_for_no_value_or_a_price_does_not_make_words_of_numbers(
    tmp_path: Path, cell: str
) -> None:
    for rows, line in ((f"1;{cell}\n2;3\n", 2), (f"1;3\n2;{cell}\n", 3)):
        with pytest.raises(
            DataError, match=f"line {line}, price: .* is no finite number.*price:word in the header"
        ):
            read_products(written(tmp_path, "id;price\n" + rows))


def test_the_header_may_say_the_kind(tmp_path: Path) -> None:
    products = read_products(written(tmp_path, "id,size:word,dc:title\n1,38,mug\n"))
    assert products.columns.to_pydict() == {"size": ["38"], "dc:title": ["mug"]}
    with pytest.raises(DataError, match="line 2, size: 'big' is no finite number"):
        read_products(written(tmp_path, "id,size:number\n1,big\n"))


def test_columns_can_be_given_and_better_names_come_first(tmp_path: Path) -> None:
    path = written(tmp_path, "sku,id,name,title\nA,1,x,y\n")
    assert read_products(path).found == {"id": "id", "title": "title"}
    assert read_products(path, id="SKU", title="name").found == {"id": "sku", "title": "name"}
    for wrong, says in [
        ("code", "id = 'code': no such column; there are 'sku', 'id'"),
        ("title", "given twice"),
    ]:
        with pytest.raises(DataError, match=says):
            read_products(path, id=wrong, title="title")


def test_a_file_of_photos_alone_has_their_names_as_ids(tmp_path: Path) -> None:
    products = read_products(written(tmp_path, "file_name,text\na/1.jpg,mug\n"))
    assert (products.ids.tolist(), products.photos) == (["a/1.jpg"], [("a/1.jpg",)])


@given(codes=st.lists(st.text("0123456789", min_size=1, max_size=20), min_size=1, unique=True))
def test_ids_stay_as_written(tmp_path_factory: pytest.TempPathFactory, codes: list[str]) -> None:
    path = written(tmp_path_factory.mktemp("ids"), "sku\n" + "\n".join(codes))
    assert read_products(path).ids.astype(np.str_).tolist() == codes


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty, a table with a header line was wanted"),
        ("price,colour\n1,red\n", "line 1: no column of the ids: name it (usual names: id, product_id"),
        ("id,title\n", "holds no product"),
        ("id,title\n1,a\n2\n", "line 3: 1 fields, the header has 2"),
        ("id,title\n1,a\n\n1,b\n", "line 4, id: product 1 stands in line 2 too"),
        ("id,title\n ,a\n", "line 2, id: is empty"),
        ("id,price,Price\n1,2,3\n", "line 1: columns 'price' and 'Price'"),
        (",id\n0,1\n", "line 1: column 1 has no name in the header"),
        (b"id,title\n1,caf\xe9\n", "line 2: not UTF-8"),
        ("id,title\n1,a\n".encode("utf-16"), "not UTF-8"),
        ('id,title\n1,"a\n', "no CSV"),
        ('{"id": 1}\n{"id": 2', "line 2: no JSON object"),
        ('{"id": 1}\n[2]\n', "line 2: no JSON object"),
        ('{"id": 1}\n{"id": 2, "id": 3}\n', "line 2: no JSON object: a key comes twice"),
        ('{"id": 1}\n{"id": 2, "x": 3}\n', "line 2: a key that the first line lacks: 'x'"),
        ('{"id": 1, "x": {"a": 1}}\n', "line 1, x: dict: text or a number was wanted"),
        ('{"id": 1, "x": "\\ud800"}\n', "line 1: no JSON object: half a character"),
        ('{"id": "a\\u0000"}\n', "line 1, id: holds a NUL"),
        (b"PAR1 and no more", "broken Parquet"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, content: str | bytes, says: str) -> None:
    with pytest.raises(DataError) as told:
        read_products(written(tmp_path, content))
    assert says in str(told.value)
    assert "products.any" in str(told.value)


def test_a_real_shop_is_read(shops: Path) -> None:
    products = read_products(shops / "grocery/products.csv")
    assert len(products) == 5421
    assert products.found == {"id": "sku", "title": "title", "photo": "photo"}
    assert products.columns.schema.names == ["department", "price"]
    assert products.columns["price"].type == pa.float64()
    assert products.photos is not None
    assert products.photos[0] == ("photos/GOLDEL-001.jpg",)
