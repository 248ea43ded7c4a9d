"""The profile of this machine without measuring it again: saved once, used by every run.

A saved profile is used when it is whole and fresh; otherwise the machine is measured once more and
the reason is told. What changes by the hour is always read anew: free disk and the memory that the
container allows.
"""

import contextlib
import datetime
import os
from dataclasses import replace
from pathlib import Path

from outsize.errors import MachineError
from outsize.machines.fingerprint import (
    machine_fingerprint,
    num_compute_threads,
    num_usable_cores,
    staleness,
    threads_variant,
)
from outsize.machines.profile_file import (
    check_can_save,
    load_profile,
    profile_path,
    save_profile,
)
from outsize.probe.limits import process_limits
from outsize.probe.machine import measure_disk, probe_in_child
from outsize.probe.mounts import disk_name
from outsize.probe.sizes import LARGE_BLOCKS
from outsize.runtime.events import Notice, OnEvent
from outsize.spec.machine import MachineProfile
from outsize.store.kernel import free_bytes


def known_machine(folder: Path, on_event: OnEvent, *, threads: int | None = None) -> MachineProfile:
    """Return the profile of this machine with the disk of `folder`.

    Args:
        folder: where the run's files will lie; it exists.
        on_event: told why something is measured, and its phases.
        threads: compute threads of the run; None takes PyTorch's default. Where the machine was
            measured with all its cores only, fewer of them are a share of it.

    Raises:
        OutsizeError: the machine must be measured and cannot be, see `measure_machine`.

    Cost: nothing to speak of when the saved profile is used and the folder's disk is known, two
    seconds on another disk, a minute at the first time.
    """
    saved, reason = _saved(threads)
    if saved is None:
        return _measured(folder, on_event, reason, threads)
    if saved.fingerprint is None:  # of the catalogue: chosen by the user, whatever is here
        return saved
    host = replace(saved.host, memory_bytes=process_limits().usable_memory_bytes)
    return replace(_with_disk_of(folder, saved, on_event), host=host)


def _saved(threads: int | None) -> tuple[MachineProfile | None, str]:
    """Return the saved profile, or None and why it cannot be used."""
    cores = num_usable_cores()
    variant = threads_variant(threads)
    try:
        if variant is not None:
            own, _ = _fresh(profile_path(variant), machine_fingerprint(threads))
            if own is not None:
                return own, ""
        profile, reason = _fresh(profile_path(), machine_fingerprint(cores))
    except MachineError as error:
        return None, _without_remedy(error)
    if profile is None or profile.fingerprint is None:
        return profile, reason
    return replace(profile, host=profile.host.on_cores(num_compute_threads(threads))), ""


def _fresh(path: Path, fingerprint: str) -> tuple[MachineProfile | None, str]:
    """Return a saved profile that still holds, or None and why it does not."""
    try:
        if not os.path.exists(path):
            return None, "this machine was not measured before"
        profile = load_profile(path)
    except MachineError as error:
        return None, _without_remedy(error)
    stale = staleness(profile, fingerprint, datetime.datetime.now(datetime.UTC))
    if stale is None:
        return profile, ""
    return None, f"the saved profile of this machine does not hold any more: {stale}"


def _without_remedy(error: MachineError) -> str:
    return str(error).partition(". Run `outsize probe`")[0]


def _measured(folder: Path, on_event: OnEvent, reason: str, threads: int | None) -> MachineProfile:
    """Measure this machine, and save what was found where that can be."""
    text = f"{reason}; measuring this machine takes up to a minute"
    try:
        path = profile_path(threads_variant(threads))
        check_can_save(path)
    except MachineError as error:
        on_event(Notice(text=f"{text}, again in every run, for it cannot be kept: {error}"))
        return probe_in_child(folder, on_event, threads=threads)
    on_event(Notice(text=f"{text}, is done once and is kept in {path}."))
    profile = probe_in_child(folder, on_event, threads=threads)
    try:
        save_profile(profile, path)
    except MachineError as error:  # a disk that has become full
        on_event(Notice(text=str(error)))
    return profile


def _with_disk_of(folder: Path, saved: MachineProfile, on_event: OnEvent) -> MachineProfile:
    """Return the profile with the rates of the folder's own disk. Those of another disk than the
    saved profile's are kept in a file of their own.
    """
    name, free = disk_name(folder), free_bytes(folder)
    if name == saved.disk.name:
        return replace(saved, disk=replace(saved.disk, free_bytes=free))
    path, fingerprint = profile_path(f"disk {name}"), saved.fingerprint or ""
    before, _ = _fresh(path, fingerprint)
    if before is not None and before.disk.name == name:
        return replace(saved, disk=replace(before.disk, free_bytes=free))
    text = f"{folder} lies on another disk than the saved profile's, {name}: measuring that."
    on_event(Notice(text=text))
    found = replace(saved, disk=measure_disk(folder, on_event, LARGE_BLOCKS).disk)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with contextlib.suppress(MachineError):  # then it is measured again the next time
        save_profile(replace(found, measured_at=now), path)
    return found
