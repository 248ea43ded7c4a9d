import json
from pathlib import Path
from typing import Any

import pytest
from tiny_tokenizers import CHATML, byte_tokenizer
from transformers import ByT5Tokenizer

from outsize.errors import DataError, UsageError
from outsize.train.data.build import is_set_aside
from outsize.train.data.prepare import prepare_data
from outsize.train.data.rows import PackedRows
from outsize.train.data.write import RowWriter

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]


@pytest.fixture
def prepare(tmp_path, save_tokenizer):
    folder = save_tokenizer(template=CHATML)

    def run(records: list[dict] | str, **options: Any) -> dict:
        if not isinstance(records, str):
            path = tmp_path / "data.jsonl"
            path.write_text("\n".join(json.dumps(record) for record in records))
            records = str(path)
        given = {"tokenizer_folder": folder, "output": str(tmp_path / "out"), "max_seq_length": 16}
        return prepare_data(data=records, **(given | options))

    return run


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def texts(folder: Path) -> list[str]:
    """Return the documents and parts of documents of a folder, as text, fillings left out."""
    tokenizer = byte_tokenizer()
    found = []
    with PackedRows(folder) as rows:
        batch = rows.read(range(rows.num_rows))
    for ids, positions in zip(batch.input_ids, batch.position_ids, strict=True):
        for token, position in zip(ids, positions, strict=True):
            if position == 0:
                found.append([])
            found[-1].append(int(token))
    decoded = [tokenizer.decode(tokens) for tokens in found]
    return [text for text in decoded if text.replace("<eos>", "")]


def test_text_is_packed_and_nothing_is_lost(prepare, out):
    info = prepare([{"text": "abcdefghijkl"}, {"text": "mnopqrst"}, {"text": ""}])
    assert texts(out) == ["abcdefghijkl<eos>", "mno", "pqrst<eos>"]
    assert (info["num_rows"], info["num_tokens"], info["num_loss_tokens"]) == (2, 22, 20)
    assert (info["num_documents"], info["num_dropped"], info["shape"]) == (2, 1, "text")


def test_chats_are_packed_whole_with_loss_on_the_answer(prepare, out):
    info = prepare([{"messages": CHAT}] * 3, max_seq_length=64)
    assert (info["shape"], info["num_rows"]) == ("messages", 2)
    assert info["num_loss_tokens"] == 3 * 3
    assert len(texts(out)) == 3


def test_without_packing_there_is_a_row_for_each(prepare):
    assert prepare([{"messages": CHAT}] * 3, max_seq_length=64, packing=False)["num_rows"] == 3


def test_cut_and_dropped_examples_are_counted_and_said(prepare, capsys):
    examples = [("a", "b" * 30), ("a", "b"), ("a" * 20, "b")]
    info = prepare([{"prompt": p, "completion": c} for p, c in examples])
    assert (info["num_truncated"], info["num_dropped"], info["num_documents"]) == (1, 1, 2)
    said = capsys.readouterr().err
    assert "3 records of the shape prompt/completion, 2 rows of 16 tokens" in said
    assert "1 examples are longer than 16 tokens and were cut (--max-seq-length)" in said
    assert "1 records were left out: empty, or no answer within 16 tokens" in said


def test_files_that_are_not_read_are_said(prepare, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    for name in ("train.txt", "test.txt", "README.md"):
        (tmp_path / "folder" / name).write_text(f"text of {name}")
    info = prepare(str(tmp_path / "folder"))
    assert info["num_documents"] == 1
    assert "2 files are of another split or no data: not read" in capsys.readouterr().err


def test_an_end_of_text_alone_in_a_row_is_not_kept(prepare):
    assert prepare([{"text": "a" * 16}])["num_rows"] == 1


def test_a_long_text_file_is_one_document(prepare, tmp_path, out):
    text = "\n".join(f"line {number} of many" for number in range(20_000))
    (tmp_path / "long.txt").write_text(text)
    info = prepare(str(tmp_path / "long.txt"), max_seq_length=1024)
    assert info["num_documents"] == 1
    assert info["num_loss_tokens"] == len(text)
    assert "".join(texts(out)) == text + "<eos>"


def test_finished_work_is_used_again_and_only_then(prepare, tmp_path, monkeypatch):
    written = []
    commit = RowWriter.commit
    monkeypatch.setattr(
        RowWriter, "commit", lambda self, info: (written.append(1), commit(self, info))[1]
    )
    first = prepare([{"text": "abc"}])
    assert prepare(str(tmp_path / "data.jsonl")) == first
    assert len(written) == 1
    changed = prepare(str(tmp_path / "data.jsonl"), max_seq_length=8)
    assert changed["fingerprint"] != first["fingerprint"]
    (tmp_path / "data.jsonl").write_text('{"text": "abcd"}')
    assert prepare(str(tmp_path / "data.jsonl"), max_seq_length=8)["num_tokens"] == 5
    (tmp_path / "out" / "labels.i32").write_bytes(b"")
    prepare(str(tmp_path / "data.jsonl"), max_seq_length=8)
    byte_tokenizer("{{ messages }}").save_pretrained(tmp_path / "tokenizer")
    prepare(str(tmp_path / "data.jsonl"), max_seq_length=8)
    assert len(written) == 5


def test_evaluation_rows_are_set_aside_and_the_rest_is_kept(prepare, tmp_path, out):
    records = [{"text": f"{number:015d}"} for number in range(20)]
    info = prepare(records, evaluation_fraction=0.2)
    assert (info["num_rows"], info["num_evaluation_rows"]) == (16, 4)
    train, evaluation = texts(out), texts(out / "evaluation")
    assert len(evaluation) == 4
    assert sorted(train + evaluation) == [f"{number:015d}<eos>" for number in range(20)]
    assert prepare(str(tmp_path / "data.jsonl"), evaluation_fraction=0.2) == info


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.1, 0.25, 0.5, 0.9])
def test_the_fraction_that_is_set_aside_is_right_and_spread(fraction):
    aside = [number for number in range(1000) if is_set_aside(number, fraction)]
    assert len(aside) == 1000 * fraction
    first_half = sum(number < 500 for number in aside)
    assert abs(first_half - len(aside) / 2) <= 1


def message(run, *args: Any, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        run(*args, **options)
    return str(caught.value)


def test_empty_data(prepare, tmp_path, out):
    path = tmp_path / "data.jsonl"
    assert message(prepare, []) == f"{path} is empty: it holds no records."
    assert message(prepare, [{"text": ""}]) == (
        f"{path} is empty: none of its records holds any text."
    )
    assert list(out.iterdir()) == []


def test_a_csv_without_a_known_column(prepare, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("question,answer\n1,2\n")
    found = message(prepare, str(path))
    assert found.startswith(f"{path}, line 2: found the fields 'question', 'answer'; accepted are ")


def test_mixed_shapes_name_the_line(prepare, tmp_path):
    found = message(prepare, [{"text": "a"}, {"text": "b"}, {"messages": CHAT}])
    assert found.startswith(f"{tmp_path}/data.jsonl, line 3: a record of the shape 'messages' ")


def test_a_wrong_value_late_in_the_data_leaves_nothing_behind(prepare, tmp_path, out):
    found = message(prepare, [{"text": "a" * 100}] * 400 + [{"text": 5}])
    assert found == f"{tmp_path}/data.jsonl, line 401: field 'text' must be text; found int."
    assert list(out.iterdir()) == []


def test_all_answers_out_of_reach(prepare, tmp_path):
    found = message(prepare, [{"prompt": "a" * 20, "completion": "b"}] * 2)
    assert found == (
        f"{tmp_path}/data.jsonl: no token to learn is left; the answers of all 2 examples lie "
        "behind the first 16 tokens (--max-seq-length)."
    )


def test_too_few_rows_to_set_some_aside(prepare, tmp_path):
    found = message(prepare, [{"text": "a"}], evaluation_fraction=0.1)
    assert found == (
        f"{tmp_path}/data.jsonl fills 1 rows of 16 tokens; they cannot be parted by "
        "--evaluation-fraction 0.1: a part would have no row."
    )


def test_no_tokenizer(prepare, tmp_path):
    records = [{"text": "a"}]
    assert message(prepare, records, tokenizer_folder=None) == (
        "The model has no tokenizer; name a folder with one with --tokenizer."
    )
    gone = tmp_path / "gone"
    assert message(prepare, records, tokenizer_folder=str(gone)) == (
        f"There is no tokenizer folder {gone}; name one with --tokenizer."
    )
    gone.mkdir()
    (gone / "config.json").write_text("{}")
    assert message(prepare, records, tokenizer_folder=str(gone)) == (
        f"The folder {gone} holds no tokenizer (tokenizer.json or the like); name one with "
        "--tokenizer."
    )


def test_a_damaged_tokenizer(prepare, tmp_path):
    (tmp_path / "tokenizer" / "tokenizer.json").write_text('{"model": 3}')
    found = message(prepare, [{"text": "a"}])
    assert found.startswith(f"The tokenizer in {tmp_path}/tokenizer cannot be loaded: ")


def test_a_tokenizer_without_offsets(prepare, tmp_path):
    ByT5Tokenizer().save_pretrained(tmp_path / "slow")
    found = message(prepare, [{"text": "a"}], tokenizer_folder=str(tmp_path / "slow"))
    assert found == (
        f"The tokenizer in {tmp_path}/slow (ByT5Tokenizer) has no tokenizer.json, which is "
        "needed to know which characters each token stands for."
    )


def test_a_tokenizer_without_an_end(prepare, tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path / "endless")
    found = message(prepare, [{"text": "a"}], tokenizer_folder=str(tmp_path / "endless"))
    assert found == (
        f"The tokenizer in {tmp_path}/endless names no end-of-text token (eos_token), which ends "
        "every document."
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_seq_length": 1}, "--max-seq-length must be 2 or more, since one token has nothing"),
        ({"train_on": "some"}, "--train-on must be one of auto, answer, all; it is 'some'."),
        (
            {"evaluation_fraction": 1.0},
            "--evaluation-fraction must be at least 0 and below 1; it is 1.0.",
        ),
    ],
)
def test_options_out_of_range(prepare, options, expected):
    with pytest.raises(UsageError) as caught:
        prepare([{"text": "a"}], **options)
    assert str(caught.value).startswith(expected)
