"""The line that renews itself, and the meter of a download."""

import io

from served import is_whole

from minimask import meter
from minimask.data import fetch


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_the_meter_on_a_terminal_renews_one_line():
    stream, clock = Terminal(), Clock()
    told = meter.Meter(stream, clock=clock)
    told.start("x.gz", 10_000_000, 0)
    clock.now += 2
    told.at(4_000_000)
    clock.now += 0.05
    told.at(4_100_000)  # too soon to be worth a line
    told.at(10_000_000)
    told.stop()
    lines = stream.getvalue().split("\r")
    assert lines[1] == "x.gz · 4.0 MB of 10.0 MB · 40% · 2,000 kB/s · 3 s to go\x1b[K"
    assert lines[2].startswith("x.gz · 10.0 MB of 10.0 MB · 100%") and lines[2].endswith("\x1b[K\n") and len(lines) == 3


def test_the_meter_in_a_log_writes_plain_lines_now_and_then():
    stream, clock = io.StringIO(), Clock()
    told = meter.Meter(stream, pause=10, clock=clock)
    told.start("x.gz", None, 1_000_000)
    for count in range(25):
        clock.now += 1
        told.at(1_000_000 + 100_000 * (count + 1))
    told.stop()
    assert stream.getvalue().splitlines() == ["x.gz · 2.0 MB · 100 kB/s", "x.gz · 3.0 MB · 100 kB/s"]


def test_nobody_who_listens_is_no_reason_to_end_a_download(mnist, tmp_path, patience):
    stream = Terminal()
    stream.close = lambda: None
    stream.write = lambda _: (_ for _ in ()).throw(BrokenPipeError(32, "Broken pipe"))
    fetch.fetch("mnist", tmp_path, patience=patience, meter=meter.Meter(stream))
    is_whole(tmp_path, "mnist", mnist)
