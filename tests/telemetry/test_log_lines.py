"""Lines as JSON and for people: what is shown, what is left out, what is escaped."""

from __future__ import annotations

import logging

import pytest

from launcher.telemetry.log_lines import Ended, Line, Lines, as_json, for_people
from launcher.telemetry.logs import LogFormat, log_exchange
from launcher.telemetry.record import ExchangeRecord
from tests.log_reading import lines, written

log = logging.getLogger("launcher.test_log_lines")


def test_an_exchange_in_json() -> None:
    record = ExchangeRecord(
        *("POST", "/coder/v1/chat", "10.0.0.1", "coder", "coder", "coder-fast", 200),
        cold=True,
        queued=12.5,
        starting=12.0,
        first_byte=12.6,
        duration=14.0,
        response_bytes=77,
    )

    (line,) = lines(lambda: log_exchange(record))

    del line["time"]
    assert line == {
        "level": "info",
        "logger": "launcher.exchanges",
        "message": "exchange",
        "method": "POST",
        "path": "/coder/v1/chat",
        "peer": "10.0.0.1",
        "status": 200,
        "outcome": "ok",
        "duration": 14.0,
        "requestBytes": 0,
        "responseBytes": 77,
        "route": "coder",
        "backend": "coder",
        "model": "coder-fast",
        "cold": True,
        "queued": 12.5,
        "starting": 12.0,
        "firstByte": 12.6,
    }


def test_whose_key_it_was_is_told() -> None:
    record = ExchangeRecord("GET", "/coder/", "::1", "coder", "coder", status=200, key="alice")
    (line,) = lines(lambda: log_exchange(record))
    assert line["key"] == "alice"
    text = written(lambda: log_exchange(record), log_format="human")
    assert "(coder, alice)" in text


def test_an_exchange_for_people() -> None:
    record = ExchangeRecord(
        *("GET", "/coder/v1/models", "::1", "coder", "coder"),
        status=504,
        code="start_timeout",
        outcome="client_gone",
        cold=True,
        queued=38.2,
        duration=40.0,
        retried=True,
    )

    text = written(lambda: log_exchange(record), log_format="human")

    assert text[12:] == (
        " WARNING GET /coder/v1/models → 504 in 40 s  "
        "(coder, start_timeout, cold, waited 38 s, sent twice, client gone)\n"
    )


@pytest.mark.parametrize("log_format", ["json", "human"])
def test_secrets_are_taken_out_everywhere(log_format: LogFormat) -> None:
    def speak() -> None:
        log.info("key %s", "sk-1", extra={"fields": {"detail": "uses sk-1", "all": ["sk-1"]}})
        log_exchange(ExchangeRecord("GET", "/coder/sk-1", "::1", status=200))
        try:
            raise ValueError("bad sk-1")
        except ValueError:
            log.exception("failed with sk-1")

    text = written(speak, log_format=log_format, redact=lambda text: text.replace("sk-1", "***"))

    assert "sk-1" not in text
    assert text.count("***") >= 4
    assert "ValueError: bad ***" in text


@pytest.mark.parametrize("log_format", ["json", "human"])
def test_nothing_a_client_sent_acts_on_a_terminal(log_format: LogFormat) -> None:
    record = ExchangeRecord("G\x1bT", "/a\r\nfake line\x1b[2J\x9b", "::1", status=400)

    text = written(lambda: log_exchange(record), log_format=log_format)

    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert "/a\\" in text


@pytest.mark.parametrize("log_format", ["json", "human"])
def test_bytes_that_are_no_text_are_written_somehow(log_format: LogFormat) -> None:
    text = written(lambda: log.warning("file %s", "\udcff"), log_format=log_format)

    assert "udcff" in text
    assert text.count("\n") == 1


def test_secrets_are_found_however_deep() -> None:
    fields: dict[str, object] = {"all": ["a", ("sk-1", 2)], "count": 1}
    shown: list[Line] = []
    record = logging.makeLogRecord({"msg": "m", "levelname": "INFO", "fields": fields})

    def show(line: Line) -> str:
        shown.append(line)
        return ""

    Lines(show, lambda text: text.replace("sk-1", "***"))(record)

    assert shown[0].fields == {"all": ["a", ["***", 2]], "count": 1}


def test_times_have_their_milliseconds() -> None:
    ended = Ended(1_700_000_000.0426, logging.INFO, ExchangeRecord("GET", "/", "::1", status=200))

    assert '"time":"2023-11-14T22:13:20.042+00:00","level":"info"' in Lines(as_json)(ended)
    assert Lines(for_people)(ended)[8:12] == ".042"
