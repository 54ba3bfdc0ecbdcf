"""preprocess.data.tables: columns of Parquet and Arrow files are the arrays they were written from, in any order of reading."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from preprocess.data import tables
from preprocess.data.embeddings import ShardedRows, check_embeddings, open_embeddings
from preprocess.data.tables import TableRows

ROWS, WIDTH = 50, 3
VALUES = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float32)


@pytest.fixture(autouse=True)
def short_reads(monkeypatch):
    """Several reads even for a small table."""
    monkeypatch.setattr(tables, "READ_ROWS", 4)


def column(values: np.ndarray, kind: str) -> pa.Array:
    flat = pa.array(values.ravel())
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    if kind == "tensor":
        return pa.FixedShapeTensorArray.from_numpy_ndarray(values)
    maker = pa.LargeListArray if kind == "large" else pa.ListArray
    return maker.from_arrays(np.arange(len(values) + 1) * values.shape[1], flat)


def write(path: Path, values: pa.Array, kind: str = "parquet", name: str = "embedding") -> Path:
    table = pa.table({"item_id": [str(i) for i in range(len(values))], name: values})
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=13)
    elif kind == "feather":
        pyarrow.feather.write_feather(table, path, compression="lz4", chunksize=13)
    else:
        new = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
        with new(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=13)
    return path


@pytest.mark.parametrize("kind", ["fixed", "list", "large", "tensor"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("file", ["parquet", "feather", "arrow", "stream"])
def test_a_table_is_indexed_like_the_array_it_was_written_from(tmp_path, file, kind, dtype):
    values = VALUES.astype(dtype)
    suffix = file if file in ("parquet", "feather") else "arrow"
    opened = open_embeddings(write(tmp_path / f"e.{suffix}", column(values, kind), file))
    assert isinstance(opened, TableRows)
    assert (opened.shape, len(opened), opened.dtype, opened.ndim) == ((ROWS, WIDTH), ROWS, dtype, 2)
    np.testing.assert_array_equal(np.asarray(opened), values)
    np.testing.assert_array_equal(opened[11:29], values[11:29])
    rows = np.array([49, 3, 3, 26, 0, -2])
    np.testing.assert_array_equal(opened[rows], values[rows])
    np.testing.assert_array_equal(opened[7], values[7])
    with pytest.raises(IndexError):
        opened[np.array([ROWS])]


def test_rows_asked_for_in_order_are_read_in_one_pass(tmp_path, monkeypatch):
    opened = TableRows(write(tmp_path / "e.parquet", column(VALUES, "fixed")), "embedding")
    read: list[int] = []
    inner = TableRows._matrices

    def spy(self: TableRows, unit: int):
        for block in inner(self, unit):
            read.append(len(block))
            yield block

    monkeypatch.setattr(TableRows, "_matrices", spy)
    for start in range(0, ROWS, 10):
        opened[start : start + 10]
    assert sum(read) == ROWS
    assert max(read) <= 4


def test_a_folder_of_tables_has_the_checksum_of_the_array(tmp_path):
    for start in (0, 20, 40):
        write(tmp_path / f"{start:02}.parquet", column(VALUES[start : start + 20], "fixed"), name="clip")
    opened = open_embeddings(tmp_path, column="clip")
    assert isinstance(opened, ShardedRows)
    np.testing.assert_array_equal(opened[15:45], VALUES[15:45])
    assert check_embeddings(opened, tmp_path) == check_embeddings(VALUES, "array")


def test_files_of_two_kinds_are_refused(tmp_path):
    write(tmp_path / "a.parquet", column(VALUES, "fixed"))
    np.save(tmp_path / "b.npy", VALUES)
    with pytest.raises(ValueError, match=r"holds \.npy and \.parquet files"):
        open_embeddings(tmp_path)


def with_null_row() -> pa.Array:
    return pa.array([[1.0, 2.0], [3.0, 4.0], None, [5.0, 6.0]], pa.list_(pa.float32()))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (with_null_row(), "row 2, column embedding: found null, row 0 has 2 values"),
        (with_null_row().cast(pa.list_(pa.float32(), 2)), "row 2, column embedding: found null"),
        (pa.array([[1.0, 2.0], [3.0]], pa.list_(pa.float32())), "row 1, column embedding: found 1 values"),
        (pa.array([[1.0, 2.0], [3.0, None]], pa.list_(pa.float32())), "row 1, column embedding: found a null value"),
        (pa.array([None, [3.0]], pa.list_(pa.float32())), "row 0: the embedding is null"),
        (pa.array([[], [3.0]], pa.list_(pa.float32())), "row 0: the embedding is empty"),
        (pa.array([[1.0], [np.nan]], pa.list_(pa.float32())), "row 1, column 0: found nan"),
        (pa.array([[1.0], [0.0]], pa.list_(pa.float32())), "row 1: all values are 0"),
        (pa.array([[1.0], [2.0]]), "list<.*double>, must be lists of float16 or float32"),
        (pa.array([1.0, 2.0]), "column embedding: double, must be lists"),
        (pa.array([], pa.list_(pa.float32())), "no rows"),
    ],
)
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_bad_columns_are_refused(tmp_path, values, message, kind):
    path = write(tmp_path / f"e.{kind}", values, kind)
    with pytest.raises(ValueError, match=message) as error:
        open_embeddings(path)
    assert str(path) in str(error.value)


def test_another_column_is_named(tmp_path):
    path = write(tmp_path / "e.parquet", column(VALUES, "fixed"), name="clip")
    with pytest.raises(ValueError, match=r"no column 'embedding' among item_id, clip; name .* --embedding-column"):
        open_embeddings(path)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_damaged_tables_are_refused(tmp_path, kind):
    path = write(tmp_path / f"e.{kind}", column(VALUES, "fixed"), kind)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"not a Parquet or Arrow file, or damaged") as error:
        open_embeddings(path)
    assert str(path) in str(error.value)
    with pytest.raises(ValueError, match="cannot be read"):
        open_embeddings(tmp_path / f"none.{kind}")
