"""The index of a sharded safetensors folder: which file holds which tensor.

It is read with the same care as a header; a shard outside the folder is refused. Read
`safetensors.py` next.
"""

from pathlib import Path

from outsize.errors import FormatError
from outsize.formats.json_scan import JsonScanner
from outsize.formats.ranged import RangedFile
from outsize.formats.safetensors_header import MAX_NAME_CHARS, MAX_TENSORS


def read_index(path: Path) -> dict[str, str]:
    """Return the shard's file name of every tensor in a `model.safetensors.index.json`.

    Raises:
        FormatError: the index is damaged or names a shard outside its folder.
    """
    file = RangedFile(path)
    try:
        scan = JsonScanner(file, 0, file.num_bytes)
        scan.expect(b"{")
        weight_map: dict[str, str] | None = None
        while not scan.accept(b"}"):
            key = scan.string()
            scan.expect(b":")
            if key == "weight_map" and weight_map is None:
                weight_map = _scan_weight_map(scan, path)
            else:
                scan.skip_value()
            if scan.peek() != b"}":
                scan.expect(b",")
        scan.finish()
    finally:
        file.close()
    if not weight_map:
        raise FormatError(f"{path} has no weight_map.")
    return weight_map


def _scan_weight_map(scan: JsonScanner, path: Path) -> dict[str, str]:
    weight_map: dict[str, str] = {}
    shards: dict[str, str] = {}
    scan.expect(b"{")
    while not scan.accept(b"}"):
        if weight_map:
            scan.expect(b",")
        name = scan.string(MAX_NAME_CHARS)
        scan.expect(b":")
        shard = scan.string(MAX_NAME_CHARS)
        if name in weight_map:
            raise FormatError(f"{path} names the tensor {name!r} twice.")
        if len(weight_map) == MAX_TENSORS:
            raise FormatError(f"{path} claims more than {MAX_TENSORS} tensors.")
        if Path(shard).name != shard or shard in ("", ".", ".."):
            raise FormatError(
                f"{path}: tensor {name!r} is said to be in {shard!r}, which is no file name."
            )
        weight_map[name] = shards.setdefault(shard, shard)
    return weight_map
