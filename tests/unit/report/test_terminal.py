import io

import pytest
from rich.console import Console

from outsize.report.sparkline import sparkline
from outsize.report.terminal import TerminalReporter, make_console, rows_table
from outsize.runtime.events import (
    Committed,
    Evaluated,
    Event,
    Notice,
    PhaseAdvanced,
    PhaseFinished,
    PhaseStarted,
    Planned,
    StepFinished,
    StepUnderWay,
    TextGenerated,
)

_GIB = 2**30


def _step(number: int) -> StepFinished:
    return StepFinished(
        step=number,
        num_steps=20,
        loss=3.5 - number / 10,
        gradient_norm=None,
        learning_rate=5e-5,
        num_tokens=4096,
        step_s=8.0,
        predicted_step_s=8.0,
        remaining_s=8.0 * (20 - number),
        host_bytes=_GIB - 2**25,
        budget_bytes=_GIB,
        bytes_read=2 * 10**9,
        bytes_written=10**9,
    )


_RUN: tuple[Event, ...] = (
    PhaseStarted(phase="import", total=2**30, unit="bytes"),
    PhaseAdvanced(phase="import", done=2**29),
    PhaseFinished(phase="import", seconds=4.2),
    PhaseStarted(phase="profile", total=None, unit="layers"),
    PhaseAdvanced(phase="profile", done=3),
    PhaseFinished(phase="profile", seconds=75.0),
    Planned(rows=(("resident", "12 of [32] layers"), ("limit", "compute"))),
    Notice(text="3 rows were [cut]."),
    StepUnderWay(done_steps=0.4, num_steps=20, remaining_s=150.0),
    _step(1),
    StepUnderWay(done_steps=1.5, num_steps=20, remaining_s=140.0),
    _step(2),
    Evaluated(step=2, loss=3.25),
    Committed(step=2),
    _step(3),
)


def _show(*, terminal: bool) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream,
        force_terminal=terminal,
        width=80,
        highlight=False,
        emoji=False,
        legacy_windows=False,
    )
    with TerminalReporter(console) as reporter:
        for event in _RUN:
            reporter.on_event(event)
    assert reporter.losses == pytest.approx([3.4, 3.3, 3.2])
    return stream.getvalue()


def test_a_file_gets_plain_lines_one_a_step() -> None:
    text = _show(terminal=False)
    assert "\x1b" not in text
    assert "\r" not in text
    lines = [line.rstrip() for line in text.splitlines()]
    assert lines == [
        "import           4.20 s",
        "profile          75.0 s",
        "resident  12 of [32] layers",
        "limit     compute",
        "note: 3 rows were [cut].",
        "step  1/20  loss 3.4000  512 tokens/s  memory 992 MiB  "
        "read 1.86 GiB  write 954 MiB  2 min 32 s left",
        "step  2/20  loss 3.3000  512 tokens/s  memory 992 MiB  "
        "read 1.86 GiB  write 954 MiB  2 min 24 s left",
        "evaluation after step 2: loss 3.2500",
        "step  3/20  loss 3.2000  512 tokens/s  memory 992 MiB  "
        "read 1.86 GiB  write 954 MiB  2 min 16 s left",
    ]


def test_a_terminal_gets_a_live_block_that_goes_away() -> None:
    text = _show(terminal=True)
    for part in (
        "512 MiB of 1.00 GiB",
        "3 layers",
        "0 of 20, 2 min 30 s left",
        "1 of 20, 2 min 20 s left",
        "3 of 20, 2 min 16 s left",
        "3.2000, 512 tokens/s",
        "992 MiB of 1.00 GiB",
        "250 MB/s read, 125 MB/s write",
        "8.00 s a step",
        sparkline([3.4, 3.3, 3.2], 3),
    ):
        assert part in text
    assert text.rindex("\x1b[2K") > text.rindex("8.00 s a step")  # the block was erased


def test_the_console_writes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    make_console().print("here")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "here\n")


def test_an_answer_is_shown_as_it_comes() -> None:
    console = Console(file=io.StringIO(), width=20)
    with TerminalReporter(console) as reporter:
        for piece in ("An [answer] that is", " longer than a line, ", "", "with a\nbreak"):
            reporter.on_event(TextGenerated(text=piece))
    text = console.file.getvalue()
    assert text == "An [answer] that is longer than a line, with a\nbreak"


def test_a_number_and_its_unit_stay_on_one_line() -> None:
    sizes = ", ".join(f"role {n} 2{n}7\N{NO-BREAK SPACE}MiB" for n in range(40))
    for width in (60, 81, 100):
        stream = io.StringIO()
        console = Console(file=stream, width=width, color_system=None)
        console.print(rows_table((("of that", sizes), ("a longer label", "x")), width))
        lines = [line.rstrip() for line in stream.getvalue().splitlines()]
        assert all(len(line) <= width for line in lines)
        assert not any(line.strip().startswith("MiB") for line in lines)
        assert sum(line.count("MiB") for line in lines) == 40
