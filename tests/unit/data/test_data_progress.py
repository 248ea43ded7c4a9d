import io

from outsize.train.data.progress import Progress


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_file_gets_a_line_every_ten_seconds_with_the_time_left():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(stream, 4 * 2**20, clock)
    for clock.now_s in range(21):
        progress.advance(2**20, num_records=1234)
    line = "tokenising: 1,234 records, 1.00 MiB of 4.00 MiB, {} left\n"
    assert stream.getvalue() == line.format("30.0 s") + line.format("60.0 s")


def test_a_terminal_gets_one_line_that_is_overwritten():
    clock, stream = Clock(), Terminal()
    progress = Progress(stream, None, clock)
    clock.now_s = 1
    progress.advance(0, num_records=2)
    progress.finish(["done"])
    assert stream.getvalue() == "\r\x1b[Ktokenising: 2 records\r\x1b[Kdone\n"
