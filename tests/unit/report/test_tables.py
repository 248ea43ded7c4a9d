from dataclasses import replace

from rich.console import Console

from outsize.environment import EnvironmentResult
from outsize.report.tables import show_environment, show_train, show_verify
from outsize.results import TierBytes, TrainResult, VerifyCase, VerifyResult

_GIB = 2**30

_RESULT = TrainResult(
    model="m",
    steps=20,
    tokens=81920,
    loss_first=3.5,
    loss_last=3.0,
    evaluation_loss=3.25,
    tokens_per_s=480.0,
    budget_bytes=TierBytes(host=_GIB, disk=8 * _GIB),
    predicted_peak_bytes=TierBytes(host=_GIB - 2**24, disk=2 * _GIB),
    measured_peak_bytes=TierBytes(host=_GIB - 2**25, disk=2 * _GIB),
    predicted_step_s=8.0,
    measured_step_s=8.5,
    predicted_exposed_io_s=0.25,
    exposed_io_s=0.5,
    predicted_bytes_read=4 * _GIB,
    predicted_bytes_written=3 * _GIB,
    bytes_read=5 * _GIB,
    bytes_written=3 * _GIB,
    limited_by="compute",
    output="runs/m",
    resumed_from=None,
    interrupted=False,
    seconds=200.0,
)


def _console() -> Console:
    return Console(record=True, width=80, highlight=False, quiet=False, file=_Nowhere())


class _Nowhere:
    """A stream that keeps nothing; the console records."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        return None


def _lines(console: Console) -> list[str]:
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_predictions_stand_beside_measurements() -> None:
    console = _console()
    show_train(console, _RESULT, [3.5, 3.0])
    assert _lines(console) == [
        "",
        "               predicted  measured    budget",
        "host peak       0.98 GiB   992 MiB  1.00 GiB",
        "disk peak       2.00 GiB  2.00 GiB  8.00 GiB",
        "step time         8.00 s    8.50 s",
        "exposed I/O       0.25 s    0.50 s",
        "bytes read      4.00 GiB  5.00 GiB",
        "bytes written   3.00 GiB  3.00 GiB",
        "tokens/s             512       480",
        "",
        "loss    3.5000 to 3.0000, evaluation 3.2500  █▁",
        "steps   20, 81,920 tokens",
        "time    3 min 20 s",
        "limit   compute decides the time of a step",
        "output  runs/m",
    ]


def test_a_resumed_run_counts_its_own_steps() -> None:
    console = _console()
    show_train(console, replace(_RESULT, resumed_from=10, tokens=40960), [])
    lines = _lines(console)
    assert "tokens/s             512       480" in lines
    assert "steps   20, 40,960 tokens, resumed after 10" in lines


def test_verify_shows_every_difference() -> None:
    case = VerifyCase(
        dtype="bfloat16",
        clip=False,
        accumulation=4,
        max_difference_weights=1e-7,
        max_difference_exp_avg=0.0,
        max_difference_exp_avg_sq=0.0,
        max_difference_losses=float("nan"),
        streamed_peak_bytes=2**30,
        plain_peak_bytes=5 * 2**30,
    )
    result = VerifyResult(
        model="m",
        steps=5,
        num_layers=2,
        num_layers_model=30,
        num_elements=12345,
        budget_bytes=TierBytes(host=_GIB, disk=_GIB),
        cases=(case,),
        seconds=1.0,
    )
    console = _console()
    show_verify(console, result)
    text = "\n".join(_lines(console))
    assert "bfloat16    no      4    1e-07        0           0     nan     NO" in text
    assert "12,345 parameters in 2 layers of 30, 5 steps: DIFFERENT from plain PyTorch." in text
    assert "Host peak 1.00 GiB of 1.00 GiB; plain PyTorch 5.00 GiB." in text


def test_the_environment_fits_the_screen() -> None:
    result = EnvironmentResult(
        versions={"outsize": "0.1.0", "torch": None},
        python="3.11.0",
        system="Linux",
        processor="Fast One",
        num_cores=8,
        num_usable_cores=2,
        memory_bytes=16 * _GIB,
        memory_free_bytes=8 * _GIB,
        memory_limit_bytes=_GIB,
        folder="/a",
        file_system=None,
        disk_free_bytes=_GIB,
        direct_io=False,
        devices=("Big GPU",),
    )
    console = _console()
    show_environment(console, result)
    lines = _lines(console)
    assert "processor   Fast One, 2 of 8 cores" in lines
    assert "container   limit 1.00 GiB" in lines
    assert "direct I/O  does not work" in lines
    assert "device      Big GPU" in lines
    assert "torch       not installed" in lines
