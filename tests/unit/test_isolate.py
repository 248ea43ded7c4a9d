import os
import signal
from pathlib import Path

import pytest

import outsize
from outsize.errors import BudgetError, DataError, OutsizeError
from outsize.isolate import run_isolated


@pytest.fixture(autouse=True)
def _functions_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [Path(__file__).parent, Path(outsize.__file__).parents[1]]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(folder) for folder in folders))


def test_the_result_comes_from_another_process_and_prints_do_not_disturb_it() -> None:
    result = run_isolated("isolated_functions:add", {"a": 2, "b": 3})
    assert result["sum"] == 5
    assert result["process"] != os.getpid()


def test_a_mistake_found_in_the_child_is_raised_as_itself() -> None:
    with pytest.raises(DataError, match=r"^line 3 of data.jsonl is not JSON\.$"):
        run_isolated("isolated_functions:refuse", {})


def test_a_refused_budget_keeps_its_numbers() -> None:
    with pytest.raises(BudgetError, match=r"needs 2.00 KiB on host") as caught:
        run_isolated("isolated_functions:run_short", {})
    assert caught.value.needed_bytes == 2048
    assert caught.value.contributors[0].role == "rows"
    assert caught.value.remedies[0].change == "--memory 2KiB"


def test_a_bug_in_the_child_is_no_mistake_of_the_user() -> None:
    with pytest.raises(RuntimeError, match=r"ZeroDivisionError"):
        run_isolated("isolated_functions:fail", {})


def test_a_killed_child_says_that_memory_may_have_run_out() -> None:
    with pytest.raises(OutsizeError, match=r"was killed by SIGKILL\. .*memory runs out"):
        run_isolated("isolated_functions:die", {"number": int(signal.SIGKILL)})


def test_a_crashed_child_names_the_signal() -> None:
    with pytest.raises(OutsizeError, match=r"isolated_functions:die was killed by SIGTERM\.$"):
        run_isolated("isolated_functions:die", {"number": int(signal.SIGTERM)})


def test_a_child_that_leaves_without_an_answer_is_noticed() -> None:
    with pytest.raises(OutsizeError, match=r"ended early with status 7"):
        run_isolated("isolated_functions:leave", {})


def test_an_interrupted_child_interrupts_the_parent() -> None:
    with pytest.raises(KeyboardInterrupt):
        run_isolated("isolated_functions:interrupt", {})


def test_the_child_dies_with_its_parent() -> None:
    assert run_isolated("isolated_functions:parent_death_signal", {}) == {"signal": signal.SIGKILL}


def test_the_working_folder_cannot_shadow_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise ImportError('shadowed')")
    monkeypatch.chdir(tmp_path)
    assert run_isolated("isolated_functions:add", {"a": 1, "b": 1})["sum"] == 2
