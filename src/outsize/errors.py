"""Every mistake a user can make, as one exception tree.

A raised `OutsizeError` means: nothing was lost, nothing is half written, and the message says what
to do. The command line prints the message, puts `to_json()` on stdout and exits with `exit_code`.
Bugs of our own are not in here: they are assertions. Read `quantities.py` next.
"""

from dataclasses import dataclass

from outsize.quantities import format_bytes


class OutsizeError(Exception):
    """Base of all user-facing errors.

    Attributes:
        kind: stable machine-readable name of the error class.
        exit_code: what the command line exits with.
    """

    kind = "error"
    exit_code = 2

    def to_json(self) -> dict[str, object]:
        """Return the body of the `error` object that a verb prints as its last line."""
        return {"kind": self.kind, "message": str(self)}


class UsageError(OutsizeError):
    """An option that is unknown, contradictory or out of range."""

    kind = "usage"


class ModelError(OutsizeError):
    """A model that is unknown, not found, or of an architecture that is not supported."""

    kind = "model"


class FormatError(OutsizeError):
    """A model file that is damaged, truncated, hostile or does not match its config; names file and
    tensor.
    """

    kind = "format"


class DataError(OutsizeError):
    """Training data that is empty, malformed or wrongly shaped; names the file and the line."""

    kind = "data"


class StorageError(OutsizeError):
    """A disk that is full, fails, or returned bytes that do not match their checksum."""

    kind = "storage"


class RunError(OutsizeError):
    """An output folder that holds another run, or a run resumed with other options."""

    kind = "run"


class MachineError(OutsizeError):
    """A machine profile that is missing, damaged or cannot be written; names the file."""

    kind = "machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contributor:
    """One line of what a refused budget would have been spent on."""

    role: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """One change that was planned again and fits; `change` can be pasted after the command."""

    change: str
    needed_bytes: int


class BudgetError(OutsizeError):
    """A run that does not fit its budget, refused before anything large is allocated."""

    kind = "budget"

    def __init__(
        self,
        subject: str,
        *,
        needed_bytes: int,
        budget_bytes: int,
        tier: str,
        contributors: tuple[Contributor, ...] = (),
        remedies: tuple[Remedy, ...] = (),
    ) -> None:
        self.subject = subject
        self.needed_bytes = needed_bytes
        self.budget_bytes = budget_bytes
        self.tier = tier
        self.contributors = contributors
        self.remedies = remedies
        super().__init__(self._message())

    def _message(self) -> str:
        lines = [
            f"{self.subject} needs {format_bytes(self.needed_bytes)} on {self.tier}; "
            f"the budget is {format_bytes(self.budget_bytes)}."
        ]
        if self.contributors:
            parts = (f"{c.role} {format_bytes(c.size_bytes)}" for c in self.contributors)
            lines.append("  " + ", ".join(parts))
        if self.remedies:
            lines.append("Try one of:")
            width = max(len(r.change) for r in self.remedies)
            lines += [
                f"  {r.change:<{width}}  -> {format_bytes(r.needed_bytes)}" for r in self.remedies
            ]
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        """Return the error object with the numbers beside the message."""
        return {
            "kind": self.kind,
            "message": str(self),
            "needed_bytes": self.needed_bytes,
            "budget_bytes": self.budget_bytes,
            "tier": self.tier,
            "contributors": [{"role": c.role, "bytes": c.size_bytes} for c in self.contributors],
            "remedies": [
                {"change": r.change, "needed_bytes": r.needed_bytes} for r in self.remedies
            ],
        }
