"""The bench's arithmetic, its table and its sinks; no time is asserted."""

from __future__ import annotations

import importlib.util
import json
import smtplib
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench import __main__ as bench
from bench import report
from bench.burst import Burst
from bench.events import request
from bench.measures import bursts
from bench.ratios import Row, Spread, at_least, at_most, paired, shown, stated
from bench.sink import postfix
from bench.sink.connection import Connection, Manner


def test_a_spread_is_median_lowest_and_highest() -> None:
    assert Spread.of([3, 9, 1]) == Spread(3, 1, 9)


def test_ratios_are_taken_repetition_by_repetition() -> None:
    assert paired([10, 40, 90], [10, 20, 30]) == Spread(2, 1, 3)


def test_a_measure_that_was_not_taken_as_often_has_no_ratio() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired([1, 2], [1])


@pytest.mark.parametrize(
    ("row", "goal", "met", "missed_by"),
    [
        (at_least("m", 5, Spread(5, 4, 6), "f"), "at least 5 times", True, 0),
        (at_least("m", 5, Spread(4, 3, 9), "f"), "at least 5 times", False, 0.2),
        (at_most("m", 0.2, Spread(0.2, 0.1, 0.9), "f"), "at most 0.2 times", True, 0),
        (at_most("m", 2.5, Spread(5, 1, 6), "f", unit="KB"), "at most 2.5 KB", False, 1),
        (stated("m", Spread(7, 7, 7), "f"), "", True, 0),
    ],
)
def test_the_median_meets_a_goal_or_misses_it_by_a_share(row: Row, goal: str, met: bool, missed_by: float) -> None:
    assert (row.goal, row.met) == (goal, met)
    assert row.missed_by == pytest.approx(missed_by)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.000123, "0.000123"), (0.0123, "0.0123"), (1.2345, "1.23"), (1234.5, "1,234")]
)
def test_figures_have_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert shown(value) == text


def test_the_table_shows_each_row_beside_its_goal() -> None:
    rows = [
        at_least("bursts", 5, Spread(4, 3, 9), "(f) 40, (b) 10 events/s", note="12 spooled"),
        at_most("hook", 2, Spread(1.5, 1, 2), "0.3 ms"),
        stated("scaling", Spread(2, 2, 2), "100 against 50"),
    ]
    assert report.table(rows).splitlines()[2:] == [
        "| bursts | at least 5 times | 4 (3..9) times | missed by 20% | (f) 40, (b) 10 events/s; 12 spooled |",
        "| hook | at most 2 times | 1.5 (1..2) times | met | 0.3 ms |",
        "| scaling | stated | 2 (2..2) times |  | 100 against 50 |",
    ]


@pytest.mark.parametrize("name", ["goals", *bench.TABLES])
def test_the_document_has_a_place_for_each_table(name: str) -> None:
    document = report.DOCUMENT.read_text("utf-8")
    written = report.put(document, name, "one\n")
    assert written == report.put(report.put(document, name, "another"), name, "one")
    assert written.count("\n\none\n\n<!-- end of bench") == 1


def test_a_document_without_markers_is_not_written() -> None:
    with pytest.raises(ValueError, match="lacks"):
        report.put("# Performance\n", "goals", "table")


@pytest.mark.parametrize("module", [*bench.MEASURES.values(), *bench.TABLES.values()])
def test_each_measure_is_a_module(module: str) -> None:
    assert importlib.util.find_spec(module)


def test_a_burst_owns_up_to_what_went_wrong() -> None:
    assert Burst(10, 2, 0.5, 0.5, 0, {"accepted": 10}).strays == ""
    assert Burst(10, 2, 0.5, 0.5, 1, {"accepted": 8, "spooled": 2}).strays == "2 spooled, 1 mails twice"


def test_costs_are_counted_for_each_thousand_events() -> None:
    burst = Burst(2_000, 4, 3, 1, 0)
    assert (burst.rate, burst.cpu) == (500, 2)
    assert replace(burst, redis_cpu=1).cpu_with_redis == 2.5


def test_costs_by_cpu_are_those_of_whoever_sends() -> None:
    assert Burst(100, 1, 0.5, 9, 0).rate_of_cpu == 200
    assert Burst(100, 1, 0, 0.25, 0).rate_of_cpu == 400


def test_a_request_can_be_told_by_its_recipient_and_has_the_size_asked_for() -> None:
    fields = request(7, payload=1024)
    assert fields["email_to"] == f"{fields['request_id']}@bench.example"
    assert len(json.dumps(fields)) == 1024


def test_bursts_are_compared_as_the_goals_say() -> None:
    rates = {"a": 500, "b": 100, "c": 400, "d": 1_000, "e": 1_000, "f": 900, "g": 300}
    cpu = {letter: 1_000 / rate for letter, rate in rates.items()}
    plain = {letter: [Burst(1_000, 1_000 / rate, cpu[letter], 0, 0)] for letter, rate in rates.items()}
    plain["f"] = [replace(plain["f"][0], receipts={"accepted": 999, "spooled": 1})]
    rows = bursts.compared(plain, {letter: plain[letter] for letter in "bf"}, 1_000, 100)
    assert [(row.goal, row.ratio.median, row.met) for row in rows] == [
        ("at least 5 times", pytest.approx(9), True),
        ("at least 2.5 times", pytest.approx(2.25), False),
        ("at least 0.9 times", pytest.approx(0.9), True),
        ("at least 0.9 times", pytest.approx(0.9), True),
        ("at most 0.2 times", pytest.approx(1 / 9), True),
        ("at least 8 times", pytest.approx(9), True),
        ("", pytest.approx(0.9), True),
        ("", pytest.approx(3), True),
    ]
    assert rows[0].note == "1 spooled"


@pytest.fixture
def sink() -> Iterator[tuple[socket.socket, list[str]]]:
    """The client's end of a session with the sink, and what the sink keeps."""
    client, server = socket.socketpair()
    kept: list[str] = []
    thread = threading.Thread(target=_serve, args=(Connection(server, Manner(), kept.append),))
    thread.start()
    with client:
        yield client, kept
    thread.join(10)


def _serve(connection: Connection) -> None:
    try:
        connection.serve()
    except ConnectionError:
        return


def test_the_sink_keeps_whom_each_mail_was_for(sink: tuple[socket.socket, list[str]]) -> None:
    client, kept = sink

    class Client(smtplib.SMTP):
        def _get_socket(self, *_: object) -> socket.socket:  # type: ignore[override]
            return client

    with Client("sink") as smtp:
        for name in ("one", "two"):
            smtp.sendmail("a@bench.example", f"{name}@bench.example", "Subject: x\r\n\r\n.\r\n..\r\n")
    assert kept == ["one", "two"]


def test_commands_that_come_together_are_answered_together(sink: tuple[socket.socket, list[str]]) -> None:
    client, kept = sink
    client.sendall(b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<one@b.example>\r\nDATA\r\nhello\r\n.\r\nQUIT\r\n")
    replies = b""
    while chunk := client.recv(65_536):
        replies += chunk
    assert [line[:3] for line in replies.split(b"\r\n") if line[3:4] == b" "] == [
        b"220", b"250", b"250", b"250", b"354", b"250", b"221",
    ]  # fmt: skip
    assert kept == ["one"]


@pytest.fixture
def smtp_sink() -> Iterator[postfix.PostfixSink]:
    if not postfix.installed():
        pytest.skip("Postfix's smtp-sink is not installed")
    sink = postfix.PostfixSink()
    yield sink
    sink.stop()


def _connect(sink: postfix.PostfixSink) -> smtplib.SMTP:
    return smtplib.SMTP(sink.settings["SMTP_HOST"], int(sink.settings["SMTP_PORT"]))


def test_smtp_sink_tells_whose_mail_came_as_soon_as_it_is_accepted(smtp_sink: postfix.PostfixSink) -> None:
    with _connect(smtp_sink) as smtp:
        smtp.ehlo()
        assert smtp.has_extn("pipelining")
        for number, name in enumerate(("one", "two", "one"), start=1):
            smtp.sendmail("a@bench.example", f"{name}@bench.example", f"Subject: x\r\n\r\n{'text ' * 3_000}\r\n")
            assert smtp_sink.accepted() == number
    assert smtp_sink.recipients() == 2
    arrivals = smtp_sink.arrivals()
    assert set(arrivals) == {"one", "two"}
    assert smtp_sink.wait_for(2, within=1) == max(arrivals.values())


def test_smtp_sink_forgets(smtp_sink: postfix.PostfixSink) -> None:
    with _connect(smtp_sink) as smtp:
        for name in ("before", "after"):
            smtp_sink.reset()
            smtp.sendmail("a@bench.example", f"{name}@bench.example", "Subject: x\r\n\r\n")
    assert (smtp_sink.accepted(), list(smtp_sink.arrivals())) == (1, ["after"])


def test_a_mail_that_smtp_sink_has_not_accepted_does_not_count(smtp_sink: postfix.PostfixSink) -> None:
    with _connect(smtp_sink) as smtp:
        smtp.ehlo()
        smtp.mail("a@bench.example")
        smtp.rcpt("one@bench.example")
        assert smtp.docmd("DATA")[0] == 354
        smtp.send("text " * 3_000)
        with pytest.raises(TimeoutError, match="0 of 1 mails"):
            smtp_sink.wait_for(1, within=0)
        smtp.send("\r\n.\r\n")
        assert smtp.getreply()[0] == 250
        assert smtp_sink.accepted() == 1
