"""`outsize probe`: check the places, measure, save."""

import time
from pathlib import Path

from outsize.errors import UsageError
from outsize.machines.fingerprint import threads_variant
from outsize.machines.profile_file import check_can_save, profile_path, save_profile
from outsize.options import ProbeOptions
from outsize.paths import is_folder, user_path
from outsize.probe.limits import process_limits
from outsize.probe.machine import measure_machine
from outsize.probe.result import ProbeResult
from outsize.results import TierBytes
from outsize.runtime.events import OnEvent
from outsize.store.budget import peak_children_bytes, peak_resident_bytes


def run_probe(options: ProbeOptions, on_event: OnEvent) -> ProbeResult:
    """Measure this machine and write its profile.

    Raises:
        UsageError: there is no such folder.
        MachineError: the profile cannot be written; found before anything is measured.
        StorageError: the folder's disk is too full or fails.

    Cost: see `measure_machine`.
    """
    start_s = time.monotonic()
    folder = user_path(options.folder)
    if not is_folder(folder):
        raise UsageError(f"{folder} is no folder; --folder names one on the disk to measure.")
    usual = profile_path(threads_variant(options.threads))
    output = usual if options.output is None else Path(options.output)
    check_can_save(output)
    measured = measure_machine(folder, on_event, threads=options.threads)
    save_profile(measured.profile, output)
    return ProbeResult(
        profile=measured.profile,
        limits=process_limits(),
        folder=str(folder.absolute()),
        direct_io=measured.is_direct,
        output=str(output),
        measured_peak_bytes=TierBytes(
            host=peak_resident_bytes() + peak_children_bytes(), disk=measured.scratch_bytes
        ),
        bytes_read=measured.bytes_read,
        bytes_written=measured.bytes_written,
        seconds=time.monotonic() - start_s,
    )
