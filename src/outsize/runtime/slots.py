"""Which of its two places on disk holds the newest, and which the committed, bytes of each durable
region.

A changed region always goes to the place that is not committed, so the committed one is never
touched: whenever the process dies, the last commit is whole. An uncommitted place may be
overwritten any number of times.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from outsize.errors import StorageError

_SLOTS = {1: re.compile("0*"), 2: re.compile("[01]*")}
"""What a record may say of the slots, by their number."""

_CHECKSUMS = re.compile("[0-9a-f]*")


@dataclass(frozen=True, slots=True)
class Version:
    """One written copy of a region: its slot, 0 or 1, and the checksum of its bytes."""

    slot: int
    checksum: int


def extent_name(region: str, slot: int) -> str:
    """Name of the extent that holds one copy of a durable region."""
    return f"{region}@{slot}"


class Slots:
    """Newest and committed versions of durable regions.

    Args:
        committed: the versions of the last commit; empty before the first one.
        num_slots: 2, or 1 for regions that are changed in place: the last commit is then whole
            until the first write after it, which whoever writes has to remember.
    """

    def __init__(
        self, committed: Mapping[str, Version] | None = None, *, num_slots: int = 2
    ) -> None:
        self._num_slots = num_slots
        self._committed: dict[str, Version] = dict(committed or {})
        self._newest: dict[str, Version] = dict(self._committed)

    def newest(self, region: str) -> Version:
        """Return the newest copy on disk."""
        return self._newest[region]

    def write_slot(self, region: str) -> int:
        """Return the slot that the region may be written to: the one that is not committed, where
        there are two.
        """
        committed = self._committed.get(region)
        return 0 if committed is None else self._num_slots - 1 - committed.slot

    def written(self, region: str, checksum: int) -> None:
        """Record that the region's bytes now lie in its writable slot."""
        self._newest[region] = Version(self.write_slot(region), checksum)

    def to_record(self) -> dict[str, object]:
        """Return the newest versions as they stand in a commit record."""
        versions = sorted(self._newest.items())
        return {
            "slots": "".join(str(version.slot) for _, version in versions),
            "checksums": "".join(f"{version.checksum:016x}" for _, version in versions),
        }

    def commit(self) -> None:
        """Make the newest versions the committed ones; called after the record is durable."""
        self._committed = dict(self._newest)

    @staticmethod
    def from_record(
        record: Mapping[str, object], regions: Iterable[str], *, num_slots: int = 2
    ) -> "Slots":
        """Read what `to_record` wrote for the same regions.

        Raises:
            StorageError: the record does not describe these regions.
        """
        names = sorted(regions)
        slots, checksums = record.get("slots"), record.get("checksums")
        if not isinstance(slots, str) or not isinstance(checksums, str):
            raise StorageError(
                "The commit record has no table of regions; it was not written by Outsize."
            )
        if len(slots) != len(names) or len(checksums) != 16 * len(names):
            raise StorageError(
                f"The commit record describes {len(slots)} regions and the model has {len(names)}: "
                "the run folder mixes two runs."
            )
        if not _SLOTS[num_slots].fullmatch(slots) or not _CHECKSUMS.fullmatch(checksums):
            raise StorageError(
                "The commit record has a table of regions that cannot be read: it is damaged."
            )
        return Slots(
            {
                name: Version(int(slots[i]), int(checksums[16 * i : 16 * i + 16], 16))
                for i, name in enumerate(names)
            },
            num_slots=num_slots,
        )
