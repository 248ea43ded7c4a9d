import json

from outsize.errors import BudgetError, Contributor, OutsizeError, Remedy, UsageError


def _refusal() -> BudgetError:
    return BudgetError(
        "Training tiny",
        needed_bytes=3 * 2**30,
        budget_bytes=2**30,
        tier="host",
        contributors=(
            Contributor(role="activations", size_bytes=2**31),
            Contributor(role="weights", size_bytes=2**30),
        ),
        remedies=(
            Remedy(change="--micro-batch-size 1", needed_bytes=2**29),
            Remedy(change="--memory 3GiB", needed_bytes=3 * 2**30),
        ),
    )


def test_a_budget_message_has_what_is_needed_of_what_and_what_helps() -> None:
    assert str(_refusal()) == (
        "Training tiny needs 3.00 GiB on host; the budget is 1.00 GiB.\n"
        "  activations 2.00 GiB, weights 1.00 GiB\n"
        "Try one of:\n"
        "  --micro-batch-size 1  -> 512 MiB\n"
        "  --memory 3GiB         -> 3.00 GiB"
    )


def test_a_budget_error_without_details_is_one_line() -> None:
    error = BudgetError("The import", needed_bytes=2048, budget_bytes=1024, tier="disk")
    assert str(error) == "The import needs 2.00 KiB on disk; the budget is 1.00 KiB."


def test_the_json_of_a_budget_error_has_its_numbers() -> None:
    body = json.loads(json.dumps(_refusal().to_json()))
    assert body["kind"] == "budget"
    assert (body["needed_bytes"], body["budget_bytes"], body["tier"]) == (3 * 2**30, 2**30, "host")
    assert body["remedies"][0] == {"change": "--micro-batch-size 1", "needed_bytes": 2**29}
    assert body["contributors"][1] == {"role": "weights", "bytes": 2**30}


def test_every_kind_is_its_own_and_exits_with_2() -> None:
    kinds = [cls.kind for cls in OutsizeError.__subclasses__()]
    assert len(set(kinds)) == len(kinds)
    assert "error" not in kinds
    assert all(cls.exit_code == 2 for cls in OutsizeError.__subclasses__())


def test_other_errors_are_their_message() -> None:
    assert UsageError("no").to_json() == {"kind": "usage", "message": "no"}
