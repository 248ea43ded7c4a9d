"""The child process of `child.py`: options from the argument, the result on stdout's last line.

Transformers imports PyTorch wherever it finds it. A tokenizer needs none of it, and without it this
process takes 130 MB instead of 320 MB, so here it is not to be found.
"""

import json
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from outsize.errors import OutsizeError
from outsize.train.data.prepare import prepare_data


def main(argument: str) -> int:
    """Prepare data as the JSON object `argument` says, print the result, return the exit code."""
    try:
        result = prepare_data(**json.loads(argument))
    except OutsizeError as error:
        print(json.dumps({"error": error.to_json()}))
        return error.exit_code
    print(json.dumps(result))
    return 0


class _PathFinderWithoutTorch(PathFinder):
    """Finds installed modules as ever, except one.

    A None in `sys.modules` would do for Transformers, but `datasets` takes it for a loaded module.
    """

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return None if fullname == "torch" else super().find_spec(fullname, path, target)


def hide_torch() -> None:
    """Let PyTorch be found nowhere, and Transformers not remark on it."""
    assert "torch" not in sys.modules
    sys.meta_path[sys.meta_path.index(PathFinder)] = _PathFinderWithoutTorch
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"


if __name__ == "__main__":
    hide_torch()
    sys.exit(main(sys.argv[1]))
