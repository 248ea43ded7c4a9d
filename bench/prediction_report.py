"""The report of `prediction.py`: one line a case, and the verdicts with their counts."""

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

MIB = 2**20


def write_report(
    path: Path,
    found: Mapping[str, dict],
    grid: Sequence[str],
    groups: Sequence[Sequence[str]],
) -> None:
    """Write the tables and the counts behind them."""
    done = [found[name] for name in grid if name in found]
    good = [record for record in done if "result" in record]
    lines = [
        "# Predicted beside measured",
        "",
        f"`python bench/prediction.py` on {platform.machine()}, {os.cpu_count()} cores. Each case "
        "is its own process of four steps; step time is the median after the first one. Budgets "
        "lie between the smallest that the planner names (0) and everything in memory (1).",
        "",
        *_verdicts(good, len(grid), len(grid) - len(done)),
        "",
        *_table(good),
        "",
        *_forced(found, groups),
        "",
        *_least(found),
    ]
    path.write_text("\n".join(lines) + "\n")


def _host_ratio(record: dict) -> float:
    result = record["result"]
    return result["predicted_peak_bytes"]["host"] / result["measured_peak_bytes"]["host"]


def _time_error(record: dict) -> float:
    return record["result"]["predicted_step_s"] / record["step_s"] - 1


def _bytes_exact(record: dict) -> bool:
    result = record["result"]
    return all(result[f"predicted_{key}"] == result[key] for key in ("bytes_read", "bytes_written"))


def _verdicts(good: Sequence[dict], num_cases: int, num_missing: int) -> list[str]:
    ratios = [_host_ratio(record) for record in good]
    errors = [abs(_time_error(record)) for record in good]
    inside = sum(
        r["result"]["measured_peak_bytes"]["host"] <= r["result"]["budget_bytes"]["host"]
        for r in good
    )

    def share(count: int) -> str:
        return f"{count} of {len(good)}"

    return [
        f"- {len(good)} of {num_cases} cases ran to their end; "
        f"{num_cases - num_missing - len(good)} failed, {num_missing} were not run.",
        f"- Host peak: measured never above the budget in {share(inside)}, never above the "
        f"prediction in {share(sum(r >= 1 for r in ratios))}; predicted at most 10 % above "
        f"measured in {share(sum(r <= 1.1 for r in ratios))}, at most 20 % in "
        f"{share(sum(r <= 1.2 for r in ratios))}; largest {max(ratios, default=0):.3f}.",
        f"- Bytes read and written: exactly as predicted in {share(sum(map(_bytes_exact, good)))}.",
        f"- Step time: within 15 % in {share(sum(e <= 0.15 for e in errors))}, within 30 % in "
        f"{share(sum(e <= 0.3 for e in errors))}; largest {max(errors, default=0):.1%}.",
    ]


def _table(good: Sequence[dict]) -> list[str]:
    lines = [
        "| case | budget | host predicted | measured | ratio | step predicted | measured | error | "
        "read | written | bytes exact |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for record in good:
        result = record["result"]
        predicted, measured = result["predicted_peak_bytes"], result["measured_peak_bytes"]
        lines.append(
            f"| {record['name']} | {record['budget'] // MIB} MiB | {predicted['host'] // MIB} | "
            f"{measured['host'] // MIB} | {_host_ratio(record):.3f} | "
            f"{result['predicted_step_s']:.2f} s | {record['step_s']:.2f} s | "
            f"{_time_error(record):+.1%} | {result['bytes_read'] // MIB} MiB | "
            f"{result['bytes_written'] // MIB} MiB | {'yes' if _bytes_exact(record) else 'NO'} |"
        )
    return lines


def _forced(found: Mapping[str, dict], groups: Sequence[Sequence[str]]) -> list[str]:
    lines = [
        "## The chosen plan against all others by force",
        "",
        "All plans of a group run in turn at the same budget; the median of all steps but the "
        "first of each run.",
        "",
        "| case | budget | steps | step | against the best |",
        "| --- | --- | --- | --- | --- |",
    ]
    for group in groups:
        steps = {name: _forced_steps(found, name) for name in group}
        medians = {name: statistics.median(s) for name, s in steps.items() if s}
        for name, step_s in medians.items():
            mark = " (chosen)" if name == group[0] else ""
            budget = found[f"forced 1 {name}"]["budget"] // MIB
            lines.append(
                f"| {name}{mark} | {budget} MiB | {len(steps[name])} | {step_s:.2f} s | "
                f"{step_s / min(medians.values()) - 1:+.1%} |"
            )
    return lines


def _forced_steps(found: Mapping[str, dict], name: str) -> list[float]:
    """Return the seconds of all steps but the first one of each run of a case by force."""
    records = [r for key, r in found.items() if key.startswith("forced ") and key[9:] == name]
    return [seconds for r in records for seconds in r.get("steps_s", [])[1:]]


def _least(found: Mapping[str, dict]) -> list[str]:
    lines = [
        "## The smallest budget, and five percent less",
        "",
        "| case | smallest | ran | measured | 5 % less: exit, peak, said to need |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, record in found.items():
        if not name.startswith("least "):
            continue
        ran = "result" in record
        measured = record["result"]["measured_peak_bytes"]["host"] // MIB if ran else 0
        needed = record["less_needed"]
        lines.append(
            f"| {name.removeprefix('least ')} | {record['least'] // MIB} MiB | "
            f"{'yes' if ran else 'NO'} | {measured} MiB | {record['less_exit']}, "
            f"{record['less_peak'] // MIB} MiB, {'-' if needed is None else needed // MIB} MiB |"
        )
    return lines
