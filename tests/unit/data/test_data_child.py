"""The child process, and what only shows in a process of its own: imports, and no network."""

import dataclasses
import json
import subprocess
import sys

import pytest
from fake_hub import running_hub

from outsize.errors import DataError, StorageError
from outsize.train.data.child import prepare_in_child
from outsize.train.data.options import DataOptions
from outsize.train.data.rows import PackedRows


@pytest.fixture
def options(tmp_path, save_tokenizer):
    def make(**changes) -> DataOptions:
        given = {
            "data": "builtin:python-reference",
            "tokenizer_folder": save_tokenizer(),
            "output": str(tmp_path / "out"),
            "max_seq_length": 128,
        }
        return DataOptions(**(given | changes))

    return make


def test_rows_are_there_when_the_child_has_ended(options, tmp_path):
    info = prepare_in_child(options())
    with PackedRows(tmp_path / "out") as rows:
        assert rows.num_rows == info["num_rows"] > 1000
        assert rows.info.shape == "text"


def test_an_error_of_the_child_is_raised_here(options, tmp_path):
    with pytest.raises(DataError) as caught:
        prepare_in_child(options(data=str(tmp_path / "no.txt")))
    assert str(caught.value) == f"There is no data at '{tmp_path}/no.txt': no such file or folder."


def test_a_storage_error_of_the_child_keeps_its_kind(options, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        prepare_in_child(options(output=str(tmp_path / "file")))


def test_the_child_needs_no_torch(options):
    code = (
        "import json, sys\n"
        "from outsize.train.data.child import prepare_without_torch\n"
        "prepare_without_torch(**json.loads(sys.argv[1]))\n"
        "print('transformers' in sys.modules, 'torch' in sys.modules)"
    )
    argument = json.dumps(dataclasses.asdict(options()))
    done = subprocess.run(
        [sys.executable, "-c", code, argument], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "True False"
    assert "PyTorch" not in done.stderr


def test_a_hub_data_set_without_a_network(options, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError) as caught:
        prepare_in_child(options(data="org/name"))
    assert str(caught.value).startswith(
        "There is no data at 'org/name': no such file or folder here, and the Hugging Face Hub "
        "gave no data set of this name (OfflineModeIsEnabled: "
    )


def test_a_hub_data_set_is_streamed(options, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    with running_hub() as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        info = prepare_in_child(options(data="org/name"))
        with pytest.raises(DataError) as caught:
            prepare_in_child(options(data="org/name", split="dev"))
        with pytest.raises(DataError, match=r"^There is no data at 'org/other': "):
            prepare_in_child(options(data="org/other"))
    assert (info["shape"], info["num_documents"], info["num_tokens"]) == ("text", 2, 8)
    assert str(caught.value).startswith(
        "The split 'dev' of the Hub data set 'org/name' cannot be read (ValueError: "
    )
    assert "train" in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*.arrow"))
