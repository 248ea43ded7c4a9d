"""Profiles of layers that were measured on this machine, one small file each.

A run measures its layers before it plans. What it found is kept beside the machine's own profile,
under a name made of everything that it depends on: the machine, the layers, the step and the
versions of the libraries. A plan that finds such a file says the same as the run. A file that is
damaged counts as none.
"""

import contextlib
import datetime
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from outsize.errors import MachineError
from outsize.machines.profile_file import profile_path
from outsize.machines.records import RecordError, from_json, to_json
from outsize.plan.layout import Layout
from outsize.spec.machine import LayerCost
from outsize.train.profiled import Profile

_FORMAT = 4
_MOST_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeptCost:
    signature: str
    keeps: str
    forward_s: float
    backward_s: float
    unpack_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    format: int
    measured_at: str
    keeps_products: str
    memory_bytes_per_s: float
    fixed_bytes: int
    baseline_bytes: int
    costs: tuple[_KeptCost, ...]


def keep_profile(
    layout: Layout, fingerprint: str | None, threads: int | None, profile: Profile
) -> Profile:
    """Add a measured profile to what was kept before, and return both together; where nothing can
    be written, nothing is: it is only kept to save time.

    Of the seconds the shorter ones stay: a layer that once took longer was measured while the
    machine was busy with other things. Of the temporaries the least stay: what they take is always
    the same, what the heap takes for them is up to a fifth more, by how it happens to be cut up.
    That is what the slack is for, and it must not be counted twice. What only one of both has
    measured stays too. A run then plans with what a plan will find after it, and never needs more
    than a plan has said before it.
    """
    path = _path(layout, fingerprint, threads)
    if path is None:
        return profile
    profile = _merged(profile, kept_profile(layout, fingerprint, threads))
    _write(path, profile)
    return profile


def _write(path: Path, profile: Profile) -> None:
    kept = _Kept(
        format=_FORMAT,
        measured_at=profile.measured_at or _now(),
        keeps_products=_word(profile.keeps_products),
        memory_bytes_per_s=profile.memory_bytes_per_s,
        fixed_bytes=profile.fixed_bytes,
        baseline_bytes=profile.baseline_bytes,
        costs=tuple(
            _KeptCost(
                signature=signature,
                keeps=_word(keeps),
                forward_s=cost.forward_s,
                backward_s=cost.backward_s,
                unpack_s=cost.unpack_s,
            )
            for (signature, keeps), cost in profile.costs.items()
        ),
    )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(to_json(kept), indent=1))
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _merged(profile: Profile, before: Profile | None) -> Profile:
    """Return the profile with the least of both, where both have measured."""
    if before is None:
        return profile
    best = {
        key: min(cost, before.costs.get(key, cost), key=lambda c: c.forward_s + c.backward_s)
        for key, cost in profile.costs.items()
    }
    temporaries_bytes = min(profile.temporaries_bytes, before.temporaries_bytes)
    return replace(
        profile,
        costs={**before.costs, **best},
        keeps_products=profile.keeps_products or before.keeps_products,
        memory_bytes_per_s=max(profile.memory_bytes_per_s, before.memory_bytes_per_s),
        fixed_bytes=profile.baseline_bytes + temporaries_bytes,
    )


def kept_profile(layout: Layout, fingerprint: str | None, threads: int | None) -> Profile | None:
    """Return what was measured for the same step on the same machine; None when nothing was."""
    path = _path(layout, fingerprint, threads)
    if path is None:
        return None
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return None
        kept = from_json(_Kept, json.loads(path.read_bytes()))
        costs = {
            (one.signature, _flag(one.keeps)): LayerCost(
                forward_s=one.forward_s, backward_s=one.backward_s, unpack_s=one.unpack_s
            )
            for one in kept.costs
        }
        datetime.datetime.fromisoformat(kept.measured_at)
        keeps_products = _flag(kept.keeps_products)
    except (OSError, ValueError, RecordError, RecursionError):
        return None
    signatures = {layer.signature for layer in layout.model.layers}
    whole = all((name, keeps) in costs for name in signatures for keeps in (False, keeps_products))
    if kept.format != _FORMAT or not whole or kept.baseline_bytes > kept.fixed_bytes:
        return None
    return Profile(
        costs=costs,
        keeps_products=keeps_products,
        memory_bytes_per_s=kept.memory_bytes_per_s,
        fixed_bytes=kept.fixed_bytes,
        baseline_bytes=kept.baseline_bytes,
        measured_at=kept.measured_at,
    )


def _path(layout: Layout, fingerprint: str | None, threads: int | None) -> Path | None:
    """Return the file for a step; None where no place for it is known."""
    try:
        folder = profile_path().parent / "layers"
    except MachineError:
        return None
    return folder / f"{_digest(layout, fingerprint, threads)}.json"


def _digest(layout: Layout, fingerprint: str | None, threads: int | None) -> str:
    model, workload = layout.model, layout.workload
    facts: Sequence[object] = (
        _FORMAT,
        fingerprint,
        threads,
        *map(_version, ("outsize", "torch", "transformers", "peft")),
        model.architecture,
        model.hidden_size,
        model.vocab_size,
        model.tied is None,
        *(layer.signature for layer in model.layers),
        workload.micro_batch_rows,
        workload.num_micro_batches,
        workload.seq_length,
        workload.dtype,
        workload.clip,
        workload.packed_attention,
        workload.optimizer,
        workload.num_moments,
        workload.moment_bits,
        workload.weights_dtype,
        model.lowest_trained,
        layout.span_elements,
    )
    return hashlib.blake2b(repr(tuple(facts)).encode(), digest_size=12).hexdigest()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _word(flag: bool) -> str:
    return "yes" if flag else "no"


def _flag(word: str) -> bool:
    if word not in ("yes", "no"):
        raise ValueError(f"{word!r} is neither yes nor no")
    return word == "yes"
