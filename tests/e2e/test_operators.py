"""For operators: what they ask, what they are told, what they start, stop and end."""

from __future__ import annotations

import json
import re
import signal
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import httpx2
import pytest

from launcher.api.openapi import ENDPOINTS
from launcher.telemetry.metrics_table import METRICS
from tests.e2e.commands import run
from tests.e2e.conftest import Make
from tests.e2e.scraping import scrape, value
from tests.e2e.serving import PATIENCE, Launcher, container_route, process_route, until

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def chat(launcher: Launcher, model: str, **more: object) -> tuple[int, str]:
    body = json.dumps({"model": model, "messages": [], **more}).encode()
    kind = {"Content-Type": "application/json"}
    status, text = launcher.request("POST", "/v1/chat/completions", body, **kind)
    return status, text.decode()


def runs(pid: int) -> bool:
    """Also a zombie does."""
    return Path(f"/proc/{pid}").exists()


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(one) for task in tasks for one in (task / "children").read_text().split()]


class TestCheck:
    def test_everything_that_is_wrong_is_told_at_once_with_its_place(self, tmp_path: Path) -> None:
        bad = tmp_path / "bad.toml"
        bad.write_text(
            '[launcher]\nprewarm = ["nobody"]\nidle_timout = "1m"\n'
            '[routes.metrics]\ncontainer = "a"\n'
            '[routes.one]\ncontainer = "b"\nmodels = ["same"]\nneeds = { gpu = 2 }\n'
            '[routes.two]\ncontainer = "c"\nmodels = ["same"]\nbackend_key = "${UNSET_NAME}"\n'
        )
        done = run("check", "--config", str(bad))
        assert (done.returncode, done.stdout) == (2, "")
        told = done.stderr
        for line, words in (
            (2, "nobody"),
            (3, "idle_timeout"),
            (4, "metrics"),
            (9, "gpu"),
            (12, "same"),
            (13, "UNSET_NAME"),
        ):
            assert re.search(rf"^{re.escape(str(bad))}:{line}: .*{words}", told, re.M), told
        assert told.splitlines()[-1] == "6 problems"

    @pytest.mark.docker
    def test_what_the_engine_has_is_looked_at_and_not_touched(
        self, tmp_path: Path, container: Make
    ) -> None:
        names = [container("plain"), container("eager", options=("--restart", "unless-stopped"))]
        file = tmp_path / "routes.toml"
        routes = [container_route(f"r{n}", name) for n, name in enumerate([*names, "lzt-none"])]
        file.write_text("".join(routes))
        done = run("check", "--config", str(file))
        assert (done.returncode, done.stdout) == (0, f"{file}: 3 routes, all good\n")
        warned = done.stderr.splitlines()
        assert any("lzt-none" in line for line in warned)
        assert any("eager" in line and "restart" in line for line in warned)
        assert not any("plain" in line for line in warned)

        file.write_text(container_route("x", names[0], lines='health = "docker"'))
        done = run("check", "--config", str(file))
        assert (done.returncode, done.stdout) == (1, "")
        assert "HEALTHCHECK" in done.stderr


class TestStatus:
    def test_a_table_and_json_of_what_is_so(self, tmp_path: Path) -> None:
        routes = process_route("one") + process_route("broken", EXIT_CODE="3")
        with Launcher(tmp_path, routes) as launcher:
            assert chat(launcher, "one")[0] == 200
            assert chat(launcher, "broken")[0] == 503
            assert chat(launcher, "one")[0] == 200
            table = run("status", url=launcher.base)
            scripts = run("status", "--json", url=launcher.base)
        assert (table.returncode, table.stderr) == (0, "")
        row = {line.split()[0]: line for line in table.stdout.splitlines() if line}
        assert re.search(r"one +one +ready .* gpu 1 +stops in (9|10) min +2 × ", row["one"])
        assert re.search(r"broken +broken +failed ", row["broken"])
        assert "in use: gpu 1 of 1" in table.stdout
        assert "CUDA error: out of memory" in table.stdout
        said = json.loads(scripts.stdout)
        assert scripts.returncode == 0
        assert [(b["backend"], b["state"]) for b in said["backends"]] == [
            ("one", "ready"),
            ("broken", "failed"),
        ]


class TestStartAndStop:
    def test_start_shows_its_progress_until_it_is_ready(self, tmp_path: Path) -> None:
        with Launcher(tmp_path, process_route("slow", START_DELAY="2")) as launcher:
            done = run("start", "slow", url=launcher.base)
            assert (done.returncode, done.stdout) == (0, "slow is ready\n")
            assert "starting slow" in done.stderr.splitlines()
            assert launcher.state("slow") == "ready"
            again = run("start", "slow", url=launcher.base)
            assert (again.returncode, again.stdout) == (0, "slow is ready\n")
            assert launcher.backend("slow")["start_metrics"]["start_count"] == 1
            done = run("stop", "slow", url=launcher.base)
            assert (done.returncode, done.stdout) == (0, "slow is stopped\n")
            assert launcher.state("slow") == "stopped"
            assert run("stop", "slow", url=launcher.base).returncode == 0

    def test_start_makes_room_without_cutting_and_says_for_whom_it_waits(
        self, tmp_path: Path
    ) -> None:
        routes = process_route("one", lines='max_wait = "100ms"')
        routes += process_route("two", lines='max_wait = "100ms"')
        with Launcher(tmp_path, routes) as launcher, ThreadPoolExecutor(1) as pool:
            # Once each, so that it is known how quick they are: a busy one keeps its place for
            # as long as a swap takes.
            assert chat(launcher, "two")[0] == chat(launcher, "one")[0] == 200
            made = pool.submit(chat, launcher, "one", stream=True, x_tokens=100, x_delay=0.05)
            until(lambda: launcher.backend("one")["in_flight"] == 1, "a stream runs")
            done = run("start", "two", url=launcher.base)
            assert (done.returncode, done.stdout) == (0, "two is ready\n")
            assert "making room for two: one finishes one request" in done.stderr
            assert made.result()[1].rstrip().endswith("data: [DONE]")

    def test_stop_waits_for_what_runs_and_by_force_cuts_it(self, tmp_path: Path) -> None:
        with Launcher(tmp_path, process_route("one")) as launcher, ThreadPoolExecutor(1) as pool:
            made = pool.submit(chat, launcher, "one", stream=True, x_tokens=40, x_delay=0.05)
            until(lambda: launcher.backend("one")["in_flight"] == 1, "a stream runs")
            done = run("stop", "one", url=launcher.base)
            assert (done.returncode, done.stdout) == (0, "one is stopped\n")
            assert made.result()[1].rstrip().endswith("data: [DONE]")

            cut = pool.submit(chat, launcher, "one", stream=True, x_tokens=100_000, x_delay=0.05)
            until(lambda: launcher.backend("one")["in_flight"] == 1, "an endless one runs")
            done = run("stop", "one", "--force", url=launcher.base)
            assert (done.returncode, done.stdout) == (0, "one is stopped\n")
            assert isinstance(cut.exception(PATIENCE), HTTPException | OSError)

    def test_what_fails_is_told_with_its_last_lines_and_exit_code_1(self, tmp_path: Path) -> None:
        with Launcher(tmp_path, process_route("broken", EXIT_CODE="3")) as launcher:
            done = run("start", "broken", url=launcher.base)
            assert (done.returncode, done.stdout) == (1, "")
            assert "    RuntimeError: CUDA error: out of memory" in done.stderr.splitlines()
            done = run("start", "nobody", url=launcher.base)
            assert done.returncode == 1
            assert "broken" in done.stderr

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("X-Forwarded-For", "wrong_key"),
            ("Origin", "cross_origin"),
            ("Sec-Fetch-Site", "cross_origin"),
        ],
    )
    def test_without_admin_keys_only_a_direct_local_caller_may(
        self, tmp_path: Path, name: str, code: str
    ) -> None:
        with Launcher(tmp_path, process_route("one")) as launcher:
            path = "/api/routes/one/start"
            status, body = launcher.request("POST", path, **{name: "http://example.org"})
            assert (status, json.loads(body)["error"]["code"]) == (403, code)
            assert launcher.state("one") == "stopped"
            assert launcher.request("POST", path)[0] in (200, 202)


class TestObserving:
    def test_prometheus_reads_every_metric_of_the_table(self, tmp_path: Path) -> None:
        routes = process_route("one") + process_route("two")
        with Launcher(tmp_path, routes) as launcher:
            for model in ("one", "one", "two"):
                assert chat(launcher, model)[0] == 200
            assert launcher.get("/nowhere/secret-path")[0] == 404

            def counted() -> bool:
                return value(launcher, "launcher_requests_total", route="?", code="404") == 1

            until(counted, "the last one is counted")
            found = scrape(launcher)
            for spec in METRICS:
                family = found[spec.name.removesuffix("_total")]
                assert (family.type, family.documentation) == (spec.type, spec.help)
                names = {frozenset(sample.labels) - {"le"} for sample in family.samples}
                assert names <= {frozenset(spec.labels)}
            numbers = [
                (2, "launcher_requests_total", {"route": "one", "code": "200"}),
                (1, "launcher_cold_requests_total", {"route": "one"}),
                (1, "launcher_starts_total", {"backend": "two", "outcome": "ready"}),
                (1, "launcher_stops_total", {"backend": "one", "reason": "evicted"}),
                (1, "launcher_swaps_total", {}),
                (1, "launcher_backend_state", {"backend": "two", "state": "ready"}),
                (1, "launcher_backend_state", {"backend": "one", "state": "stopped"}),
                (2, "launcher_time_to_first_byte_seconds_count", {"route": "one"}),
                (1, "launcher_used", {"resource": "gpu"}),
            ]
            for number, name, labels in numbers:
                assert value(launcher, name, **labels) == number, (name, labels)
            assert "secret-path" not in launcher.get("/metrics")[1].decode()

    def test_routes_and_stats_have_the_promised_shapes(self, tmp_path: Path) -> None:
        routes = process_route("one", lines='health = "tcp"\nauth = "passthrough"')
        routes += container_route("two", "lzt-none", lines='models = ["a", "b/c"]')
        with Launcher(tmp_path, routes) as launcher:
            before = launcher.json("/stats")
            assert before["last_hits"] == {"one": None, "two": None}
            never = {"average_duration_ms": None, "last_duration_ms": None, "last_started_at": None}
            assert before["start_metrics"]["one"] == never | {"start_count": 0}
            assert chat(launcher, "one")[0] == 200
            table, after = launcher.json("/routes"), launcher.json("/stats")
        assert set(table) == {"routes", "aliases"}
        keys = ("route", "container", "port", "health", "auth", "models")
        rows = [tuple(row[key] for key in keys) for row in table["routes"]]
        assert rows == [
            ("one", None, None, "tcp", "passthrough", ["one"]),
            ("two", "lzt-none", 8000, "/health", "inject", ["a", "b/c"]),
        ]
        assert after["running_containers"] == ["one"]
        assert after["last_hits"]["two"] is None
        started = after["start_metrics"]["one"]
        for at in (after["server_time"], after["last_hits"]["one"], started["last_started_at"]):
            assert re.fullmatch(TIME, at)
        assert started["start_count"] == 1
        assert started["average_duration_ms"] == started["last_duration_ms"] > 0

    def test_no_scrape_and_no_dashboard_starts_or_keeps_a_backend(self, tmp_path: Path) -> None:
        endpoints = [one for one in ENDPOINTS if one.method == "GET" and one.tag != "page"]
        paths = [one.template.replace("{id}", "one").replace("{name}", "one") for one in endpoints]
        assert "/metrics" in paths
        # No switch or lease is there to be looked at.
        expected = {
            path: 404 if path.startswith(("/api/switches/", "/api/leases/")) else 200
            for path in paths
        }
        with Launcher(tmp_path, process_route("one", lines='idle_timeout = "1s"')) as launcher:

            def look() -> None:
                assert {path: launcher.get(path)[0] for path in paths} == expected
                assert {path: launcher.request("HEAD", path)[0] for path in paths} == expected

            until(lambda: launcher.get("/readyz")[0] == 200, "the first look around")
            look()
            assert run("status", url=launcher.base).returncode == 0
            assert launcher.state("one") == "stopped"
            assert chat(launcher, "one")[0] == 200

            def stopped() -> bool:
                look()
                return launcher.state("one") == "stopped"

            until(stopped, "it is stopped though it is looked at all the time")
            assert value(launcher, "launcher_starts_total", backend="one", outcome="ready") == 1

    def test_the_log_has_a_line_for_each_decision_and_exchange(self, tmp_path: Path) -> None:
        with Launcher(tmp_path, process_route("one")) as launcher:
            assert chat(launcher, "one")[0] == 200
            assert run("stop", "one", url=launcher.base).returncode == 0
            until(lambda: "one stopped after" in launcher.log(), "the last decision")
        lines = launcher.lines()
        decided = [line for line in lines if line["logger"] == "launcher.decisions"]
        assert [line.get("decision") for line in decided if "decision" in line] == ["start", "stop"]
        assert all(re.match(r"\d{4}-\d\d-\d\dT", line["time"]) for line in lines)
        (exchange,) = [line for line in lines if line.get("path") == "/v1/chat/completions"]
        assert (exchange["status"], exchange["route"], exchange["model"]) == (200, "one", "one")
        assert exchange["cold"] is True
        assert exchange["duration"] >= exchange["starting"] > 0


class TestTheEnd:
    @pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_lets_a_stream_end_tells_who_waits_and_leaves_no_process(
        self, tmp_path: Path, told: signal.Signals
    ) -> None:
        routes = process_route("one") + process_route("two", START_DELAY="600", lines="needs = {}")
        with Launcher(tmp_path, routes) as launcher, ThreadPoolExecutor(1) as pool:
            asked = {"model": "one", "stream": True, "x_tokens": 120, "x_delay": 0.05}
            request = urllib.request.Request(
                f"{launcher.base}/v1/chat/completions", json.dumps(asked).encode()
            )
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                head = answer.readline()
                waiting = pool.submit(launcher.get, "/two/x")
                until(lambda: launcher.backend("two")["queued"] == 1, "somebody waits")
                until(lambda: len(children(launcher.pid)) >= 2, "both processes run")
                started = children(launcher.pid)
                assert launcher.process is not None
                launcher.process.send_signal(told)
                status, body = waiting.result()
                assert (status, json.loads(body)["error"]["code"]) == (503, "draining")
                until(lambda: not _accepts(launcher), "no new connection is taken")
                assert launcher.process.poll() is None, "it waits for the stream"
                lines = (head + answer.read()).splitlines()
            assert b"data: [DONE]" in lines[-2:]
            assert sum(line.startswith(b"data: {") for line in lines) == 121
            assert launcher.process.wait(PATIENCE) == 0
            launcher.process = None
        assert not [pid for pid in started if runs(pid)]
        assert launcher.lines()[-1]["message"] == "launcher has ended"

    def test_what_outlasts_drain_timeout_is_cut(self, tmp_path: Path) -> None:
        top = 'drain_timeout = "300ms"'
        with Launcher(tmp_path, process_route("one"), top=top) as launcher:
            with ThreadPoolExecutor(1) as pool:
                endless = {"stream": True, "x_tokens": 100_000, "x_delay": 0.05}
                cut = pool.submit(chat, launcher, "one", **endless)
                until(lambda: launcher.backend("one")["in_flight"] == 1, "an endless stream runs")
                assert launcher.stop() == 0
                assert isinstance(cut.exception(PATIENCE), HTTPException | OSError)

    def test_measured_times_and_counts_survive_a_restart(self, tmp_path: Path) -> None:
        with Launcher(tmp_path, process_route("one", START_DELAY="0.5")) as launcher:
            assert chat(launcher, "one")[0] == 200
            assert run("stop", "one", url=launcher.base).returncode == 0
            before = launcher.backend("one")
            assert before["start_metrics"]["start_count"] == 1
            assert launcher.stop() == 0
            launcher.start()
            after = launcher.backend("one")
            for key in (
                "start_metrics",
                "expected_start_ms",
                "expected_stop_ms",
                "expected_service_ms",
            ):
                assert after[key] == before[key] is not None
            # The next start is counted on top.
            assert chat(launcher, "one")[0] == 200
            assert launcher.json("/stats")["start_metrics"]["one"]["start_count"] == 2


def test_a_unix_socket_serves_requests_and_commands(tmp_path: Path) -> None:
    where = tmp_path / "l.sock"
    env = {"LAUNCHER_LISTEN": f"127.0.0.1:0,unix:{where}"}
    with Launcher(tmp_path, process_route("one"), env=env) as launcher:
        transport = httpx2.HTTPTransport(uds=str(where))
        with httpx2.Client(transport=transport, timeout=PATIENCE) as http:
            with launcher.client(http_client=http) as client:
                answer = client.chat.completions.create(model="one", messages=[])
                assert answer.choices[0].message.content == "one-0 one-1 one-2 one-3 one-4 "
        done = run("stop", "one", url=f"unix:{where}")
        assert (done.returncode, done.stdout) == (0, "one is stopped\n")
        # A crash leaves the socket's file behind, which is in nobody's way.
        launcher.kill()
        assert where.exists()
        launcher.start()
        assert run("status", url=f"unix:{where}").returncode == 0
        assert launcher.stop() == 0
    assert not where.exists()


def _accepts(launcher: Launcher) -> bool:
    try:
        launcher.get("/healthz")
    except OSError:
        return False
    return True
