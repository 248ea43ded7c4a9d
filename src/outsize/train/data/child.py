"""`prepare_data` in a process of its own.

Libraries that tokenise and read tables take hundreds of MB and never give them back; here they end
with the process. A tokenizer needs no PyTorch, but Transformers imports it wherever it finds it;
without it the process takes 130 MB instead of 320 MB, so there it is not to be found.
"""

import dataclasses
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from outsize.isolate import run_isolated
from outsize.train.data.options import DataOptions


def prepare_in_child(options: DataOptions) -> dict[str, Any]:
    """Run `prepare_data` with `options` in a child process and return its result.

    Raises:
        OutsizeError: as `prepare_data`, or the child was killed.

    Cost: about 130 MB in the child (more for Hub data sets) until it ends, nothing here.
    """
    return run_isolated(
        "outsize.train.data.child:prepare_without_torch", dataclasses.asdict(options)
    )


def prepare_without_torch(**options: Any) -> dict[str, Any]:
    """Run `prepare_data` in this process, which must not have imported PyTorch."""
    hide_torch()
    from outsize.train.data.prepare import prepare_data

    return prepare_data(**options)


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
