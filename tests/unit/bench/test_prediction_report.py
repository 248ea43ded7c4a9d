"""The report of `bench/prediction.py` counts what it says that it counts."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

MIB = 2**20


def load_report() -> ModuleType:
    """The module, which lies in no package."""
    path = Path(__file__).parents[3] / "bench" / "prediction_report.py"
    spec = importlib.util.spec_from_file_location("prediction_report", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ran(name: str) -> dict[str, Any]:
    result = {
        "predicted_peak_bytes": {"host": 500 * MIB},
        "measured_peak_bytes": {"host": 480 * MIB},
        "budget_bytes": {"host": 510 * MIB},
        "predicted_step_s": 1.1,
        **{f"{kind}bytes_{way}": MIB for kind in ("", "predicted_") for way in ("read", "written")},
    }
    return {"name": name, "budget": 510 * MIB, "step_s": 1.0, "result": result}


def test_cases_that_failed_or_never_ran_are_counted_as_such(tmp_path: Path) -> None:
    grid = ["a", "b", "c", "d", "e", "f"]
    found = {name: ran(name) for name in ("a", "b", "c")} | {
        "d": {"name": "d", "failed": {}},
        "forced 1 chosen": ran("forced 1 chosen"),
    }
    load_report().write_report(tmp_path / "report.md", found, grid, [["chosen"]])
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert "- 3 of 6 cases ran to their end; 1 failed, 2 were not run." in lines
    assert any("measured never above the budget in 3 of 3" in line for line in lines)


def test_plans_by_force_are_compared_over_all_rounds(tmp_path: Path) -> None:
    found = {
        f"forced {number} {name}": ran(name) | {"steps_s": [9.0, *steps]}
        for number, name, steps in (
            (1, "chosen", (1.0, 1.2)),
            (1, "other", (1.0, 1.0)),
            (2, "chosen", (1.1, 1.1)),
            (2, "other", (1.0, 1.0)),
        )
    }
    load_report().write_report(tmp_path / "report.md", found, [], [["chosen", "other", "not run"]])
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert "| chosen (chosen) | 510 MiB | 4 | 1.10 s | +10.0% |" in lines
    assert "| other | 510 MiB | 4 | 1.00 s | +0.0% |" in lines
    assert not any("not run |" in line for line in lines)
