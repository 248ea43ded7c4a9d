"""Machines that are not at hand, as profiles to plan for.

A machine is a host with its memory, a drive, and perhaps an accelerator with its link, all by name
from the tables in `data/` (`entries.py`); `rates.py` turns peaks into sustained rates. What no
table knows is assumed here, with the reason:

- **Links** without a measurement copy at a fraction of their peak; the measured ones reach 0.66 to
  0.88 of it.
- **Drives** share their time when reads and writes go on together, so each gets half of its rate;
  in the mixed figures of data-centre drives (Micron 9550) the two parts add up to 0.5 to 0.6. Half
  of a drive is taken to be free.
- **The baseline** is a process with PyTorch and Transformers, 263 MiB on Linux without a GPU; with
  one, its driver's libraries come on top.
- **Transfers** cost the host one pass over its memory for each byte and, on one of its cores, a
  checksum of it.
"""

from outsize.errors import UsageError
from outsize.fields import unknown
from outsize.machines import entries, rates
from outsize.machines.entries import DriveEntry, LinkEntry, MachineEntry, Provenance
from outsize.paths import is_file, user_path
from outsize.spec.machine import Accelerator, Disk, MachineProfile, Processor

LINK_FRACTION = 0.8
SHARED_DRIVE_FRACTION = 0.5
FREE_FRACTION = 0.5
BASELINE_BYTES = 288 * 2**20
ACCELERATOR_BASELINE_BYTES = 1024 * 2**20
"""On top of `BASELINE_BYTES`: host memory of an accelerator's driver and libraries."""
CHECKSUM_BYTES_PER_S = 20e9
"""Of XXH3 on one core; Zen 5 does 28e9."""


def machine_names() -> tuple[str, ...]:
    """Return the names of the catalogue, small machines before large ones of a kind."""
    return tuple(entries.machines())


def catalogue_machine(name: str) -> MachineProfile:
    """Return the profile of a machine of the catalogue.

    Raises:
        UsageError: the catalogue has no machine of this name; lists those that it has.
    """
    machine = catalogue_entry(name)
    host = rates.host_processor(entries.hosts()[machine.host], machine.memory_bytes)
    accelerator = _accelerator(machine)
    driver_bytes = 0 if accelerator is None else ACCELERATOR_BASELINE_BYTES
    return MachineProfile(
        name=name,
        fingerprint=None,
        measured_at=None,
        host=host,
        accelerator=accelerator,
        disk=_disk(entries.drives()[machine.drive]),
        baseline_bytes=BASELINE_BYTES + driver_bytes,
        compute_loss_s_per_byte=_compute_loss_s_per_byte(host),
    )


def catalogue_entry(name: str) -> MachineEntry:
    """Return what a machine of the catalogue is made of.

    Raises:
        UsageError: the catalogue has no machine of this name; lists those that it has.
    """
    machines = entries.machines()
    if name not in machines:
        raise UsageError(
            f"{unknown('machine', name, machines)}\n"
            f"  The catalogue has {', '.join(machines)}.\n"
            "  Any other machine can be planned for with the profile file that `outsize probe` "
            "writes there."
        )
    return machines[name]


def catalogue_sources(name: str) -> tuple[tuple[str, Provenance], ...]:
    """Return for each part of a machine of the catalogue where its numbers are from.

    Raises:
        UsageError: the catalogue has no machine of this name; lists those that it has.
    """
    machine = catalogue_entry(name)
    host, drive = entries.hosts()[machine.host], entries.drives()[machine.drive]
    found = [(host.name, host.provenance), (drive.name, drive.provenance)]
    if machine.accelerator is not None and machine.link is not None:
        device, link = entries.accelerators()[machine.accelerator], entries.links()[machine.link]
        found += [(device.name, device.provenance), (link.name, link.provenance)]
    return tuple(found)


def find_machine(text: str) -> MachineProfile:
    """Return the machine that a user named: a profile file, or a machine of the catalogue.

    Args:
        text: path of a profile file (one that exists, or that ends in `.json`), or a name.

    Raises:
        UsageError: neither is there.
        MachineError: the file cannot be read or is damaged.
    """
    if is_profile(text):
        from outsize.machines.profile_file import load_profile

        return load_profile(user_path(text))
    return catalogue_machine(text)


def is_profile(text: str) -> bool:
    """Tell whether `find_machine` reads `text` as the path of a profile file."""
    return text.endswith(".json") or is_file(user_path(text))


def _accelerator(machine: MachineEntry) -> Accelerator | None:
    if machine.accelerator is None or machine.link is None:
        return None
    to_device, from_device = _copies(entries.links()[machine.link])
    return Accelerator(
        processor=rates.device_processor(entries.accelerators()[machine.accelerator]),
        to_device_bytes_per_s=to_device,
        from_device_bytes_per_s=from_device,
    )


def _copies(link: LinkEntry) -> tuple[float, float]:
    """Return the rates of copies to and from the device."""
    assumed = link.peak_bytes_per_s * LINK_FRACTION
    to_device, from_device = (
        link.measured_to_device_bytes_per_s,
        link.measured_from_device_bytes_per_s,
    )
    return to_device or assumed, from_device or assumed


def _disk(drive: DriveEntry) -> Disk:
    return Disk(
        name=drive.name,
        read_bytes_per_s=drive.read_bytes_per_s,
        write_bytes_per_s=drive.write_bytes_per_s,
        read_beside_write_bytes_per_s=drive.read_bytes_per_s * SHARED_DRIVE_FRACTION,
        write_beside_read_bytes_per_s=drive.write_bytes_per_s * SHARED_DRIVE_FRACTION,
        free_bytes=int(drive.capacity_bytes * FREE_FRACTION),
        endurance_bytes=drive.endurance_bytes,
    )


def _compute_loss_s_per_byte(host: Processor) -> float:
    cores = host.num_cores or 1
    return 1 / host.memory_bytes_per_s + 1 / (CHECKSUM_BYTES_PER_S * cores)
