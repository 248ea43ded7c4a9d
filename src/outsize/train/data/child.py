"""`prepare_data` in a process of its own.

Libraries that tokenise and read tables take hundreds of MB and never give them back; here they end
with the process. Options go there as one JSON argument, the result comes back as the last line of
stdout, what is said on stderr goes to the terminal as it is.
"""

import dataclasses
import json
import subprocess
import sys
from typing import Any

from outsize.errors import DataError, OutsizeError, StorageError, UsageError
from outsize.train.data.options import DataOptions

_ERRORS: dict[str, type[OutsizeError]] = {
    error.kind: error for error in (DataError, StorageError, UsageError)
}


def prepare_in_child(options: DataOptions) -> dict[str, Any]:
    """Run `prepare_data` with `options` in a child process and return its result.

    Raises:
        UsageError: as `prepare_data`.
        DataError: as `prepare_data`, or the child was killed.
        StorageError: as `prepare_data`.

    Cost: about 130 MB in the child (more for Hub data sets) until it ends, nothing here.
    """
    argument = json.dumps(dataclasses.asdict(options))
    command = [sys.executable, "-m", "outsize.train.data", argument]
    child = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if child.returncode < 0:
        raise DataError(
            f"Preparing {options.data} was ended by signal {-child.returncode}; if that is 9, the "
            "machine or the container had no memory left for it."
        )
    lines = child.stdout.decode().splitlines()
    if not lines:
        raise RuntimeError(f"preparing the data exited with {child.returncode} and said nothing")
    result: dict[str, Any] = json.loads(lines[-1])
    if "error" in result:
        raise _ERRORS[result["error"]["kind"]](result["error"]["message"])
    return result
