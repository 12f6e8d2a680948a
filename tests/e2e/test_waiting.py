"""What a client notices of waiting, and what keeps a backend up or lets it go."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.message import Message
from pathlib import Path
from typing import Any

import openai
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.e2e.serving import PATIENCE, Launcher, process_route, until

QUESTION = [{"role": "user", "content": "?"}]


def chat(
    launcher: Launcher, model: str, path: str = "/v1/chat/completions", **more: Any
) -> tuple[int, Message, str]:
    """Status, headers and text of a chat's answer, errors included."""
    body = json.dumps({"model": model, "messages": QUESTION, **more}).encode()
    request = urllib.request.Request(
        launcher.base + path, body, {"Content-Type": "application/json"}
    )
    try:
        answer = urllib.request.urlopen(request, timeout=PATIENCE * 2)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, answer.headers, answer.read().decode()


def timings(headers: Message) -> dict[str, float]:
    """Server-Timing's entries, in milliseconds."""
    found = re.findall(r"([a-z]+);dur=([\d.]+)", headers["Server-Timing"])
    return {name: float(value) for name, value in found}


def metric(launcher: Launcher, line: str) -> float:
    """The value of one line of /metrics; 0 where it isn't there."""
    text = launcher.get("/metrics")[1].decode()
    found = re.search(rf"^{re.escape(line)} (.+)$", text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def tunnel(launcher: Launcher, route: str) -> ClientConnection:
    url = launcher.base.replace("http:", "ws:") + f"/{route}/ws"
    return connect(url, open_timeout=PATIENCE, compression=None, ping_interval=None)


def queued(launcher: Launcher, route: str) -> Callable[[], bool]:
    return lambda: launcher.backend(route)["queued"] > 0


class TestHeartbeat:
    def test_comments_until_the_stream_begins(self, tmp_path: Path) -> None:
        routes = process_route("slow", START_DELAY="1.6", lines='heartbeat = "200ms"')
        with Launcher(tmp_path, routes) as launcher:
            status, headers, text = chat(launcher, "slow", stream=True)
            assert (status, headers.get_content_type()) == (200, "text/event-stream")
            assert headers["X-Launcher-Cold-Start"] == "1"
            events = [line for line in text.splitlines() if line]
            beats = [line for line in events if line.startswith(":")]
            assert len(beats) >= 2
            assert all(
                re.fullmatch(r": starting slow, \d+ s of about \d+ s \(± \d+ s\)", beat)
                for beat in beats
            )
            assert events[: len(beats)] == beats
            assert all(line.startswith("data: ") for line in events[len(beats) :])
            assert events[-1] == "data: [DONE]"

            # By a guess at first; from the second start on it is known how long one takes.
            assert launcher.request("POST", "/api/routes/slow/stop?wait=1")[0] == 200
            text = chat(launcher, "slow", "/slow/v1/chat/completions", stream=True)[2]
            known = re.search(r"^: starting slow, \d+ s of about (\d+) s ", text, re.MULTILINE)
            assert known is not None
            assert 1 <= int(known.group(1)) < 30

    def test_the_official_client_reads_over_them(self, tmp_path: Path) -> None:
        routes = process_route("slow", START_DELAY="1.5", lines='heartbeat = "200ms"')
        with Launcher(tmp_path, routes) as launcher, launcher.client() as client:
            made = client.chat.completions.create(model="slow", messages=QUESTION, stream=True)
            said = "".join(piece.choices[0].delta.content or "" for piece in made)
        assert said == "slow-0 slow-1 slow-2 slow-3 slow-4 "

    def test_an_error_behind_comments_is_an_event_and_is_counted_as_what_it_is(
        self, tmp_path: Path
    ) -> None:
        routes = process_route(
            "dying",
            EXIT_CODE="3",
            EXIT_AFTER="1.5",
            HEALTH="never",
            lines='heartbeat = "200ms"',
        )
        with Launcher(tmp_path, routes) as launcher, launcher.client() as client:
            stream = client.chat.completions.create(model="dying", messages=QUESTION, stream=True)
            assert stream.response.status_code == 200
            with pytest.raises(openai.APIError) as caught:
                list(stream)
            assert caught.value.code == "backend_start_failed"
            one = 'launcher_requests_total{code="503",route="dying"}'
            until(lambda: metric(launcher, one) == 1, "the real status is counted")

    def test_none_for_who_asked_for_no_stream_or_a_route_without(self, tmp_path: Path) -> None:
        routes = process_route("plain", START_DELAY="1", lines='heartbeat = "100ms"\nneeds = {}')
        routes += process_route("off", START_DELAY="1", lines="heartbeat = 0\nneeds = {}")
        with Launcher(tmp_path, routes) as launcher:
            status, headers, text = chat(launcher, "plain")
            assert (status, headers.get_content_type()) == (200, "application/json")
            assert json.loads(text)["object"] == "chat.completion"
            text = chat(launcher, "off", stream=True)[2]
            assert text.startswith("data: {")


def test_responses_tell_the_way_they_took(tmp_path: Path) -> None:
    with Launcher(tmp_path, process_route("coder", START_DELAY="1.2")) as launcher:
        cold, warm = chat(launcher, "coder")[1], chat(launcher, "coder", x_delay=0.1)[1]
    assert (cold["X-Launcher-Cold-Start"], warm["X-Launcher-Cold-Start"]) == ("1", None)
    assert set(timings(cold)) == {"queue", "start", "upstream"}
    assert timings(cold)["start"] >= 1200
    assert (timings(warm)["queue"], timings(warm)["start"]) == (0, 0)
    # Five tokens at 0.1 s each, by the backend's own clock.
    assert timings(warm)["upstream"] >= 490


class TestTheQueue:
    def test_a_wait_ends_at_queue_timeout(self, tmp_path: Path) -> None:
        routes = process_route("never", HEALTH="never", lines='queue_timeout = "700ms"')
        with Launcher(tmp_path, routes) as launcher:
            status, headers, text = chat(launcher, "never")
            error = json.loads(text)["error"]
            assert (status, error["code"]) == (504, "queue_timeout")
            assert int(headers["Retry-After"]) >= 1
            # Counted from the request's arrival, and told from its place in the queue.
            assert timings(headers)["queue"] + timings(headers)["start"] >= 600
            # The start is the backend's, and goes on.
            assert launcher.state("never") == "starting"

    def test_a_full_queue_refuses_at_once_and_serves_who_is_in_it(self, tmp_path: Path) -> None:
        routes = process_route("slow", START_DELAY="3", lines="max_queue = 2")
        with Launcher(tmp_path, routes) as launcher, ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(chat, launcher, "slow") for _ in range(2)]
            until(lambda: launcher.backend("slow")["queued"] == 2, "both wait")
            status, headers, text = chat(launcher, "slow")
            assert not any(one.done() for one in waiting)
            assert (status, json.loads(text)["error"]["code"]) == (503, "queue_full")
            assert int(headers["Retry-After"]) >= 1
            assert [one.result()[0] for one in waiting] == [200, 200]
            line = 'launcher_rejects_total{backend="slow",code="queue_full"}'
            assert metric(launcher, line) == 1


class TestWhatKeepsABackend:
    def test_idle_it_is_stopped_a_stream_keeps_it_and_the_next_request_starts_it(
        self, tmp_path: Path
    ) -> None:
        routes = process_route("coder", lines='idle_timeout = "700ms"')
        with Launcher(tmp_path, routes) as launcher:
            # Three idle timeouts long.
            answer = chat(launcher, "coder", stream=True, x_tokens=21, x_delay=0.1)[2]
            assert answer.count("data: {") == 22
            assert launcher.backend("coder")["start_metrics"]["start_count"] == 1
            pid = launcher.json("/coder/stats")["pid"]
            until(lambda: launcher.state("coder") == "stopped", "the idle stop")
            until(lambda: not _runs(pid), "its process is gone")
            assert metric(launcher, 'launcher_stops_total{backend="coder",reason="idle"}') >= 1
            assert launcher.json("/coder/stats")["pid"] != pid

    def test_quiet_paths_neither_wake_nor_keep_it(self, tmp_path: Path) -> None:
        lines = 'idle_timeout = "3s"\nquiet = ["default", "/stats"]'
        with Launcher(tmp_path, process_route("coder", lines=lines)) as launcher:
            for path in ("/coder/health", "/coder/stats"):
                status, body = launcher.get(path)
                assert (status, json.loads(body)["error"]["code"]) == (503, "not_resident")
            assert launcher.state("coder") == "stopped"
            chat(launcher, "coder")
            assert launcher.get("/coder/health")[0] == 200

            def asked_until_refused() -> bool:
                return {launcher.get(path)[0] for path in ("/coder/health", "/coder/stats")} == {
                    503
                }

            until(asked_until_refused, "it is stopped though it is asked all the time")
            until(lambda: launcher.state("coder") == "stopped", "the stop ends")
            assert launcher.backend("coder")["start_metrics"]["start_count"] == 1

    def test_a_busy_backend_is_neither_stopped_nor_made_to_go(self, tmp_path: Path) -> None:
        routes = process_route("comfy", lines='busy = "/queue"\nidle_timeout = "500ms"')
        routes += process_route("chat")
        with Launcher(tmp_path, routes) as launcher, ThreadPoolExecutor(1) as pool:
            assert launcher.request("POST", "/comfy/busy?on=1")[0] == 200
            until(lambda: launcher.backend("comfy")["busy"], "it was asked when it fell idle")
            asked = pool.submit(chat, launcher, "chat")
            until(queued(launcher, "chat"), "another waits for its place")
            # Longer than an idle timeout: it is held by nothing but what it says of itself.
            # It drains while it is asked.
            for _ in range(40):
                assert launcher.state("comfy") in ("ready", "draining")
                time.sleep(0.02)
            assert not asked.done()
            where = launcher.backend("comfy")["endpoint"]
            with urllib.request.urlopen(
                urllib.request.Request(f"{where}/busy?on=0", method="POST"), timeout=PATIENCE
            ) as answer:
                assert answer.status == 200
            assert asked.result()[0] == 200
            assert launcher.state("comfy") == "stopped"

    def test_a_tunnel_holds_its_backend_until_it_falls_silent(self, tmp_path: Path) -> None:
        routes = process_route("comfy", lines='tunnel_idle = "3s"') + process_route("chat")
        with Launcher(tmp_path, routes) as launcher, ThreadPoolExecutor(1) as pool:
            with tunnel(launcher, "comfy") as socket:
                # It talks for longer than `tunnel_idle` while another waits for the place.
                asked = pool.submit(chat, launcher, "chat")
                end = time.monotonic() + 4
                while time.monotonic() < end:
                    socket.send(b"x" * 2048)
                    assert socket.recv(timeout=PATIENCE) == b"x" * 2048
                    time.sleep(0.05)
                assert launcher.backend("chat")["queued"] == 1
                assert not asked.done()
                assert launcher.state("comfy") == "ready"
                # Pings are no work.
                with suppress(ConnectionClosed):
                    while not asked.done():
                        socket.ping()
                        time.sleep(0.1)
                assert asked.result()[0] == 200
                with pytest.raises(ConnectionClosed):
                    socket.recv(timeout=PATIENCE)
            assert launcher.state("comfy") == "stopped"


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
