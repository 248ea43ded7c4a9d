"""Run one function in a fresh Python process, so that its memory is never the trainer's.

Arguments and result travel as JSON; a user's mistake found in the child is raised in the parent as
if it had happened there. The child runs `python -m outsize.isolate`, prints only to stderr, and
dies with its parent.
"""

import contextlib
import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from typing import Any

from outsize.errors import BudgetError, Contributor, OutsizeError, Remedy

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def run_isolated(function: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call `function(**arguments)` in its own process and return what it returns.

    Args:
        function: `module:name`; its arguments and its result, a dict, must be JSON.
        arguments: keyword arguments.

    Raises:
        OutsizeError: the function raised it (same class, message and numbers), or the process was
            killed.
        RuntimeError: the function failed in another way, which is a bug of ours; holds the child's
            traceback.

    Cost: one interpreter and whatever the function takes, beside this process, until it returns.
    """
    request = {"function": function, "arguments": arguments, "parent": os.getpid()}
    # -P: a file of the user's working folder must not shadow a module.
    command = [sys.executable, "-P", "-m", "outsize.isolate"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            answer, _ = child.communicate(json.dumps(request).encode())
        except BaseException:  # Ctrl-C above all: never leave the child behind
            child.kill()
            raise
    return _result(function, child.returncode, answer)


def _result(function: str, status: int, answer: bytes) -> dict[str, Any]:
    if status < 0:
        raise OutsizeError(_death(function, -status))
    if status == 130:
        raise KeyboardInterrupt
    if status != 0 or not answer:
        raise OutsizeError(f"The helper process for {function} ended early with status {status}.")
    reply = json.loads(answer)
    if "error" in reply:
        raise _to_error(reply["error"])
    if "bug" in reply:
        raise RuntimeError(f"{function} failed in its own process:\n{reply['bug']}")
    result: dict[str, Any] = reply["result"]
    return result


def _death(function: str, number: int) -> str:
    name = signal.Signals(number).name
    text = f"The helper process for {function} was killed by {name}."
    if number == signal.SIGKILL:
        text += (
            " The kernel does that when memory runs out: give the container or the machine more"
            " memory, or close other programs."
        )
    return text


def _from_error(error: OutsizeError) -> dict[str, Any]:
    body = error.to_json()
    if isinstance(error, BudgetError):
        body["subject"] = error.subject
    return body


def _to_error(body: dict[str, Any]) -> OutsizeError:
    if body["kind"] != BudgetError.kind:
        classes = {cls.kind: cls for cls in OutsizeError.__subclasses__()}
        return classes.get(body["kind"], OutsizeError)(body["message"])
    return BudgetError(
        body["subject"],
        needed_bytes=body["needed_bytes"],
        budget_bytes=body["budget_bytes"],
        tier=body["tier"],
        contributors=tuple(
            Contributor(role=c["role"], size_bytes=c["bytes"]) for c in body["contributors"]
        ),
        remedies=tuple(
            Remedy(change=r["change"], needed_bytes=r["needed_bytes"]) for r in body["remedies"]
        ),
    )


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    module, _, name = request["function"].partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
        return {"result": function(**request["arguments"])}
    except OutsizeError as error:
        return {"error": _from_error(error)}
    except Exception:
        return {"bug": traceback.format_exc()}


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:  # it died before the line above
        os.kill(os.getpid(), signal.SIGKILL)


def _main() -> int:
    # Whatever a library prints goes to stderr; the answer has the real stdout for itself.
    answer = os.dup(1)
    os.dup2(2, 1)
    with contextlib.suppress(KeyboardInterrupt):
        request = json.load(sys.stdin)
        _die_with(request["parent"])
        reply = json.dumps(_answer(request)).encode()
        with os.fdopen(answer, "wb") as stream:
            stream.write(reply)
        return 0
    return 130


if __name__ == "__main__":
    sys.exit(_main())
