"""A drive on a made-up clock, whose transfers of one direction end one after the other."""

from dataclasses import dataclass

from outsize.errors import StorageError
from outsize.store.store import TransferResult


class FakeClock:
    """Seconds that pass when somebody waits."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def pause(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass
class PacedTransfer:
    clock: FakeClock
    size_bytes: int
    end_s: float
    fails: bool = False

    @property
    def done(self) -> bool:
        return self.clock.now_s >= self.end_s

    def wait(self) -> TransferResult:
        self.clock.now_s = max(self.clock.now_s, self.end_s)
        if self.fails:
            raise StorageError("the drive failed")
        return TransferResult(size_bytes=self.size_bytes, seconds=0.0, checksum=None)


class PacedLane:
    """One direction; `started` names the extents in the order of their transfers."""

    def __init__(self, clock: FakeClock, bytes_per_s: float, fails_at: int = -1) -> None:
        self.started: list[str] = []
        self.most_queued = 0
        self._clock = clock
        self._bytes_per_s = bytes_per_s
        self._free_s = 0.0
        self._fails_at = fails_at
        self._all: list[PacedTransfer] = []

    def start(self, extent: str, buffer: memoryview) -> PacedTransfer:
        self.started.append(extent)
        self._free_s = max(self._clock.now_s, self._free_s) + buffer.nbytes / self._bytes_per_s
        fails = len(self.started) == self._fails_at
        self._all.append(PacedTransfer(self._clock, buffer.nbytes, self._free_s, fails))
        queued = sum(not transfer.done for transfer in self._all)
        self.most_queued = max(self.most_queued, queued)
        return self._all[-1]

    @property
    def idle(self) -> bool:
        return all(transfer.done for transfer in self._all)
