"""What `outsize probe` returns: the profile, the limits around it, and what measuring took."""

from dataclasses import asdict, dataclass
from typing import Any

from outsize.machines.records import to_json
from outsize.probe.limits import ProcessLimits
from outsize.results import TierBytes
from outsize.spec.machine import MachineProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What was measured of this machine.

    Attributes:
        profile: the machine, as it stands in the file.
        limits: what the container and the system allow.
        folder: the folder whose disk was measured.
        direct_io: whether files there can be read and written past the page cache.
        output: the file that the profile was written to.
        measured_peak_bytes: the most that this process and its largest child took together, and the
            scratch file.
        bytes_read: read from the disk to measure it.
        bytes_written: written to it, which is wear.
        seconds: wall time of everything.
    """

    profile: MachineProfile
    limits: ProcessLimits
    folder: str
    direct_io: bool
    output: str
    measured_peak_bytes: TierBytes
    bytes_read: int
    bytes_written: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of `outsize probe`."""
        return {"command": "probe", **asdict(self), "profile": to_json(self.profile)}
