"""GET /api/backends/{id}/logs: text, whole or followed."""

from __future__ import annotations

import pytest

from launcher.api.contract import ApiResponse, ApiStream
from launcher.api.logs import Logs, LogsQuery
from launcher.errors import LauncherError
from tests.api.world import CHAT, FakeControl, FakeOutputs, request


@pytest.fixture
def outputs() -> FakeOutputs:
    outputs = FakeOutputs()
    outputs.lines[CHAT] = ["one", "<script>alert(1)</script>", "thr\udcffee"]
    return outputs


@pytest.fixture
def logs(outputs: FakeOutputs) -> Logs:
    return Logs(FakeControl(), outputs)


async def test_the_last_lines_as_text(logs: Logs) -> None:
    answer = await logs.show(request(id="chat", query=LogsQuery(tail=2)))

    assert isinstance(answer, ApiResponse)
    assert answer.content_type == "text/plain; charset=utf-8"
    assert answer.body == b"<script>alert(1)</script>\nthr?ee\n"


async def test_followed_it_goes_on_until_the_caller_leaves(
    logs: Logs, outputs: FakeOutputs
) -> None:
    answer = await logs.show(request(id="chat", query=LogsQuery(tail=1, follow=True)))

    assert isinstance(answer, ApiStream)
    assert await anext(answer.pieces) == b"thr?ee\n"
    await answer.pieces.aclose()
    assert outputs.closed == [CHAT]


async def test_an_unknown_backend_is_told(logs: Logs) -> None:
    with pytest.raises(LauncherError, match="Known: coder, chat, tiny") as caught:
        await logs.show(request(id="codr", query=LogsQuery()))
    assert caught.value.code == "unknown_backend"


def test_it_is_for_admins(logs: Logs) -> None:
    assert [one.need for one in logs.endpoints()] == ["admin"]
