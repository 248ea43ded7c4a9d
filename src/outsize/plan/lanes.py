"""One clock, and the lanes that move on with it: transfers, and arithmetic beside the main one.

A lane serves its jobs first come, first served. A job begins when no earlier one still has to do
with it: both touch one region on one tier, and one of them changes it there. That one rule chains
lanes (what comes from disk goes on to the device) and tells the main arithmetic what to wait for.
Read `simulate.py` next: it fills the lanes.
"""

import math
from collections import deque
from collections.abc import Sequence

from outsize.plan.actions import Tier
from outsize.spec.machine import Lanes

Place = tuple[str, Tier]
"""A region's bytes on one tier."""


class Job:
    """Something that a lane does: `left` bytes to move, or seconds of arithmetic.

    Attributes:
        reads: places that it needs unchanged until it ends.
        changes: places whose content it changes.
        left: what is left to do.
        after: earlier jobs that it waits for; those that ended may be missing.
        ended: whether it is done.
    """

    __slots__ = ("after", "changes", "ended", "left", "reads")

    def __init__(
        self, reads: Sequence[Place], changes: Sequence[Place], left: float, after: list["Job"]
    ) -> None:
        self.reads = reads
        self.changes = changes
        self.left = left
        self.after = after
        self.ended = False


class Lane:
    """A queue that is served first come, first served."""

    def __init__(
        self,
        alone_per_s: float = 1.0,
        beside_per_s: float | None = None,
        loss_s_per_byte: float = 0.0,
    ) -> None:
        """Make an empty lane.

        Args:
            alone_per_s: rate of its jobs.
            beside_per_s: the same while `beside` moves; None when that makes no difference.
            loss_s_per_byte: what each byte of it takes from arithmetic on the host.
        """
        self._alone_per_s = alone_per_s
        self._beside_per_s = alone_per_s if beside_per_s is None else beside_per_s
        self.loss_s_per_byte = loss_s_per_byte
        self.beside: Lane | None = None
        self.queue: deque[Job] = deque()
        self.moves = False
        self.busy_s = 0.0
        self.moved_bytes = 0

    def look(self) -> None:
        """Find out whether the head of the queue can move on."""
        if not self.queue:
            self.moves = False
            return
        after = self.queue[0].after
        while after and after[-1].ended:
            after.pop()
        self.moves = not after

    @property
    def rate(self) -> float:
        """What goes in a second now."""
        beside = self.beside is not None and self.beside.moves
        return self._beside_per_s if beside else self._alone_per_s

    def move(self, seconds: float, rate: float) -> tuple[float, Job | None]:
        """Let the head of the queue move on; return what went, and the head if that ended it."""
        head = self.queue[0]
        moved = min(head.left, seconds * rate)
        head.left -= moved
        self.busy_s += seconds
        # What is left of a head that should be done by now is rounding.
        if head.left > 1e-6 * rate * seconds + 1e-9:
            return moved, None
        head.ended = True
        return moved, self.queue.popleft()


class Clock:
    """Time, and all lanes of a machine.

    Reads and writes of the disk slow each other down; copies to and from a device do not. Host
    arithmetic that has a lane of its own slows down by what all transfers take from it.
    """

    def __init__(self, machine: Lanes) -> None:
        self.now_s = 0.0
        loss_s_per_byte = machine.compute_loss_s_per_byte
        read = Lane(
            machine.read_bytes_per_s, machine.read_beside_write_bytes_per_s, loss_s_per_byte
        )
        write = Lane(
            machine.write_bytes_per_s, machine.write_beside_read_bytes_per_s, loss_s_per_byte
        )
        read.beside, write.beside = write, read
        self.routes: dict[tuple[Tier, Tier], Lane] = {
            ("disk", "host"): read,
            ("host", "disk"): write,
        }
        if machine.device is not None:
            loss_s_per_byte = machine.device.copy_loss_s_per_byte
            self.routes["host", "device"] = Lane(
                machine.device.to_device_bytes_per_s, loss_s_per_byte=loss_s_per_byte
            )
            self.routes["device", "host"] = Lane(
                machine.device.from_device_bytes_per_s, loss_s_per_byte=loss_s_per_byte
            )
        self.host_arithmetic = Lane()
        self._transfers = tuple(self.routes.values())
        self._lanes = (*self._transfers, self.host_arithmetic)
        self._reading: dict[Place, list[Job]] = {}
        self._changing: dict[Place, list[Job]] = {}

    def transfer(self, region: str, source: Tier, target: Tier, size_bytes: int) -> None:
        """Queue a copy of a region from one tier to the next."""
        lane = self.routes[source, target]
        lane.moved_bytes += size_bytes
        self._add(lane, ((region, source),), ((region, target),), size_bytes)

    def compute_on_host(
        self, reads: Sequence[Place], changes: Sequence[Place], seconds: float
    ) -> None:
        """Queue arithmetic on the host that runs beside the main one."""
        self._add(self.host_arithmetic, reads, changes, seconds)

    def wait(self, place: Place, *, changes: bool) -> float:
        """Let time pass until a place may be read, or changed; return how long it took."""
        start_s = self.now_s
        while place in self._changing or (changes and place in self._reading):
            self._one_event(math.inf)
        return self.now_s - start_s

    def changing(self, tier: Tier) -> tuple[str, ...]:
        """Return the regions whose content on a tier is about to change."""
        return tuple(region for region, where in self._changing if where == tier)

    def advance(self, seconds: float) -> float:
        """Let `seconds` pass; return the bytes that lanes moved meanwhile."""
        moved = 0.0
        while seconds > 0 and any(lane.queue for lane in self._lanes):
            passed_s, moved_bytes = self._one_event(seconds)
            moved += moved_bytes
            seconds -= passed_s
        self.now_s += max(0.0, seconds)
        return moved

    def drain(self) -> None:
        """Let time pass until all lanes are done."""
        while any(lane.queue for lane in self._lanes):
            self._one_event(math.inf)

    def start_counting(self) -> None:
        """Forget what the lanes have done so far."""
        for lane in self._lanes:
            lane.busy_s, lane.moved_bytes = 0.0, 0

    def _add(
        self, lane: Lane, reads: Sequence[Place], changes: Sequence[Place], left: float
    ) -> None:
        after = [job for place in reads for job in self._changing.get(place, ())]
        for place in changes:
            after += self._changing.get(place, ())
            after += self._reading.get(place, ())
        job = Job(reads, changes, left, after)
        lane.queue.append(job)
        for place in reads:
            self._reading.setdefault(place, []).append(job)
        for place in changes:
            self._changing.setdefault(place, []).append(job)

    def _one_event(self, most_s: float) -> tuple[float, float]:
        """Let time pass until a job ends, but at most `most_s`; return the time and the bytes that
        went.
        """
        for lane in self._lanes:
            lane.look()
        moving = [(lane, lane.rate) for lane in self._transfers if lane.moves]
        if self.host_arithmetic.moves:
            lost = sum(lane.loss_s_per_byte * rate for lane, rate in moving)
            moving.append((self.host_arithmetic, 1 / (1 + lost)))
        assert moving, "every job waits for another"
        passed_s = min(most_s, *(lane.queue[0].left / rate for lane, rate in moving))
        self.now_s += passed_s
        moved_bytes = 0.0
        for lane, rate in moving:
            moved, ended = lane.move(passed_s, rate)
            if lane is not self.host_arithmetic:
                moved_bytes += moved
            if ended is not None:
                self._forget(ended)
        return passed_s, moved_bytes

    def _forget(self, job: Job) -> None:
        for where, places in ((self._reading, job.reads), (self._changing, job.changes)):
            for place in places:
                jobs = where[place]
                jobs.remove(job)
                if not jobs:
                    del where[place]
