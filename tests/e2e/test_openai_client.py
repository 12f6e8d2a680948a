"""Whoever speaks OpenAI's API speaks to the launcher: the official client, as its users use it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.e2e.recording import Record
from tests.e2e.serving import PATIENCE, Launcher, process_route, until

QUESTION = [{"role": "user", "content": "?"}]
SAID = "coder-0 coder-1 coder-2 coder-3 coder-4 "
MODELS = {"coder": ["coder", "qwen/coder-7b"], "recorder": ["recorder", "gpt-4o"]}


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return Record(tmp_path_factory.mktemp("record"), "recorder")


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory, record: Record) -> Iterator[Launcher]:
    routes = process_route("coder", lines=f"models = {json.dumps(MODELS['coder'])}")
    renamed = '{ id = "gpt-4o", upstream = "Qwen/Qwen2.5-7B" }'
    routes += record.route(f'models = ["recorder", {renamed}]')
    routes += process_route("broken", EXIT_CODE="3")
    with Launcher(tmp_path_factory.mktemp("launcher"), routes) as running:
        yield running


@pytest.fixture(scope="module")
def client(launcher: Launcher) -> Iterator[openai.OpenAI]:
    with launcher.client() as made:
        yield made


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="coder", messages=QUESTION)
    assert answer.choices[0].message.content == SAID
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


def test_a_streamed_chat_is_whole_to_its_usage(client: openai.OpenAI) -> None:
    pieces = list(
        client.chat.completions.create(
            model="coder",
            messages=QUESTION,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"x_tokens": 20, "x_delay": 0.01},
        )
    )
    words = [one.choices[0].delta.content or "" for one in pieces if one.choices]
    assert words == [*(f"coder-{n} " for n in range(20)), ""]
    assert pieces[-1].usage is not None
    assert pieces[-1].usage.completion_tokens == 20


def test_embeddings_in_both_encodings(client: openai.OpenAI) -> None:
    # The client itself asks for base64 where nothing is said.
    packed = client.embeddings.create(model="coder", input=["one", "three"])
    plain = client.embeddings.create(model="coder", input=["one"], encoding_format="float")
    assert [one.embedding for one in packed.data] == [[0.1875, 1.0, 0.5], [0.3125, 2.0, 0.5]]
    assert plain.data[0].embedding == [0.1875, 1.0, 0.5]


@pytest.mark.parametrize("size", [12_345, 3_000_000])
def test_an_upload_finds_its_model_in_the_form(client: openai.OpenAI, size: int) -> None:
    heard = client.audio.transcriptions.create(
        model="qwen/coder-7b", file=("speech.wav", bytes(range(256)) * (size // 256 + 1))
    )
    assert heard.text == f"coder heard {(size // 256 + 1) * 256} bytes as qwen/coder-7b"


def test_streamed_responses(client: openai.OpenAI, record: Record) -> None:
    events = list(client.responses.create(model="recorder", input="?", stream=True))
    words = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(words) == "a story of two models"
    assert events[-1].type == "response.completed"
    assert record.last().target == "/v1/responses"


def test_every_model_is_listed_and_none_is_started(tmp_path: Path) -> None:
    routes = process_route("one", lines='models = ["one", "org/model"]') + process_route("two")
    with Launcher(tmp_path, routes) as launcher, launcher.client() as client:
        assert [one.id for one in client.models.list()] == ["one", "org/model", "two"]
        assert client.models.retrieve("org/model").id == "org/model"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("org/other")
        assert [launcher.state(name) for name in ("one", "two")] == ["stopped", "stopped"]


@pytest.mark.parametrize("prefix", ["/openai/v1", "/openai", "/v1", "/coder/v1"])
def test_every_base_url_works(launcher: Launcher, client: openai.OpenAI, prefix: str) -> None:
    there = client.with_options(base_url=launcher.base + prefix)
    answer = there.chat.completions.create(model="coder", messages=QUESTION)
    assert answer.choices[0].message.content == SAID


def test_under_a_routes_own_url_the_model_is_the_backends_business(
    launcher: Launcher, client: openai.OpenAI
) -> None:
    there = client.with_options(base_url=f"{launcher.base}/coder/v1")
    answer = there.chat.completions.create(model="no such model", messages=QUESTION)
    assert answer.model == "no such model"


def test_a_model_with_another_name_upstream_changes_those_bytes_alone(
    launcher: Launcher, client: openai.OpenAI, record: Record
) -> None:
    body = '{ "model" :  "gpt-4o",\t"note": "model: \\u0067pt-4o \u00e9", "n": 1.50 , "x": {}}\n'
    kind = {"Content-Type": "application/json"}
    sent = body.encode()
    assert launcher.request("POST", "/openai/v1/any/thing?a=%41", sent, **kind)[0] == 200
    assert record.last().body == sent.replace(b'"gpt-4o"', b'"Qwen/Qwen2.5-7B"', 1)
    assert record.last().target == "/v1/any/thing?a=%41"

    sound = base64.b64encode(b"gpt-4o" * 100)
    answer = client.audio.transcriptions.with_raw_response.create(
        model="gpt-4o", file=("a.wav", sound), response_format="text"
    )
    asked = answer.http_request.read()
    name = b'name="model"\r\n\r\n'
    assert name + b"gpt-4o\r\n" in asked
    assert record.last().body == asked.replace(name + b"gpt-4o", name + b"Qwen/Qwen2.5-7B")

    assert launcher.get("/v1/files?x=%20y&model=gpt-4o&z")[0] == 200
    assert record.last().target == "/v1/files?x=%20y&model=Qwen%2FQwen2.5-7B&z"


@pytest.mark.parametrize("path", ["/coder/ws", "/coder/ws?token=a%2Fb"])
def test_a_websocket_echoes(launcher: Launcher, path: str) -> None:
    url = launcher.base.replace("http:", "ws:") + path
    with connect(url, open_timeout=PATIENCE, compression=None) as socket:
        for message in ("hello", b"\x00\xff" * 5, "x" * 70_000):
            socket.send(message)
            assert socket.recv(timeout=PATIENCE) == message
        assert socket.ping().wait(PATIENCE)


def test_a_realtime_socket_finds_its_model_in_the_query(launcher: Launcher, record: Record) -> None:
    url = launcher.base.replace("http:", "ws:") + "/openai/v1/realtime?model=gpt-4o"
    with pytest.raises(InvalidStatus) as caught:
        connect(url, open_timeout=PATIENCE)
    # The backend's own answer: this one speaks no WebSocket.
    assert caught.value.response.status_code == 403
    assert record.last().target == "/v1/realtime?model=Qwen%2FQwen2.5-7B"
    assert record.last().headers["upgrade"] == "websocket"


def test_an_unknown_model_is_a_not_found_error_that_lists_the_known(
    client: openai.OpenAI,
) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-5", messages=QUESTION)
    assert caught.value.code == "unknown_model"
    assert caught.value.param == "model"
    for name in ("gpt-5", "qwen/coder-7b", "gpt-4o"):
        assert name in caught.value.message


def test_a_start_that_fails_is_told_with_exit_code_and_last_lines(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="broken", messages=QUESTION)
    error = caught.value
    assert (error.status_code, error.code) == (503, "backend_start_failed")
    assert int(error.response.headers["retry-after"]) >= 1
    assert "3" in error.message
    assert isinstance(error.body, dict)
    assert "CUDA error: out of memory" in error.body["detail"]


def test_a_bad_body_is_a_bad_request(launcher: Launcher, client: openai.OpenAI) -> None:
    for content, code in ((b'{"model": "coder"', "invalid_json"), (b"{}", "missing_model")):
        with pytest.raises(openai.BadRequestError) as caught:
            client.post("/chat/completions", cast_to=httpx2.Response, content=content)
        assert caught.value.code == code


async def test_an_async_client_that_leaves_leaves_nothing_behind(launcher: Launcher) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{launcher.base}/openai/v1", api_key="none", max_retries=0, timeout=PATIENCE
    ) as client:
        stream = await client.chat.completions.create(
            model="coder",
            messages=QUESTION,
            stream=True,
            extra_body={"x_tokens": 100_000, "x_delay": 0.01},
        )
        async for piece in stream:
            assert piece.choices[0].delta.content == "coder-0 "
            break
        await stream.close()
    until(lambda: launcher.backend("coder")["in_flight"] == 0, "the ticket is released")
