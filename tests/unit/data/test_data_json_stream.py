import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outsize.errors import DataError
from outsize.train.data import decode, json_stream
from outsize.train.data.json_stream import JsonStream

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("json")


@given(
    values=st.lists(VALUES, max_size=8),
    indent=st.none() | st.just(2),
    is_array=st.booleans(),
    ascii_only=st.booleans(),
    chunk_bytes=st.integers(1, 40),
)
@settings(max_examples=200, deadline=None)
def test_values_are_read_whatever_the_layout_and_the_chunks(
    folder, values, indent, is_array, ascii_only, chunk_bytes
):
    if is_array:
        text = json.dumps(values, indent=indent, ensure_ascii=ascii_only)
    else:
        values = [[value] for value in values]  # what stands alone must end by itself
        texts = [json.dumps(v, indent=indent, ensure_ascii=ascii_only) for v in values]
        text = "{}" + "\n".join(["", *texts])
        values = [{}, *values]
    path = folder / "values.json"
    path.write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "CHUNK_BYTES", chunk_bytes)
        found = list(JsonStream(path).values())
    assert [value for _, value in found] == values
    if is_array and indent and len(values) > 1:
        assert (
            found[1][0] == json.dumps(values[:1], indent=2, ensure_ascii=ascii_only).count("\n") + 1
        )


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ('[{"text": "a"},\n {"text": b}]', 2, "Expecting value"),
        ('[{"text": "a"}\n\n {"text": "b"}]', 3, "a comma or ] is missing after a record"),
        ('[{"text": "a"},\n', 2, "the array is not closed"),
        ('[{"text": "a"},]', 1, "Expecting value"),
        ('[{"text": "a"}]\n}', 2, "something follows the closing ]"),
        ('{"text": "a"}\n{"text": "b"', 2, "Expecting"),
        ("[" * 100_000, 1, "nested too deeply"),
    ],
)
def test_malformed_json_names_file_and_line(tmp_path, text, line, reason):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        list(JsonStream(path).values())
    assert str(caught.value).startswith(f"{path}, line {line}: malformed JSON: ")
    assert reason in str(caught.value)


def test_a_broken_record_does_not_make_the_rest_of_a_large_file_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "RECORD_CHARS", 1000)
    monkeypatch.setattr(decode, "CHUNK_BYTES", 100)
    path = tmp_path / "bad.json"
    path.write_text('[{"text": oops}' + " " * 50_000 + "]")
    stream = JsonStream(path)
    with pytest.raises(DataError, match="malformed JSON"):
        list(stream.values())
    assert stream.done_bytes < 4000
