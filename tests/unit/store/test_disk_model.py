"""Random transfers over random extents, compared with a dictionary of bytes."""

import mmap
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outsize.store.disk import DiskStore
from outsize.store.store import Extent

PAGE = 4096


@st.composite
def layouts(draw):
    extents, offset_bytes = [], 0
    for number in range(draw(st.integers(1, 4))):
        offset_bytes += PAGE * draw(st.integers(0, 2))
        size_bytes = PAGE * draw(st.integers(1, 9))
        extents.append(Extent(name=str(number), offset_bytes=offset_bytes, size_bytes=size_bytes))
        offset_bytes += size_bytes
    return extents


@st.composite
def scripts(draw):
    extents = draw(layouts())
    step = st.tuples(
        st.sampled_from(["write", "read", "reopen"]),
        st.sampled_from(extents),
        st.integers(1, 9),
        st.integers(0, 255),
    )
    return extents, draw(st.lists(step, max_size=15))


def run_step(store, model, step):
    action, extent, num_pages, fill = step
    size_bytes = min(num_pages * PAGE, extent.size_bytes)
    content, checksum = model[extent.name]
    with mmap.mmap(-1, size_bytes) as memory, memoryview(memory) as buffer:
        if action == "write":
            buffer[:] = bytes((fill + index // 512) % 256 for index in range(size_bytes))
            checksum = store.start_write(extent.name, buffer, want_checksum=True).wait().checksum
            model[extent.name] = (bytes(buffer) + content[size_bytes:], (size_bytes, checksum))
        else:
            known = checksum[1] if checksum is not None and checksum[0] == size_bytes else None
            store.start_read(extent.name, buffer, known).wait()
            assert bytes(buffer) == content[:size_bytes]


@settings(max_examples=30, deadline=None)
@given(scripts())
def test_the_store_behaves_like_a_dictionary_of_bytes(script):
    extents, steps = script
    model = {extent.name: (bytes(extent.size_bytes), None) for extent in extents}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("outsize.store.transfer.PIECE_BYTES", 2 * PAGE)
        patch.setattr("outsize.store.transfer.BLOCK_BYTES", PAGE)
        path = Path(folder) / "state.bin"
        store = DiskStore(path, extents, create=True, notice=str)
        for step in steps:
            if step[0] == "reopen":
                store.close()
                store = DiskStore(path, extents, create=False, notice=str)
            else:
                run_step(store, model, step)
        store.close()
        content = path.read_bytes()
    for extent in extents:
        end_bytes = extent.offset_bytes + extent.size_bytes
        assert content[extent.offset_bytes : end_bytes] == model[extent.name][0]
