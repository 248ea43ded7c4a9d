"""Draw what a run tells: live on a terminal, one plain line a step anywhere else.

Everything goes to stderr. The display is redrawn when an event arrives, by the caller's thread;
there is no other. The tables that close a verb are in `tables.py`, the lines of a step in
`lines.py`.
"""

import textwrap
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from outsize.quantities import format_seconds
from outsize.report.lines import live_step, phase_line, plain_step
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

_PLAIN_WIDTH = 100
_PADDING = 4
_LEAST_WIDTH = 20
"""Of text beside its label, however narrow the terminal."""


def make_console() -> Console:
    """Make the console for human lines: stderr; plain text when that is a file or a pipe."""
    console = Console(stderr=True, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    return console


class TerminalReporter:
    """Shows the events of one run.

    Attributes:
        console: where it draws.
        losses: the loss of every step so far.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or make_console()
        self.losses: list[float] = []
        self._phase: PhaseStarted | None = None
        self._last: StepFinished | None = None
        self._live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._clear()

    def on_event(self, event: Event) -> None:
        """Show one event."""
        match event:
            case PhaseStarted():
                self._phase = event
                self._draw(phase_line(event, 0))
            case PhaseAdvanced():
                if self._phase is not None:
                    self._draw(phase_line(self._phase, event.done))
            case PhaseFinished():
                self._phase = None
                self._clear()
                self._say(f"{event.phase:<10} {format_seconds(event.seconds):>12}", style="dim")
            case Planned():
                self._clear()
                self.console.print(rows_table(event.rows, self.console.width))
            case StepUnderWay(done_steps=done, num_steps=total, remaining_s=left):
                self._draw(live_step(done, total, left, self._last, self.losses))
            case StepFinished():
                self._step(event)
            case Evaluated():
                self._say(f"evaluation after step {event.step}: loss {event.loss:.4f}")
            case Notice():
                self._say(f"note: {event.text}")
            case TextGenerated():
                self.console.print(event.text, end="", markup=False, soft_wrap=True)
            case Committed():
                pass  # every step or so; the verb says at its end what is durable

    def _step(self, event: StepFinished) -> None:
        self.losses.append(event.loss)
        self._last = event
        if self.console.is_terminal:
            left = event.remaining_s
            self._draw(live_step(event.step, event.num_steps, left, event, self.losses))
        else:
            self._say(plain_step(event))

    def _draw(self, content: Table) -> None:
        if not self.console.is_terminal:
            return
        if self._live is None:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(content, refresh=True)

    def _clear(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _say(self, text: str, style: str = "") -> None:
        """Print a line; rich puts it above the live display when there is one."""
        self.console.print(text, style=style, markup=False, soft_wrap=True)


def rows_table(rows: tuple[tuple[str, str], ...], width: int) -> Table:
    """Lay out (label, text) rows in two calm columns.

    Args:
        rows: the rows; text breaks at spaces, never at the no-break ones that hold a number and its
            unit together (Rich takes those for spaces too).
        width: of the whole table, in columns of the terminal.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    room = width - _PADDING - max((len(label) for label, _ in rows), default=0)
    for label, text in rows:
        wrapped = textwrap.wrap(text, max(room, _LEAST_WIDTH), break_on_hyphens=False)
        # Not markup: a path may hold brackets.
        table.add_row(Text(label), Text("\n".join(wrapped)))
    return table
