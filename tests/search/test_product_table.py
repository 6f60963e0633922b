"""A shop's table is read strictly: right values, or line and field of what is wrong."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shopwindow.files import DataError
from shopwindow.search.attributes import ATTRIBUTES_FILE, Attributes, nothing_known, summarise
from shopwindow.search.conditions import Condition
from shopwindow.search.product_table import ProductTable, read_product_table

ROWS = {7: {"price": 12.5, "colour": "red"}, 3: {"colour": "dark, blue"}, 9: {"price": -1.0}, 4: {}}
CSV = 'product_id,price,colour\n7,12.50,red\n3,,"dark, blue"\n9,-1,\n\n4,,\n'


def values_of(table: ProductTable) -> dict[int, dict[str, Any]]:
    return {int(one): table.values.of(row) for row, one in enumerate(table.ids)}


def write(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "table.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        'product_id,price,colour\n7,12.50,red\n3,,"dark, blue"\n9,-1,\n\n4,,\n',
        '\ufeffproduct_id,price,colour\r\n 7 , 12.50 , red \r\n3,,"dark, blue"\r\n9,-1,\r\n4,,',
        "product_id\tprice\tcolour\n7\t12.50\tred\n3\t\tdark, blue\n9\t-1\t\n4\t\t\n",
        'product_id,price:number,colour:word\n7,1.25e1,red\n3,,"dark, blue"\n9,-1.0,\n4,,\n',
        '\ufeffproduct_id;price;colour\r\n7;12.50;red\r\n3;;dark, blue\r\n9;-1;""\r\n4;;\r\n',
    ],
)
def test_csv_and_tsv_are_read(tmp_path: Path, content: str) -> None:
    path = write(tmp_path, content)
    table = read_product_table(path)
    assert values_of(table) == ROWS
    assert table.values.kinds == {"price": "number", "colour": "word"}
    path.write_bytes(gzip.compress(content.encode()))
    assert values_of(read_product_table(path)) == ROWS


def test_quotes_are_letters_in_tsv_and_quotes_in_csv(tmp_path: Path) -> None:
    tsv = read_product_table(write(tmp_path, 'product_id\tscreen\n1\t12" wide\n'))
    assert tsv.values.of(0) == {"screen": '12" wide'}
    csv = read_product_table(write(tmp_path, 'product_id,screen\n1,"12"" wide"\n'))
    assert csv.values.of(0) == {"screen": '12" wide'}


@pytest.mark.parametrize("words", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
@pytest.mark.parametrize("numbers", [pa.float32(), pa.float64(), pa.decimal128(6, 2)])
def test_parquet_is_read(tmp_path: Path, words: pa.DataType, numbers: pa.DataType) -> None:
    columns = {
        "price": pa.array([12.5, None, -1.0, None], pa.float64()).cast(numbers),
        "product_id": pa.array([7, 3, 9, 4], pa.uint32()),
        "colour": pa.array([" red", "dark, blue", None, " "], words if words != pa.dictionary(pa.int8(), pa.string())
                           else pa.string()).cast(words),
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "any.name", row_group_size=2)
    assert values_of(read_product_table(tmp_path / "any.name")) == ROWS


def test_parquet_integers_and_truth_values_are_values(tmp_path: Path) -> None:
    columns = {"product_id": [1, 2], "stock": [3, None], "new": [True, False]}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    assert values_of(read_product_table(tmp_path / "x.parquet")) == {
        1: {"stock": 3.0, "new": "true"},
        2: {"new": "false"},
    }


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "line 1: a header line was wanted, its first column product_id"),
        (
            "product_id/price\n1/2\n",
            "first column product_id, with commas, semicolons or tabs; got 'product_id/price'",
        ),
        (
            "product_id;price\n1;\n2;1,99\n",
            "line 3, price: '1,99' is no finite number, a decimal point was wanted, as in 1.99; price:word in the",
        ),
        (
            "product_id;price:number\n1;1.234,50\n",
            "'1.234,50' is no finite number, a decimal point was wanted",
        ),
        ("product_id\tprice\n1\t-3,5\n", "line 2, price: '-3,5' is no finite number, a decimal point"),
        ("price,product_id\n1,2\n", "line 1: a header line was wanted"),
        ("1,2\n", "got '1'"),
        ("product_id\n1\n", "line 1: holds no column beside product_id"),
        ("product_id,price\n", "holds no product, only a header line"),
        ("product_id,price,price\n1,2,3\n", "line 1: columns 'price' and 'price'"),
        ("product_id,price,Price\n1,2,3\n", "columns 'price' and 'Price'"),
        ("product_id,image_h\n1,2\n", "'image_h': every index has one"),
        ("product_id,texts\n1,2\n", "'texts': every index has one"),
        ("product_id,Labels\n1,2\n", "'Labels': every index has one"),
        ("product_id,price,vector\n1,2,3\n", "'vector': every index has one"),
        ("product_id,the price\n1,2\n", "line 1: column 'the price': a name has letters, digits and _"),
        ("product_id,\n1,2\n", "column ''"),
        ("product_id,price;DROP\n1,2\n", "column 'price;DROP'"),
        ("product_id,../x\n1,2\n", "column '../x'"),
        ("product_id,größe\n1,2\n", "column 'größe'"),
        ("product_id,price:float\n1,2\n", "the kind is number or word, as in price:word"),
        ("product_id," + ",".join(f"c{one}" for one in range(65)) + "\n", "65 columns, at most 64"),
        ("product_id,price\n1,2\n3\n", "line 3: 1 fields, the header has 2"),
        ("product_id,price\n1,2,3\n", "line 2: 3 fields, the header has 2"),
        ("product_id,price\n1,2\n\n ,2\n", "line 4, product_id: is empty"),
        ("product_id,price\n" + "9" * 5000 + ",2\n", "line 2, product_id: 5000 characters long, at most 256"),
        (
            "product_id,price\nSKU-1,2\n6,2\nSKU-1 ,3\n",
            "line 4, product_id: product SKU-1 stands in line 2 too",
        ),
        ("product_id,price\n5,2\n6,2\n\n5,3\n", "line 5, product_id: product 5 stands in line 2 too"),
        (
            "product_id,price\n1,2\n2,12,50\n",
            "line 3: 3 fields",
        ),
        (
            'product_id,price\n1,2\n2,"12,50"\n',
            "line 3, price: '12,50' is no finite number, a decimal point was wanted, as in 1.99; "
            "price:word in the header makes the column one of words",
        ),
        ("product_id,price\n1,\n2,nan\n", "line 3, price: 'nan' is no finite number"),
        ("product_id,price\n1,NULL\n2,3\n", "line 2, price: 'NULL' is no finite number; an empty cell says"),
        ("product_id,price\n1,3\n2,n/a\n", "line 3, price: 'n/a' is no finite number; an empty cell says"),
        ("product_id,price\n1,€ 1.99\n2,\n", "line 2, price: '€ 1.99' is no finite number, digits alone"),
        ("product_id,price\n100,3\n1E+02,4\n102,5\n", "line 3, product_id: '1E+02' among integers"),
        ("product_id,price\n1,inf\n", "line 2, price: 'inf' is no finite number"),
        ("product_id,price\n1,1e999\n", "line 2, price: '1e999' is no finite number"),
        ("product_id,price\n1,1_000\n", "line 2, price"),
        ("product_id,price:number\n1,red\n", "line 2, price: 'red' is no finite number"),
        ("product_id,price\n1,\n2,\n", "price: has no value in any row"),
        ("product_id,colour\n1,re\x07d\n", "line 2, colour: 're\\x07d' holds a control character"),
        (
            "product_id,colour\n1,red|blue\n",
            "line 2, colour: 'red|blue' cannot be asked for: a word holds no |",
        ),
        ("product_id,colour\n1,=red\n", "line 2, colour: '=red' cannot be asked for"),
        ('product_id,colour\n1,"re\nd"\n', "line 2, colour: 're\\nd' holds a control character"),
        ("product_id,colour\n1," + "x" * 201 + "\n", "has 201 characters, a word may have 200"),
        ('product_id,colour\n1,"red\n2,blue\n', "no CSV: unexpected end of data"),
        ('product_id,colour\n1,"red"x\n', "line 2: no CSV"),
        ("product_id,colour\n1," + "x" * 200_000 + "\n", "has 200000 characters, a word may have 200"),
        (b"product_id,colour\n1,r\xe9d\n", "line 2: not UTF-8"),
        ("product_id,colour\n1,red\n".encode("utf-16"), "not UTF-8"),
        (b"product_id,colour\n1,r\x00d\n", "line 2: holds a NUL"),
        (b"PAR1 and no more", "broken Parquet"),
        (b"\x1f\x8b broken", "broken gzip"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, content: str | bytes, says: str) -> None:
    with pytest.raises(DataError) as told:
        read_product_table(write(tmp_path, content))
    assert says in str(told.value)
    assert "table.csv" in str(told.value)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"price": [1.0]}, "a column product_id was wanted"),
        ({"sku": ["1"], "price": [1.0]}, "a column product_id was wanted"),
        (
            {"product_id": [1.0], "price": [1.0]},
            "product_id: row 1: '1.0': whole numbers or text were wanted",
        ),
        ({"product_id": ["A", ""], "price": [1.0, 2.0]}, "product_id: row 2: is empty"),
        ({"product_id": [1, None], "price": [1.0, 2.0]}, "product_id: row 2: is empty"),
        ({"product_id": [4, 5, 4], "price": [1.0, 2.0, 3.0]}, "row 3: product 4 stands in row 1 too"),
        ({"product_id": [1, 2], "price": [1.0, float("nan")]}, "price: row 2: 'nan' is no finite number"),
        ({"product_id": [1], "price": [float("inf")]}, "price: row 1: 'inf' is no finite number"),
        (
            {"product_id": [1], "code": [2**60 + 1]},
            "code: row 1: '1152921504606846977' has more digits than a number keeps",
        ),
        ({"product_id": [1], "colour": ["re\nd"]}, "colour: row 1: 're\\nd' holds a control character"),
        ({"product_id": [1], "tags": [["a"]]}, "tags: row 1: list: text or a number was wanted"),
        ({"product_id": [1], "tags": pa.nulls(1)}, "tags: has no value in any row: leave it out"),
        ({"product_id": [1], "the price": [1.0]}, "column 'the price'"),
        ({"product_id": [1]}, "holds no column beside product_id"),
        ({"product_id": pa.array([], pa.int64()), "price": pa.array([], pa.float64())}, "holds no product"),
    ],
)
def test_what_is_wrong_in_parquet_is_told(tmp_path: Path, columns: dict[str, Any], says: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(DataError) as told:
        read_product_table(tmp_path / "x.parquet")
    assert says in str(told.value)


def test_a_column_without_a_value_is_taken_where_something_says_its_kind(tmp_path: Path) -> None:
    nothing = {"price": "number", "colour": "word"}
    path = write(tmp_path, "product_id,price:number,colour:word\n1,,\n")
    assert read_product_table(path).values.kinds == nothing
    path = write(tmp_path, "product_id,price,colour\n1,,\n")
    assert read_product_table(path, kinds={"price": "number", "colour": "word"}).values.kinds == nothing
    parquet = tmp_path / "x.parquet"
    pq.write_table(
        pa.table({"product_id": [1], "price": pa.nulls(1, pa.float32()), "colour": pa.nulls(1, pa.string())}),
        parquet,
    )
    assert read_product_table(parquet).values.kinds == nothing
    pq.write_table(pa.table({"product_id": [1], "price": pa.nulls(1), "colour": pa.nulls(1)}), parquet)
    table = read_product_table(parquet, kinds={"price": "number", "colour": "word"})
    assert table.values.kinds == nothing
    assert values_of(table) == {1: {}}


def test_kinds_that_are_known_stand_in_for_first_values_but_not_for_what_is_declared(tmp_path: Path) -> None:
    path = write(tmp_path, "product_id,size,price\n1,38,3\n2,39,\n")
    assert values_of(read_product_table(path, kinds={"size": "word", "other": "number"})) == {
        1: {"size": "38", "price": 3.0},
        2: {"size": "39"},
    }
    path = write(tmp_path, "product_id,size:number\n1,38\n")
    assert read_product_table(path, kinds={"size": "word"}).values.kinds == {"size": "number"}
    path = write(tmp_path, "product_id,price\n1,3\n2,19.99 EUR\n")
    says = "line 3, price: '19.99 EUR' is no finite number, .*; the column holds numbers in the index$"
    with pytest.raises(DataError, match=says):
        read_product_table(path, kinds={"price": "number"})


def test_words_are_one_however_their_accents_are_written(tmp_path: Path) -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    path = write(tmp_path, f"product_id,colour\n1,{composed}\n2,{apart}\n3,red\n")
    parquet = tmp_path / "x.parquet"
    pq.write_table(pa.table({"product_id": [1, 2, 3], "colour": [composed, apart, "red"]}), parquet)
    for table in (read_product_table(path), read_product_table(parquet)):
        assert table.values.columns["colour"].to_pylist() == [composed, composed, "red"]
        for asked in (composed, apart):
            passing = table.values.passing(Condition.parse(f"colour={asked}"))
            assert passing.tolist() == [True, True, False]


def test_words_may_look_like_numbers_with_a_comma_where_the_header_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, "product_id;size:word\n1;40,41\n")
    assert values_of(read_product_table(path)) == {1: {"size": "40,41"}}


def test_a_missing_table_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_product_table(tmp_path / "nothing.csv")
    with pytest.raises(DataError, match="is a directory"):
        read_product_table(tmp_path)


def test_a_table_is_put_in_the_order_of_products(tmp_path: Path) -> None:
    table = read_product_table(write(tmp_path, CSV))
    asked = np.array([9, 100, 7, 4, -5])
    assert [table.of_products(asked).of(row) for row in range(5)] == [ROWS[9], {}, ROWS[7], {}, {}]
    assert table.mismatch_with(asked) == f"{table.path}: 2 of 5 products have no row"
    assert table.mismatch_with(np.array([9])) == ""  # rows of other products are no mismatch
    assert table.mismatch_with(table.ids) == ""
    with pytest.raises(DataError, match="product_id: none of its 4 products is in the dataset or index"):
        table.mismatch_with(np.array([100, 101]))


def test_values_come_back_from_their_file_and_broken_ones_are_told(tmp_path: Path) -> None:
    table = read_product_table(write(tmp_path, CSV))
    path = tmp_path / ATTRIBUTES_FILE
    table.values.take(np.array([2, -1, 0])).write(path)
    back = Attributes.open(path)
    assert [back.of(row) for row in range(3)] == [ROWS[9], {}, ROWS[7]]
    whole = path.read_bytes()
    for cut in (0, 7, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=ATTRIBUTES_FILE):
            Attributes.open(path)
    for foreign in (pa.table({"x": [1]}), pa.table({"x": pa.array([], pa.float64())})):
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, foreign.schema) as file:
            file.write_table(foreign)
        with pytest.raises(DataError, match=ATTRIBUTES_FILE):
            Attributes.open(path)
    path.unlink()
    with pytest.raises(DataError, match=ATTRIBUTES_FILE):
        Attributes.open(path)


def test_joined_values_are_those_of_the_parts(tmp_path: Path) -> None:
    one = read_product_table(write(tmp_path, CSV)).values
    other = read_product_table(write(tmp_path, "product_id,colour,size\n1,green,3\n2,red,\n")).values
    joined = Attributes.join([one, nothing_known(2), other])
    wanted = [*ROWS.values(), {}, {}, {"colour": "green", "size": 3.0}, {"colour": "red"}]
    assert [joined.of(row) for row in range(len(joined))] == wanted
    views = summarise(joined.kinds, [one, nothing_known(2), other])
    assert [(view.name, view.minimum, view.maximum, view.words) for view in views] == [
        ("price", -1.0, 12.5, ()),
        ("colour", None, None, ("red", "dark, blue", "green")),
        ("size", 3.0, 3.0, ()),
    ]


def test_the_most_frequent_words_are_offered_first_and_not_all(tmp_path: Path) -> None:
    rows = "".join(f"{one},w{one % 40:02}\n" for one in range(100))
    values = read_product_table(write(tmp_path, "product_id,kind\n" + rows)).values
    (view,) = summarise(values.kinds, [values])
    assert view.words == tuple(f"w{one:02}" for one in range(30))
    assert view.count == 40


def test_codes_stay_as_they_are_written(tmp_path: Path) -> None:
    path = write(
        tmp_path, "product_id,sku,ean,size\n1,00123,9007199254740993,38\n2,123,9007199254740992,39.5\n"
    )
    table = read_product_table(path)
    assert table.values.kinds == {"sku": "word", "ean": "word", "size": "number"}
    assert values_of(table)[1] == {"sku": "00123", "ean": "9007199254740993", "size": 38.0}
    with pytest.raises(
        DataError, match="line 2, sku: '00123' is a code; the column holds numbers in the index"
    ):
        read_product_table(path, kinds={"sku": "number"})
