"""Files of any supported kind are read alike, with faults in their own terms."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlxft.data import json_records
from mlxft.data.containers import as_lines
from mlxft.data.dataset import load_split
from mlxft.data.examples import examples_of
from mlxft.data.formats import parts
from mlxft.data.index import LineIndex
from mlxft.data.search import Query, SearchRequest, search
from mlxft.data.split_files import COMPRESSED, KINDS, kind_of, split_file
from mlxft.data.validation import RecordLine, scan
from mlxft.errors import DataError
from mlxft.text.printable import printable

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
RECORDS = [{"prompt": f'say {n},\n"twice"', "completion": f"é {n}"} for n in range(3)]


def jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(each) + "\n" for each in RECORDS))


def array(path: Path) -> None:
    path.write_text(json.dumps(RECORDS, indent=2))


def separated(separator: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        rows = [("prompt", "completion"), *((r["prompt"], r["completion"]) for r in RECORDS)]
        quoted = (separator.join('"' + cell.replace('"', '""') + '"' for cell in r) for r in rows)
        path.write_text("\n".join(quoted))

    return write


def parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(RECORDS), path)


def arrow(path: Path) -> None:
    table = pa.Table.from_pylist(RECORDS)
    with pa.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table)


def arrow_stream(path: Path) -> None:
    table = pa.Table.from_pylist(RECORDS)
    with pa.ipc.new_stream(str(path), table.schema) as file:
        file.write_table(table)


WRITERS: tuple[tuple[str, Callable[[Path], None]], ...] = (
    ("train.jsonl", jsonl),
    ("train.json", array),
    ("train.json", jsonl),
    ("train.csv", separated(",")),
    ("train.csv", separated(";")),
    ("train.tsv", separated("\t")),
    ("train.parquet", parquet),
    ("train-00000-of-00001.parquet", parquet),
    ("train.arrow", arrow),
    ("train.arrow", arrow_stream),
)


def packed(path: Path, packing: str) -> Path:
    target = path.with_name(path.name + packing)
    if packing == ".gz":
        target.write_bytes(gzip.compress(path.read_bytes()))
    else:
        with pa.CompressedOutputStream(str(target), "zstd") as out:
            out.write(path.read_bytes())
    path.unlink()
    return target


class TestContainers:
    @pytest.mark.parametrize("packing", ["", *COMPRESSED])
    @pytest.mark.parametrize(("name", "write"), WRITERS)
    def test_all_kinds_give_the_same_records(
        self, tmp_path: Path, name: str, write: Callable[[Path], None], packing: str
    ) -> None:
        path = tmp_path / name
        write(path)
        if packing:
            path = packed(path, packing)
        assert split_file(tmp_path, "train") == path
        split = load_split(tmp_path, "train")
        assert [record.fields for record in split.records] == RECORDS
        assert split.faults == ()

    def test_an_array_in_an_object_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "train.json").write_text(json.dumps({"data": RECORDS}))
        assert len(load_split(tmp_path, "train").records) == 3

    @pytest.mark.parametrize(
        "content",
        [
            {"version": "1.0", "data": RECORDS},
            {"data": RECORDS, "count": 3, "fields": ["prompt", "completion"]},
            {"train": RECORDS},
            {key: [record[key] for record in RECORDS] for key in ("prompt", "completion")},
            {f"lamps/{at}.txt": record for at, record in enumerate(RECORDS)},
        ],
    )
    @pytest.mark.parametrize("indent", [None, 2])
    def test_records_under_a_key_and_columns_are_read(
        self, tmp_path: Path, content: dict[str, Any], indent: int | None
    ) -> None:
        (tmp_path / "train.json").write_text(json.dumps(content, indent=indent))
        split = load_split(tmp_path, "train")
        assert [record.fields for record in split.records] == RECORDS
        assert split.faults == ()

    def test_a_single_record_with_lists_is_one_record(self, tmp_path: Path) -> None:
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        (tmp_path / "train.json").write_text(json.dumps({"id": "1", "messages": turns}))
        (record,) = load_split(tmp_path, "train").records
        assert record.fields["messages"] == turns

    @pytest.mark.parametrize(
        "turns",
        [
            [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b" * 100_000}],
            [{"content": "a" * 100_000, "role": "user"}, {"role": "assistant", "content": "b"}],
        ],
    )
    def test_a_line_that_is_a_list_of_messages_is_a_conversation(
        self, tmp_path: Path, turns: list[dict[str, str]]
    ) -> None:
        (tmp_path / "train.jsonl").write_text(json.dumps(turns) + "\n{}\n" + json.dumps(turns))
        found = load_split(tmp_path, "train").records
        assert [record.line for record in found] == [1, 3]
        assert [each["role"] for each in found[1].fields["messages"]] == ["user", "assistant"]

    @pytest.mark.parametrize("packing", ["", ".gz"])
    @pytest.mark.parametrize(
        "content",
        [
            json.dumps(RECORDS),
            "\ufeff" + json.dumps(RECORDS, indent=1),
            "\n".join(json.dumps(each, indent=1) for each in RECORDS),
            json.dumps([{**each, "note": "long " * 20_000} for each in RECORDS]),
        ],
        ids=["one line", "indented", "indented objects", "long records"],
    )
    def test_json_that_is_named_json_lines_is_read(
        self, tmp_path: Path, content: str, packing: str
    ) -> None:
        path = tmp_path / "train.jsonl"
        path.write_text(content)
        path = packed(path, packing) if packing else path
        split = load_split(tmp_path, "train")
        assert [record.fields["prompt"] for record in split.records] == [
            record["prompt"] for record in RECORDS
        ]
        assert split.faults == ()

    def test_a_conversation_in_an_array_of_lists_is_a_record(self, tmp_path: Path) -> None:
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        (tmp_path / "train.jsonl").write_text(json.dumps([turns, turns]))
        assert [each.fields["messages"] for each in load_split(tmp_path, "train").records] == [
            turns,
            turns,
        ]

    def test_excels_line_names_the_separator(self, tmp_path: Path) -> None:
        (tmp_path / "train.csv").write_text("sep=;\nprompt;completion\na,x;b\n")
        (record,) = load_split(tmp_path, "train").records
        assert record.fields == {"prompt": "a,x", "completion": "b"}

    @pytest.mark.parametrize("content", ["[{0},\n {0},]", "{0}\n{0}", '{{"rows": [{0}, {0}]}}\n'])
    def test_json_over_several_lines_is_read(self, tmp_path: Path, content: str) -> None:
        """An array, consecutive objects, or an array in an object."""
        spread = json.dumps(RECORDS[0], indent=2, ensure_ascii=False)
        (tmp_path / "train.json").write_text(content.format(spread))
        found = [record.fields for record in load_split(tmp_path, "train").records]
        assert found == [RECORDS[0]] * 2

    def test_an_array_is_read_in_pieces(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(json_records, "PIECE", 64)
        path = tmp_path / "train.json"
        path.write_text(json.dumps([{"text": "é" * n, "n": n} for n in range(300)]))
        with path.open("rb") as file:
            rows = [json.loads(line) for line in json_records.json_records(file)]
        assert rows == [{"text": "é" * n, "n": n} for n in range(300)]

    @settings(max_examples=150, deadline=None)
    @given(value=JSON, piece=st.integers(1, 40))
    def test_pieces_may_end_anywhere(self, value: Any, piece: int) -> None:
        """Any piece size gives the same records."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_records, "PIECE", piece)
            whole = json.dumps([value, value], indent=1).encode()
            found = [json.loads(line) for line in json_records.json_records(io.BytesIO(whole))]
        assert found == [value, value]

    def test_json_lines_are_read_in_place(self, tmp_path: Path) -> None:
        jsonl(tmp_path / "train.jsonl")
        assert as_lines(tmp_path / "train.jsonl") == tmp_path / "train.jsonl"

    def test_a_changed_file_is_converted_again(self, tmp_path: Path) -> None:
        path = tmp_path / "train.csv"
        path.write_text("prompt,completion\na,b\n")
        first = as_lines(path)
        assert as_lines(path) == first
        path.write_text("prompt,completion\na,b\nlonger,d\n")
        assert as_lines(path) != first
        assert len(load_split(tmp_path, "train").records) == 2

    def test_a_row_of_the_wrong_length_is_a_fault(self, tmp_path: Path) -> None:
        (tmp_path / "train.csv").write_text("prompt,completion\na,b\nc,d,e\nf,g\n")
        split = load_split(tmp_path, "train")
        assert [record.line for record in split.records] == [1, 3]
        assert "train.csv record 2: the row has 3 cells under 2 columns" in str(split.faults[0])

    @pytest.mark.parametrize("separator", [",", ";"])
    def test_a_quoted_column_name_may_span_lines(self, tmp_path: Path, separator: str) -> None:
        lines = ('"my\n, own";text', '"1";"a, b"', "2;c")
        (tmp_path / "train.csv").write_text("\n".join(lines).replace(";", separator))
        split = load_split(tmp_path, "train")
        assert [record.fields["text"] for record in split.records] == ["a, b", "c"]
        assert split.faults == ()

    @pytest.mark.parametrize("rows", [1, 2000])
    def test_an_unclosed_quote_in_a_column_name_is_a_fault(self, tmp_path: Path, rows: int) -> None:
        (tmp_path / "train.csv").write_text('prompt,"completion\n' + "a,b\n" * rows)
        (fault,) = load_split(tmp_path, "train").faults
        assert "the quotes of a column name never close; close them" in str(fault)

    def test_lists_stored_as_text_in_a_table_are_read(self, tmp_path: Path) -> None:
        turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
        table = pa.Table.from_pylist([{"conversations": json.dumps(turns)}])
        pq.write_table(table, tmp_path / "train.parquet")
        (record,) = load_split(tmp_path, "train").records
        assert [each["role"] for each in record.fields["messages"]] == ["user", "assistant"]

    @pytest.mark.parametrize(
        "kind", [k for k in KINDS if k not in (".jsonl", ".ndjson", ".csv", ".tsv")]
    )
    def test_a_broken_file_is_one_fault(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / f"train{kind}"
        path.write_bytes(b'[{"text": "a"}, ')
        (fault,) = (fault for line in scan(path) for fault in line.faults)
        assert str(fault).startswith(f"{path}: ")
        with pytest.raises(DataError):
            LineIndex(path)

    def test_a_truncated_gzip_file_is_a_fault(self, tmp_path: Path) -> None:
        path = tmp_path / "train.jsonl.gz"
        path.write_bytes(gzip.compress(b'{"text": "a"}\n' * 1000)[:-12])
        (fault,) = (fault for line in scan(path) for fault in line.faults)
        assert "can't be unpacked" in str(fault)

    def test_a_cache_that_cannot_be_written_is_named_and_not_the_file_blamed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, cache = tmp_path / "train.csv", tmp_path / "cache"
        path.write_text("text\na\n")
        cache.touch()
        monkeypatch.setenv("MLXFT_CACHE", str(cache))
        with pytest.raises(DataError) as raised:
            LineIndex(path)
        assert str(raised.value) == (
            f"{path}: its records can't be kept in {cache / 'records'} (not a directory); "
            "free disk space or move the cache with MLXFT_CACHE."
        )

    def test_the_name_gives_the_kind(self) -> None:
        assert kind_of(Path("a.CSV.gz")) == ".csv"
        assert kind_of(Path("notes.txt")) == ""


def arrow_of(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table)


@pytest.mark.parametrize(
    ("kind", "write"), [("parquet", pq.write_table), ("arrow", arrow_of)], ids=["parquet", "arrow"]
)
class TestTables:
    """Typed tables, and their values that are not text."""

    def test_bytes_are_decoded(
        self, tmp_path: Path, kind: str, write: Callable[[pa.Table, Path], None]
    ) -> None:
        turn = pa.struct([("role", pa.binary()), ("content", pa.large_binary())])
        turns = [
            {"role": b"user", "content": "é".encode()},
            {"role": b"assistant", "content": b"b"},
        ]
        write(pa.table({"messages": pa.array([turns], pa.list_(turn))}), tmp_path / f"train.{kind}")
        (record,) = load_split(tmp_path, "train").records
        assert [each["content"] for each in record.fields["messages"]] == ["é", "b"]

    def test_bytes_that_are_not_text_are_a_fault_of_their_row(
        self, tmp_path: Path, kind: str, write: Callable[[pa.Table, Path], None]
    ) -> None:
        rows = [{"prompt": b"a", "completion": b"b"}, {"prompt": b"\xff", "completion": b"b"}]
        write(pa.Table.from_pylist(rows), tmp_path / f"train.{kind}")
        split = load_split(tmp_path, "train")
        assert [record.fields["prompt"] for record in split.records] == ["a"]
        assert [str(fault) for fault in split.faults] == [
            f"{tmp_path}/train.{kind} record 2: the column prompt holds bytes that are not UTF-8 "
            "text; encode them as UTF-8 or drop the column."
        ]

    def test_text_that_is_not_utf_8_is_a_fault_of_its_row(
        self, tmp_path: Path, kind: str, write: Callable[[pa.Table, Path], None]
    ) -> None:
        texts = pa.array([b"a", b"\xff"]).view(pa.string())
        write(pa.table({"text": texts}), tmp_path / f"train.{kind}")
        split = load_split(tmp_path, "train")
        assert [record.line for record in split.records] == [1]
        assert "record 2: the column text holds bytes that are not" in str(split.faults[0])

    def test_an_image_column_is_a_fault_of_its_rows(
        self, tmp_path: Path, kind: str, write: Callable[[pa.Table, Path], None]
    ) -> None:
        image = {"bytes": b"\xff", "path": "a.png"}
        rows = [{"prompt": "a", "completion": "b", "image": each} for each in (image, None)]
        write(pa.Table.from_pylist(rows), tmp_path / f"train.{kind}")
        split = load_split(tmp_path, "train")
        assert [record.line for record in split.records] == [2]
        assert "the record has image, but only text can be trained" in str(split.faults[0])

    def test_nulls_that_a_struct_fills_in_are_dropped(
        self, tmp_path: Path, kind: str, write: Callable[[pa.Table, Path], None]
    ) -> None:
        """Rows of a table share all keys, so a call has those of every other call."""
        calls = [
            {"name": "dim", "arguments": {"lamp": 3}},
            {"name": "say", "arguments": {"text": "x"}},
        ]
        rows = [
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "tool_calls": [{"function": call}]},
                ],
                "tools": [{"function": {"name": call["name"], "parameters": call["arguments"]}}],
            }
            for call in calls
        ]
        write(pa.Table.from_pylist(rows), tmp_path / f"train.{kind}")
        records = load_split(tmp_path, "train").records
        for record, call in zip(records, calls, strict=True):
            answer = record.fields["messages"][-1]
            assert answer["content"] == ""
            assert answer["tool_calls"] == [{"type": "function", "function": call}]
            (tool,) = record.fields["tools"]
            assert tool["function"]["parameters"] == call["arguments"]

    def test_a_json_column_is_read_as_what_it_holds(
        self, tmp_path: Path, kind: str, write: Callable[[pa.Table, Path], None]
    ) -> None:
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        meta = pa.array([json.dumps({"rank": 1})], pa.json_())
        table = pa.table({"messages": pa.array([json.dumps(turns)], pa.json_()), "meta": meta})
        write(table, tmp_path / f"train.{kind}")
        (record,) = load_split(tmp_path, "train").records
        assert record.fields == {"messages": turns, "meta": {"rank": 1}}

    @pytest.mark.parametrize("unit", ["us", "ns"])
    def test_a_time_beyond_pythons_range_is_read_as_text(
        self, tmp_path: Path, kind: str, write: Callable[[pa.Table, Path], None], unit: str
    ) -> None:
        times = pa.array([1, 2**62 + 1], pa.int64()).cast(pa.timestamp(unit))
        table = pa.table({"text": ["a", "b"], "at": times})
        write(table, tmp_path / f"train.{kind}")
        assert len(load_split(tmp_path, "train").records) == 2

    def test_an_unreadable_nested_value_is_a_fault_of_its_row(
        self, tmp_path: Path, kind: str, write: Callable[[pa.Table, Path], None]
    ) -> None:
        times = pa.array([1, 2**62], pa.int64()).cast(pa.timestamp("us"))
        within = pa.StructArray.from_arrays([times], ["at"])
        write(pa.table({"text": ["a", "b"], "meta": within}), tmp_path / f"train.{kind}")
        split = load_split(tmp_path, "train")
        assert [record.line for record in split.records] == [1]
        assert "record 2: the column meta holds a value that can't be read" in str(split.faults[0])

    @pytest.mark.parametrize("within", [False, True])
    def test_a_repeated_column_name_is_refused(
        self, tmp_path: Path, kind: str, write: Callable[[pa.Table, Path], None], within: bool
    ) -> None:
        columns = [pa.array(["a"]), pa.array(["b"])]
        if within:
            fields = [pa.field("text", pa.string())] * 2
            inner = pa.StructArray.from_arrays(columns, fields=fields)
            table = pa.table({"messages": inner})
        else:
            table = pa.table(columns, names=["text", "text"])
        write(table, tmp_path / f"train.{kind}")
        (fault,) = load_split(tmp_path, "train").faults
        assert "two columns are named text; rename one of them" in str(fault)


class TestSeveralFiles:
    """A folder's files, or shards, are one dataset; faults name the single file."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "data"
        folder.mkdir()
        jsonl(folder / "a.jsonl")
        (folder / "b.csv").write_text('prompt,completion\n"say, this",é\nc\n')
        (folder / "c.jsonl").write_text('{"text": "no newline at the end"}')
        parquet(folder / "d.parquet")
        (folder / "README.md").write_text("not a record")
        (folder / ".hidden.jsonl").write_text("{")
        return folder

    def test_all_files_of_a_folder_are_the_training_set(self, folder: Path) -> None:
        assert split_file(folder, "train") == folder
        split = load_split(folder, "train")
        assert [record.line for record in split.records] == [1, 2, 3, 4, 6, 7, 8, 9]
        assert [str(fault) for fault in split.faults] == [
            f"{folder}/b.csv record 2: the row has 1 cell under 2 columns; put cells that contain "
            "the separator in double quotes."
        ]
        with LineIndex(folder) as index:
            list(index.build())
            assert len(index) == 9

    def test_faults_of_json_lines_name_lines(self, folder: Path) -> None:
        with (folder / "c.jsonl").open("a") as file:
            file.write("\n{}\n")
        _, fault = load_split(folder, "train").faults
        assert str(fault).startswith(f"{folder}/c.jsonl line 2: the record has no keys")

    def test_shards_are_one_split(self, tmp_path: Path) -> None:
        for number in range(3):
            rows = [{"prompt": f"{number}", "completion": "b"}]
            path = tmp_path / f"train-{number:05}-of-00003.parquet"
            pq.write_table(pa.Table.from_pylist(rows), path)
        split = load_split(tmp_path, "train")
        assert [record.fields["prompt"] for record in split.records] == ["0", "1", "2"]
        (tmp_path / "train-00001-of-00003.parquet").unlink()
        (fault,) = load_split(tmp_path, "train").faults
        assert "the shard train-00001-of-00003.parquet is missing" in str(fault)

    def test_one_broken_file_of_a_dataset_is_named(self, folder: Path) -> None:
        (folder / "d.parquet").write_bytes(b"PAR1")
        (fault,) = load_split(folder, "train").faults
        assert str(fault).startswith(f"{folder}/d.parquet: this Parquet file is broken")

    def test_faults_of_sharded_json_lines_name_lines(self, tmp_path: Path) -> None:
        for number in range(2):
            (tmp_path / f"train-{number:05}-of-00002.jsonl").write_text("{}\n{}\n")
        first, *_, last = load_split(tmp_path, "train").faults
        assert f"{tmp_path}/train-00000-of-00002.jsonl line 1: " in str(first)
        assert f"{tmp_path}/train-00001-of-00002.jsonl line 2: " in str(last)

    def test_a_dataset_with_one_changed_file_is_converted_again(self, folder: Path) -> None:
        before = as_lines(folder)
        assert as_lines(folder) == before
        (folder / "b.csv").write_text("prompt,completion\nc,d\n")
        assert as_lines(folder) != before

    def test_a_folder_with_one_file_is_that_file(self, tmp_path: Path) -> None:
        jsonl(tmp_path / "mine.jsonl")
        assert split_file(tmp_path, "train") == tmp_path / "mine.jsonl"
        (tmp_path / "mine.jsonl").write_text("{\n")
        (fault,) = load_split(tmp_path, "train").faults
        assert str(fault).startswith(f"{tmp_path}/mine.jsonl: invalid JSON in record 1")

    def test_with_a_validation_set_no_other_file_is_guessed(self, folder: Path) -> None:
        jsonl(folder / "valid.jsonl")
        assert split_file(folder, "train") == folder / "train.jsonl"


KEYS = st.sampled_from(
    [
        "prompt",
        "completion",
        "messages",
        "text",
        "instruction",
        "input",
        "output",
        "history",
        "system",
        "tools",
        "conversations",
        "chosen",
        "rejected",
        "question",
        "answer",
        "context",
    ]
)
TURN = st.dictionaries(
    st.sampled_from(["role", "content", "from", "value", "tool_calls", "function_call"]), JSON
)
RECORD = st.dictionaries(KEYS, JSON | st.lists(TURN, max_size=3), max_size=5)
ODD = st.text(st.characters(max_codepoint=0x9F) | st.sampled_from("\u202e\u2066\x1b\x07"))


def shown(path: Path) -> str:
    """Everything the readers report about a file, as shown on screen."""
    texts: list[str] = []
    for line in [*scan(path), *indexed(path)]:
        texts += [str(fault) for fault in line.faults]
        if line.fields is not None:
            texts += [printable(part.label + part.text) for part in parts(line.fields)]
    texts += [printable(each.prompt + each.expected) for each in examples_of(path)]
    return "\n".join(texts)


def indexed(path: Path) -> list[RecordLine]:
    """The lines by index, all of them found by a search; none for an unreadable file."""
    try:
        with LineIndex(path) as index:
            list(index.build())
            found = sum(
                len(each.offsets) for each in search(SearchRequest(str(path), Query(""), 0))
            )
            assert found == len(index)
            return [index.line(position) for position in range(len(index))]
    except DataError:
        return []  # `scan` reports it too


def is_safe(text: str) -> bool:
    return not any((char < " " and char != "\n") or "\x7f" <= char < "\xa0" for char in text)


ANY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class TestAnything:
    """Any file content yields records and faults, and nothing else happens."""

    @pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
    @pytest.mark.parametrize("kind", KINDS)
    @ANY
    @given(content=st.binary(max_size=400))
    def test_random_bytes(self, tmp_path: Path, kind: str, packing: str, content: bytes) -> None:
        path = tmp_path / f"any{kind}{packing}"
        path.write_bytes(content)
        assert is_safe(shown(path))

    @pytest.mark.parametrize("kind", [".jsonl", ".json"])
    @ANY
    @given(rows=st.lists(RECORD | JSON, max_size=4))
    def test_random_json(self, tmp_path: Path, kind: str, rows: list[Any]) -> None:
        path = tmp_path / f"any{kind}"
        lines = "\n".join(json.dumps(each) for each in rows)
        path.write_text(lines if kind == ".jsonl" else json.dumps(rows))
        assert is_safe(shown(path))

    @ANY
    @given(name=ODD, text=ODD)
    def test_control_characters_are_symbols(self, tmp_path: Path, name: str, text: str) -> None:
        path = tmp_path / "any.jsonl"
        path.write_text(json.dumps({name: text}) + "\n" + json.dumps({"text": text + "\x1b]52;"}))
        found = shown(path)
        assert is_safe(found)
        assert "␛]52;" in found
