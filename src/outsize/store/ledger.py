"""The account of one tier: everything large is acquired from it before it is used, and it never
over-commits.
"""

from outsize.errors import BudgetError, Contributor


class Ledger:
    """Bytes of one tier by role.

    Args:
        tier: its name, for messages.
        budget_bytes: what may be acquired in all.
    """

    def __init__(self, tier: str, budget_bytes: int) -> None:
        self.tier = tier
        self.budget_bytes = budget_bytes
        self._roles: dict[str, int] = {}

    @property
    def used_bytes(self) -> int:
        """Bytes acquired and not released."""
        return sum(self._roles.values())

    @property
    def free_bytes(self) -> int:
        """Bytes that can still be acquired."""
        return self.budget_bytes - self.used_bytes

    def acquire(self, role: str, size_bytes: int) -> None:
        """Take `size_bytes` for `role`.

        Raises:
            BudgetError: less is free; nothing was taken.
        """
        assert size_bytes >= 0
        if size_bytes > self.free_bytes:
            raise BudgetError(
                f"Acquiring {role}",
                needed_bytes=self.used_bytes + size_bytes,
                budget_bytes=self.budget_bytes,
                tier=self.tier,
                contributors=self.contributors(),
            )
        self._roles[role] = self._roles.get(role, 0) + size_bytes

    def release(self, role: str, size_bytes: int) -> None:
        """Give back what `role` acquired."""
        held = self._roles.get(role, 0)
        assert 0 <= size_bytes <= held, f"{role} holds {held} bytes, not {size_bytes}"
        self._roles[role] = held - size_bytes

    def contributors(self) -> tuple[Contributor, ...]:
        """Return what holds bytes, largest first."""
        held = sorted(self._roles.items(), key=lambda entry: -entry[1])
        return tuple(Contributor(role=role, size_bytes=size) for role, size in held if size)
