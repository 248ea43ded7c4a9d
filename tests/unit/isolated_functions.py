"""What `test_isolate.py` calls in another process."""

import os
import signal
from typing import Any

from outsize.errors import BudgetError, Contributor, DataError, Remedy


def add(a: int, b: int) -> dict[str, Any]:
    print("this must not disturb the answer")
    return {"sum": a + b, "process": os.getpid()}


def refuse() -> dict[str, Any]:
    raise DataError("line 3 of data.jsonl is not JSON.")


def run_short() -> dict[str, Any]:
    raise BudgetError(
        "The import",
        needed_bytes=2048,
        budget_bytes=1024,
        tier="host",
        contributors=(Contributor(role="rows", size_bytes=2000),),
        remedies=(Remedy(change="--memory 2KiB", needed_bytes=2048),),
    )


def fail() -> dict[str, Any]:
    return {"quotient": 1 // 0}


def die(number: int) -> dict[str, Any]:
    os.kill(os.getpid(), number)
    return {}


def leave() -> dict[str, Any]:
    os._exit(7)


def interrupt() -> dict[str, Any]:
    # A shell that starts the tests in the background has the signal ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.kill(os.getpid(), signal.SIGINT)
    return {}


def parent_death_signal() -> dict[str, Any]:
    import ctypes

    number = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(number))
    return {"signal": number.value}
