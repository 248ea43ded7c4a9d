"""Train, fine-tune and run PyTorch models bigger than memory, inside a budget that holds.

The verbs are `train`, `plan`, `verify`, `export`, `merge`, `generate`, `probe` and `machines`; each
returns an object with the fields of the command line's JSON (`results.py`). Importing this module
imports no torch. Read `functions.py` next.
"""

import inspect
import types
from collections.abc import Callable
from typing import Any

from outsize import functions
from outsize import machines as _machines_package
from outsize import plan as _plan_package
from outsize import probe as _probe_package
from outsize import train as _train_package
from outsize.errors import BudgetError, OutsizeError
from outsize.functions import export, generate, merge, verify

__version__ = "0.1.0"

__all__ = [
    "BudgetError",
    "OutsizeError",
    "__version__",
    "export",
    "generate",
    "machines",
    "merge",
    "plan",
    "probe",
    "train",
    "verify",
]


def _callable_package(package: types.ModuleType, verb: Callable[..., Any]) -> types.ModuleType:
    """Let a subpackage be called as the verb of its name.

    `outsize.train` is the package that `outsize.train.options` lives in, and Python binds it there
    whenever one of its modules is imported; so the package itself answers the call.
    """
    members = {"__call__": staticmethod(verb), "__doc__": verb.__doc__}
    package.__class__ = type("CallablePackage", (types.ModuleType,), members)
    vars(package)["__signature__"] = inspect.signature(verb)
    return package


machines = _callable_package(_machines_package, functions.machines)
plan = _callable_package(_plan_package, functions.plan)
probe = _callable_package(_probe_package, functions.probe)
train = _callable_package(_train_package, functions.train)
