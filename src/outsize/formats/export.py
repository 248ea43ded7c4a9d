"""Writes safetensors folders as a stream: headers first, tensors in order, visible when complete.

Every file is written under a temporary name and renamed at the end, so a folder holds a whole model
or none. Read `export_plan.py` for what goes where and `stream_file.py` for how bytes reach the
disk.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from outsize.errors import RunError, StorageError
from outsize.formats.export_plan import Shard, index_text, plan_shards
from outsize.formats.safetensors import INDEX_NAME, SINGLE_NAME
from outsize.formats.stream_file import StreamFile
from outsize.quantities import format_bytes

MAX_SHARD_BYTES = 5_000_000_000


class SafetensorsWriter:
    """Writes the tensors of a model, in the order they were announced. Use it in a `with` block.

    Leaving the block without an error completes the folder; leaving it with one removes what was
    written.

    Args:
        folder: is made when missing; must hold no safetensors model yet.
        tensors: name, shape and dtype (`F32`, `BF16` or `F16`) of each tensor, in the order of
            writing.
        max_shard_bytes: a file is closed before it would grow over this; a larger tensor has one of
            its own.
        stem: what the files' names begin with.

    Raises:
        RunError: the folder already holds a model.
        StorageError: the disk has not enough room, or failed.

    Cost: 16 MiB of page cache. Disk: the tensors and some hundred bytes for each.
    """

    def __init__(
        self,
        folder: Path,
        tensors: Sequence[tuple[str, tuple[int, ...], str]],
        max_shard_bytes: int = MAX_SHARD_BYTES,
        stem: str = "model",
    ) -> None:
        self._folder = folder
        self._stem = stem
        self._shards = plan_shards(tensors, max_shard_bytes, stem)
        self._todo = deque(
            (shard, tensor)
            for shard in self._shards
            for tensor in shard.tensors
            if tensor.num_bytes
        )
        self._element = 0
        self._files: list[StreamFile] = []
        with self._undo_on_error():
            folder.mkdir(parents=True, exist_ok=True)
            self._check_empty()
            self._check_room()

    def write(self, name: str, start: int, values: NDArray[Any] | memoryview | bytes) -> None:
        """Append elements of a tensor; nothing to write is allowed.

        Args:
            name: the announced tensor whose turn it is.
            start: index of its first element here: the one after the last written.
            values: C-contiguous elements in the announced dtype, little-endian (BF16 as any type of
                two bytes).

        Raises:
            StorageError: the disk is full or failed; everything written so far is removed.
        """
        if memoryview(values).nbytes == 0:
            return
        data = memoryview(values).cast("B")
        shard, tensor = self._todo[0]
        count, rest = divmod(len(data), tensor.item_bytes)
        assert (name, start, rest) == (tensor.name, self._element, 0), (name, start, tensor)
        assert start + count <= tensor.num_elements, f"{name} is longer than announced"
        with self._undo_on_error():
            self._file_of(shard).append(data)
        self._element += count
        if self._element == tensor.num_elements:
            self._todo.popleft()
            self._element = 0

    def finish(self) -> None:
        """Complete the folder: rename every file, the index last.

        Raises:
            StorageError: the disk is full or failed; everything written is removed.
        """
        assert not self._todo, f"{self._todo[0][1].name} is incomplete"
        with self._undo_on_error():
            self._file_of(self._shards[-1])
            if len(self._shards) > 1:
                self._files[-1].complete()
                self._files.append(StreamFile(self._folder / INDEX_NAME))
                self._files[-1].append(memoryview(index_text(self._shards).encode()))
            self._files[-1].complete()
            for file in self._files:
                file.publish()
            self._sync_folder()
        self._files.clear()

    def abort(self) -> None:
        """Remove everything that was written."""
        for file in self._files:
            file.discard()
        self._files.clear()
        self._todo.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.finish()
        else:
            self.abort()

    def _file_of(self, shard: Shard) -> StreamFile:
        while len(self._files) <= self._shards.index(shard):
            if self._files:
                self._files[-1].complete()
            opened = self._shards[len(self._files)]
            self._files.append(StreamFile(self._folder / opened.file_name))
            self._files[-1].append(memoryview(opened.header))
        return self._files[-1]

    def _check_empty(self) -> None:
        found = sorted(self._folder.glob(f"{self._stem}*.safetensors")) + sorted(
            self._folder.glob(INDEX_NAME)
        )
        if found:
            raise RunError(
                f"{self._folder} already holds a model ({found[0].name}); give another output "
                f"folder or remove its {SINGLE_NAME} or shards first."
            )

    def _check_room(self) -> None:
        needed_bytes = sum(shard.num_bytes for shard in self._shards)
        stat = os.statvfs(self._folder)
        free_bytes = stat.f_bavail * stat.f_frsize
        if needed_bytes > free_bytes:
            raise StorageError(
                f"Writing the model to {self._folder} takes {format_bytes(needed_bytes)}; "
                f"{format_bytes(free_bytes)} are free there."
            )

    @contextmanager
    def _undo_on_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.abort()
            raise StorageError(
                f"Writing the model to {self._folder} failed: {error.strerror}. "
                "What was written of it has been removed."
            ) from error
        except BaseException:
            self.abort()
            raise

    def _sync_folder(self) -> None:
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
