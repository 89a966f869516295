"""Events on the wire: what is sent in either mode is read back the same, whatever stands in it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Literal

import pytest

from errors import InvalidInput, ToolFailed
from tests.standins.event_sink import event_sink
from tools.cloudevents.event import CloudEvent, read_events
from tools.cloudevents.sink import EventRefused, Sink

HOSTILE = 'a "b" 100% \r\nX-Evil: 1 崩溃 \x00 ~!'


def event() -> CloudEvent:
    return CloudEvent(
        specversion="1.0",
        id="evt_1",
        source="/paramedic/" + HOSTILE,
        type="io.paramedic.incident.opened",
        time=datetime(2026, 11, 21, 10, tzinfo=UTC),
        subject=HOSTILE,
        datacontenttype="application/json",
        data={"text": HOSTILE, "n": 1.5, "none": None},
    )


@pytest.mark.parametrize("mode", ["structured", "binary"])
async def test_what_is_sent_is_what_is_read(
    mode: Literal["structured", "binary"], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with event_sink(key="k1") as server, Sink(f"{server.url}?token=canary-7c", "k1", mode=mode) as sink:
        await sink.send(event())
    assert server.events == [event()]
    assert ("ce-id" in server.raw[0]) is (mode == "binary")
    assert "canary-7c" not in caplog.text


def test_a_header_holds_what_the_binding_allows() -> None:
    headers, body = event().binary()
    assert headers["content-type"] == "application/json"
    for name, value in headers.items():
        assert value.isascii() and value.isprintable() and '"' not in value and " " not in value, name
    assert headers["ce-subject"].startswith("a%20%22b%22%20100%25%20%0D%0AX-Evil:%201%20%E5%B4%A9")
    assert read_events(headers, body) == [event()]


async def test_whether_to_try_again() -> None:
    async with event_sink(422) as server, Sink(server.url) as sink:
        with pytest.raises(EventRefused, match="status 422"):
            await sink.send(event())
        for server.status in (401, 404, 408, 429, 500, 503):
            with pytest.raises(ToolFailed) as failed:
                await sink.send(event())
            assert not isinstance(failed.value, EventRefused), server.status
    async with Sink(server.url) as gone:
        with pytest.raises(ToolFailed, match=r"127\.0\.0\.1 cannot be reached"):
            await gone.send(event())
    for url in ("ftp://h/x", "http://u:p@h/x", "nonsense"):
        with pytest.raises(InvalidInput):
            Sink(url)
