"""Profiles of layers come back as they were, for the same step only, and damage counts as none."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from decoders import make_candidate, make_decoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outsize.plan.layout import Layout
from outsize.spec.machine import LayerCost
from outsize.spec.model import ModelSpec
from outsize.train import kept_profiles
from outsize.train.kept_profiles import keep_profile, kept_profile
from outsize.train.profiled import Profile

MODEL = make_decoder(num_blocks=2)
LAYOUT = make_candidate(MODEL).layout
MACHINE = "Fast One, 2 cores, 24 GiB, torch 2.13.0"
AT = "2026-01-02T03:04:05+00:00"


def make_profile(model: ModelSpec = MODEL, factor: float = 1.0) -> Profile:
    return Profile(
        costs={
            (layer.signature, keeps): LayerCost(
                forward_s=factor * 0.1 * number, backward_s=factor * (0.7 if keeps else 1 / 3)
            )
            for number, layer in enumerate(model.layers)
            for keeps in (False, True)
        },
        keeps_products=True,
        memory_bytes_per_s=1.2345678901234567e10 / factor,
        fixed_bytes=300 * 2**20,
        baseline_bytes=270 * 2**20,
        measured_at=AT,
    )


PROFILE = make_profile()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OUTSIZE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def keep(profile: Profile = PROFILE) -> Profile:
    return keep_profile(LAYOUT, MACHINE, None, profile)


def kept() -> Profile | None:
    return kept_profile(LAYOUT, MACHINE, None)


def path_of(home: Path) -> Path:
    (path,) = (home / "layers").iterdir()
    return path


def test_what_was_kept_comes_back(home: Path) -> None:
    assert kept() is None
    keep()
    assert kept() == PROFILE
    assert [path.suffix for path in (home / "layers").iterdir()] == [".json"]
    assert list(home.iterdir()) == [home / "layers"]


def workload(**changes: object) -> Layout:
    return replace(LAYOUT, workload=replace(LAYOUT.workload, **changes))


OTHERS: dict[str, tuple[Layout, str | None, int | None]] = {
    "threads": (LAYOUT, MACHINE, 2),
    "machine": (LAYOUT, MACHINE.replace("2 cores", "4 cores"), None),
    "library": (LAYOUT, MACHINE.replace("2.13.0", "2.14.0"), None),
    "no machine": (LAYOUT, None, None),
    "dtype": (workload(dtype="float32"), MACHINE, None),
    "length": (workload(seq_length=512), MACHINE, None),
    "micro-batch": (workload(micro_batch_rows=1), MACHINE, None),
    "rows": (workload(rows_per_step=8), MACHINE, None),
    "clipping": (workload(clip=False), MACHINE, None),
    "optimizer": (workload(optimizer="lion"), MACHINE, None),
    "moments": (workload(num_moments=0), MACHINE, None),
    "span": (replace(LAYOUT, span_elements=2**19), MACHINE, None),
    "depth": (make_candidate(make_decoder(num_blocks=3)).layout, MACHINE, None),
    "width": (make_candidate(make_decoder(num_blocks=2, hidden=512)).layout, MACHINE, None),
    "vocabulary": (make_candidate(make_decoder(num_blocks=2, vocab=2001)).layout, MACHINE, None),
    "tied": (make_candidate(make_decoder(num_blocks=2, tied=False)).layout, MACHINE, None),
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_step_or_machine_has_none(what: str) -> None:
    keep()
    assert kept_profile(*OTHERS[what]) is None
    layout, fingerprint, threads = OTHERS[what]
    other = make_profile(layout.model, 2.0)
    keep_profile(layout, fingerprint, threads, other)
    assert kept_profile(*OTHERS[what]) == other
    assert kept() == PROFILE


def test_another_version_of_a_library_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    keep()
    version = kept_profiles.metadata.version
    monkeypatch.setattr(
        kept_profiles.metadata,
        "version",
        lambda name: "99" if name == "transformers" else version(name),
    )
    assert kept() is None


@pytest.mark.parametrize("changes", [{"keeping_blocks": 2}, {"pins_products": True}])
def test_what_blocks_do_with_their_products_makes_no_difference(changes) -> None:
    keep()
    assert kept_profile(replace(LAYOUT, **changes), MACHINE, None) == PROFILE


def test_shorter_seconds_and_the_least_temporaries_stay() -> None:
    keep(make_profile(factor=1.0))
    more_bytes = PROFILE.fixed_bytes + 10 * 2**20
    slow = replace(make_profile(factor=3.0), fixed_bytes=more_bytes, measured_at="2026-02-01")
    returned = keep(slow)
    found = kept()
    assert found is not None
    assert returned == found  # the run plans with what the next plan finds
    assert found.costs == PROFILE.costs
    assert found.memory_bytes_per_s == PROFILE.memory_bytes_per_s
    assert (found.fixed_bytes, found.measured_at) == (PROFILE.fixed_bytes, "2026-02-01")
    less = replace(slow, fixed_bytes=PROFILE.fixed_bytes - 2**20)
    assert keep(less).fixed_bytes == less.fixed_bytes
    fast = replace(make_profile(factor=0.5), fixed_bytes=less.fixed_bytes)
    assert keep(fast) == kept() == fast


def test_a_layer_is_taken_whole_and_not_forward_from_one_and_backward_from_another() -> None:
    key = MODEL.layers[1].signature, False
    one = {**PROFILE.costs, key: LayerCost(forward_s=1.0, backward_s=4.0)}
    two = {**PROFILE.costs, key: LayerCost(forward_s=2.0, backward_s=2.5)}
    keep(replace(PROFILE, costs=one))
    keep(replace(PROFILE, costs=two))
    found = kept()
    assert found is not None
    assert found.costs[key] == two[key]


def test_a_profile_without_kept_products_comes_back_without_them() -> None:
    half = replace(
        PROFILE,
        costs={key: cost for key, cost in PROFILE.costs.items() if not key[1]},
        keeps_products=False,
    )
    keep(half)
    assert kept() == half
    # A budget with room for them adds them, and one without does not take them away again.
    assert keep() == PROFILE
    assert keep(half) == kept() == PROFILE


def changed(home: Path, **changes: Any) -> None:
    path = path_of(home)
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps({k: v for k, v in (content | changes).items() if v is not None}))


COST = {
    "signature": MODEL.layers[0].signature,
    "keeps": "no",
    "forward_s": 1.0,
    "backward_s": 1.0,
    "unpack_s": 0.0,
}
_HUGE = 10**30


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 1},
        {"format": "1"},
        {"format": None},
        {"measured_at": "yesterday"},
        {"measured_at": 5},
        {"measured_at": "2026-01-02\x1b[31m"},
        {"keeps_products": "maybe"},
        {"keeps_products": True},
        {"memory_bytes_per_s": float("nan")},
        {"memory_bytes_per_s": float("inf")},
        {"memory_bytes_per_s": -1e9},
        {"memory_bytes_per_s": 0},
        {"memory_bytes_per_s": _HUGE},
        {"fixed_bytes": -1},
        {"fixed_bytes": 1.5},
        {"fixed_bytes": _HUGE},
        {"fixed_bytes": 2**20},
        {"baseline_bytes": 2**40},
        {"costs": None},
        {"costs": []},
        {"costs": [COST]},
        {"costs": {"a": COST}},
        {"costs": [{**COST, "forward_s": -1.0}]},
        {"costs": [{**COST, "keeps": "perhaps"}]},
        {"more": 1},
    ],
    ids=str,
)
def test_a_wrong_field_counts_as_none(home: Path, changes: dict[str, Any]) -> None:
    keep()
    changed(home, **changes)
    assert kept() is None
    keep()  # and is measured and kept anew
    assert kept() == PROFILE


@pytest.mark.parametrize("index", range(6))
@pytest.mark.parametrize("value", [float("nan"), -1.0, float("inf"), 1e300, "1", None, True])
def test_a_wrong_second_counts_as_none(home: Path, index: int, value: object) -> None:
    keep()
    costs = json.loads(path_of(home).read_bytes())["costs"]
    costs[index]["forward_s" if index % 2 else "backward_s"] = value
    changed(home, costs=costs)
    assert kept() is None


@pytest.mark.parametrize("keeps", [False, True])
def test_a_missing_layer_counts_as_none(home: Path, keeps: bool) -> None:
    keep()
    costs = json.loads(path_of(home).read_bytes())["costs"]
    word = "yes" if keeps else "no"
    signature = MODEL.layers[1].signature
    changed(home, costs=[c for c in costs if (c["signature"], c["keeps"]) != (signature, word)])
    assert kept() is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"7", b'"text"', b"\xff\xfe", b"\x00" * 5000, b"[" * 10**5,
     b'{"format": 1}', b"9" * 5000, b" " * (2**20 + 1)],
    ids=lambda content: f"{content[:8]!r} {len(content)}",
)  # fmt: skip
def test_what_is_no_profile_counts_as_none(home: Path, content: bytes) -> None:
    keep()
    path_of(home).write_bytes(content)
    assert kept() is None


@settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_damage_gives_none_or_something_sound(home: Path, data: st.DataObject) -> None:
    for path in home.glob("layers/*"):
        path.unlink()
    keep()
    path = path_of(home)
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    length = data.draw(st.integers(0, 40))
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=40)) + whole[start + length :])
    found = kept()
    if found is not None:
        assert {(layer.signature, False) for layer in MODEL.layers} <= set(found.costs)
        assert all(c.forward_s >= 0 and c.backward_s >= 0 for c in found.costs.values())
        assert found.fixed_bytes >= found.baseline_bytes > 0
    keep()
    assert kept() is not None


def test_something_else_in_the_files_place_counts_as_none(home: Path) -> None:
    keep()
    path = path_of(home)
    path.unlink()
    for make in (path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to(path)):
        make()
        assert kept() is None
        keep()
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)


HOMES = {
    "a file": "file",
    "a file in the folder's place": "half",
    "a folder of the kernel": "/proc/outsize",
    "a name that is too long": "x" * 300,
    "a path that is too long": "/".join(["x" * 200] * 30),
}


@pytest.mark.parametrize("what", HOMES)
def test_where_nothing_can_be_kept_nothing_happens(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "layers").touch()
    monkeypatch.setenv("OUTSIZE_HOME", str(tmp_path / HOMES[what]))
    assert kept() is None
    keep()
    assert kept() is None


def test_without_a_home_folder_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("no home")

    for name in ("OUTSIZE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    keep()
    assert kept() is None


def test_a_full_disk_leaves_what_was_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep()

    def full(self: Path, text: str) -> int:
        with self.open("w") as file:
            file.write(text[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    keep(make_profile(factor=0.5))
    assert kept() == PROFILE
    assert [path.suffix for path in (home / "layers").iterdir()] == [".json"]
