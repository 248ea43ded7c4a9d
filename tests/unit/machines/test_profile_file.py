import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from made_profiles import GPU, PROFILE, PROFILES, profile

from outsize.errors import MachineError
from outsize.machines.profile_file import (
    check_can_save,
    load_profile,
    profile_path,
    save_profile,
)
from outsize.spec.machine import MachineProfile


@given(PROFILES)
@settings(max_examples=60, deadline=None)
def test_what_is_saved_is_loaded_again(
    tmp_path_factory: pytest.TempPathFactory, given_profile: MachineProfile
) -> None:
    path = tmp_path_factory.mktemp("profile") / "machine.json"
    save_profile(given_profile, path)
    assert load_profile(path) == given_profile
    assert os.listdir(path.parent) == [path.name]


def test_the_file_is_for_people_too(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "machine.json"
    save_profile(profile(accelerator=GPU), path)
    text = path.read_text()
    assert '\n  "format": 1,\n' in text
    assert '\n    "baseline_bytes": 275775488,\n' in text
    assert '"read_beside_write_bytes_per_s": 900000000.0' in text
    assert len(text) < 10_000


def test_a_whole_number_may_stand_for_a_rate(tmp_path: Path) -> None:
    path = _changed(tmp_path, lambda p: p["disk"].update(read_bytes_per_s=1_350_000_000))
    assert load_profile(path) == PROFILE
    assert isinstance(load_profile(path).disk.read_bytes_per_s, float)


def _changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Write a profile into which `change` has put a mistake."""
    path = folder / "machine.json"
    save_profile(PROFILE, path)
    content = json.loads(path.read_bytes())
    change(content["profile"])
    path.write_text(json.dumps(content))
    return path


def _set(*keys: str | int, value: object) -> Callable[[dict[str, Any]], None]:
    def change(found: Any) -> None:
        for key in keys[:-1]:
            found = found[key]
        found[keys[-1]] = value

    return change


_WRONG_FIELDS = [
    (lambda p: p.pop("disk"), r"profile\.disk is missing"),
    (lambda p: p["host"].pop("attention"), r"profile\.host\.attention is missing"),
    (_set("disk", "speed", value=1), r"profile\.disk\.speed is not known"),
    (_set("disk", "\x1b[31m", value=1), r"profile\.disk\.'\\x1b\[31m' is not known"),
    (_set("disk", value=[]), r"profile\.disk must be an object, but is \[\]"),
    (_set("host", "matmul", value={}), r"profile\.host\.matmul must be a list, but is {}"),
    (_set("host", "matmul", value=[]), r"matmul rates of Fast One are empty"),
    (_set("host", "matmul", 0, "dtype", value="int8"), r"matmul\[0\]\.dtype must be one of float"),
    (_set("host", "matmul", 1, "dtype", value=["a"]), r"matmul\[1\]\.dtype must be one of float"),
    (_set("host", "matmul", 1, "rows", value=1.5), r"rows must be a whole number, but is 1\.5"),
    (_set("host", "matmul", 1, "rows", value=True), r"rows must be a whole number, but is True"),
    (_set("host", "num_cores", value="2"), r"num_cores must be a whole number, but is '2'"),
    (_set("host", "num_cores", value=0), r"num_cores must be above 0, but is 0"),
    (_set("baseline_bytes", value=None), r"baseline_bytes must be a whole number, but is None"),
    (_set("baseline_bytes", value=2**63), r"baseline_bytes must be a finite number below"),
    (_set("disk", "read_bytes_per_s", value=0), r"read_bytes_per_s must be above 0, but is 0"),
    (_set("disk", "read_bytes_per_s", value=-1.0), r"read_bytes_per_s must be above 0, but is -1"),
    (_set("disk", "read_bytes_per_s", value=5e-324), r"must be at least 1 a second"),
    (_set("disk", "read_bytes_per_s", value=1e300), r"must be a finite number below 1e\+24"),
    (_set("disk", "free_bytes", value=-1), r"free_bytes must be at least 0, but is -1"),
    (_set("compute_loss_s_per_byte", value=-1e-9), r"must be at least 0"),
    (_set("name", value=""), r"profile\.name must be printable text, but is ''"),
    (_set("name", value="a\x1b[2Jb"), r"profile\.name must be printable text"),
    (_set("name", value="\ud800"), r"profile\.name must be printable text"),
    (_set("name", value=7), r"profile\.name must be printable text, but is 7"),
    (_set("measured_at", value="yesterday"), r"measured_at is no date: 'yesterday'"),
    (_set("measured_at", value="2026-01-02T03:04:05"), r"measured_at names no time zone"),
]


@pytest.mark.parametrize(("change", "message"), _WRONG_FIELDS)
def test_a_field_that_is_wrong_is_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = _changed(tmp_path, change)
    with pytest.raises(MachineError, match=message) as caught:
        load_profile(path)
    assert str(caught.value).startswith(f"The machine profile {path} cannot be used: ")
    assert "outsize probe" in str(caught.value)


_WHOLE = '{"format": 1, "profile": {}}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"it is not JSON"),
        ("speed: 7", r"it is not JSON"),
        ("[1, 2]", r"must be an object of `format` and `profile`"),
        (_WHOLE[:-9], r"it is not JSON"),
        ('{"format": 2, "profile": {}}', r"its format is not 1"),
        ('{"format": true, "profile": {}}', r"its format is not 1"),
        ('{"format": [], "profile": {}}', r"its format is not 1"),
        ('{"format": 1, "profile": {}, "more": 1}', r"must be an object of"),
        ('{"format": 1, "profile": {"name": "a", "name": "b"}}', r"a field is written twice"),
        ('{"format": 1, "profile": NaN}', r"it holds NaN, which is no finite number"),
        ('{"format": 1, "profile": -Infinity}', r"it holds -Infinity"),
        ('{"format": 1, "profile": ' + "9" * 5000 + "}", r"it is not JSON"),
        ("[" * 100_000, r"it is not JSON"),
        (b"\xff\xfe\xfd\xfc", r"it is not JSON"),
        (b"\0" * 64, r"it is not JSON"),
        (b" " * (4 * 2**20 + 1), r"it is longer than any profile, 4,194,305 bytes"),
    ],
)
def test_a_file_that_is_no_profile_is_refused(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    path = tmp_path / "machine.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(MachineError, match=message) as caught:
        load_profile(path)
    assert str(path) in str(caught.value)
    assert "Run `outsize probe`" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("cut", range(1, 11))
def test_a_truncated_file_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "machine.json"
    save_profile(PROFILE, path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * cut // 12])
    with pytest.raises(MachineError, match=r"it is not JSON"):
        load_profile(path)


def test_what_is_no_file_is_refused_and_nothing_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MachineError, match=r"pipe cannot be used: it is not a file\."):
        load_profile(tmp_path / "pipe")
    with pytest.raises(MachineError, match=r"cannot be read: Is a directory\. Run `outsize"):
        load_profile(tmp_path)
    with pytest.raises(MachineError, match=r"none\.json cannot be read: No such file"):
        load_profile(tmp_path / "none.json")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "machine.json"
    save_profile(PROFILE, path)

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(MachineError, match=r"cannot be written: No space left on device\. Name"):
        save_profile(profile(name="other"), path)
    assert load_profile(path) == PROFILE
    assert os.listdir(tmp_path) == ["machine.json"]


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match=r"cannot be written: File exists\. Name another"):
        check_can_save(tmp_path / "file" / "machine.json")
    with pytest.raises(MachineError, match=r"cannot be written: it is a folder\."):
        check_can_save(tmp_path)


def test_a_folder_without_the_right_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(MachineError, match=r"its folder is not writable\. .*set OUTSIZE_HOME"):
        save_profile(PROFILE, tmp_path / "machine.json")


def test_the_place_of_the_profile_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("OUTSIZE_HOME", raising=False)
    assert profile_path() == Path("/h/.cache/outsize/machine.json")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert profile_path() == Path("/h/.cache/outsize/machine.json")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert profile_path() == Path("/x/outsize/machine.json")
    monkeypatch.setenv("OUTSIZE_HOME", str(tmp_path))
    assert profile_path() == tmp_path / "machine.json"
    assert (
        profile_path("disk nfs on far:/../a b") == tmp_path / "machine-disk-nfs-on-far-..-a-b.json"
    )


def test_without_a_home_folder_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("OUTSIZE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", fail)
    with pytest.raises(MachineError, match=r"no home folder .*; set OUTSIZE_HOME to a folder"):
        profile_path()
