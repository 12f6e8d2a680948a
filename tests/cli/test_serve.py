"""`launcher serve`: addresses, signals, exit codes."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.cli.running import BAD, ENVIRON, GOOD, command, run


class TestServe:
    def test_all_that_is_wrong_is_told_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "routes.toml"
        path.write_text(BAD)

        done = run("serve", "--config", str(path))

        assert (done.returncode, done.stdout) == (2, "")
        assert "metrics" in done.stderr
        assert "prot" in done.stderr
        assert done.stderr.splitlines()[-1].endswith("problems")

    def test_no_configuration_at_all(self, tmp_path: Path) -> None:
        done = run("serve", "--config", str(tmp_path / "none.toml"))

        assert done.returncode == 2
        assert "none.toml" in done.stderr

    def test_an_address_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "routes.toml").write_text(GOOD)

        done = run("serve", "--listen", "nonsense", cwd=tmp_path)

        assert done.returncode == 2
        assert "--listen" in done.stderr

    def test_an_address_that_is_taken(self, tmp_path: Path) -> None:
        (tmp_path / "routes.toml").write_text(GOOD)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            done = run("serve", "--listen", f"127.0.0.1:{port}", cwd=tmp_path)

        assert done.returncode == 1
        line = json.loads(done.stderr.splitlines()[-1])
        assert line["level"] == "error"
        assert line["message"].startswith("can't serve")

    def test_it_serves_where_it_was_told_until_a_signal(self, tmp_path: Path) -> None:
        (tmp_path / "routes.toml").write_text(GOOD)
        where = tmp_path / "l.sock"
        process = subprocess.Popen(
            command("serve", "--listen", f"unix:{where}", "--log-format", "human"),
            env=ENVIRON,
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stderr is not None
            while "serves" not in (line := process.stderr.readline()):
                assert line, "it ended before it served"
            status = run("status", "--url", f"unix:{where}")
            process.send_signal(signal.SIGTERM)
            log = process.stderr.read()

        assert status.returncode == 0, status.stderr
        assert "tiny" in status.stdout
        assert process.returncode == 0
        assert "GET /api/status → 200" in log
        assert "launcher has ended" in log

    def test_a_second_signal_ends_what_runs(self, tmp_path: Path) -> None:
        backend = Path(__file__).parent.parent / "backend.py"
        (tmp_path / "routes.toml").write_text(
            '[launcher]\nstate_file = ""\n[routes.slow]\n'
            f'command = ["{sys.executable}", "{backend}", "--port", "{{port}}"]\n'
        )
        process = subprocess.Popen(
            command("serve", "--listen", "127.0.0.1:0", "--log-format", "human"),
            env=ENVIRON,
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stderr is not None
            while "serves" not in (line := process.stderr.readline()):
                assert line, "it ended before it served"
            port = int(line.rpartition(":")[2])
            body = '{"model": "slow", "stream": true, "x_tokens": 100000, "x_delay": 0.05}'
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("POST", "/v1/chat/completions", body)
            response = connection.getresponse()
            assert response.read(1)
            process.send_signal(signal.SIGTERM)
            while "finishing what runs" not in process.stderr.readline():
                pass
            process.send_signal(signal.SIGTERM)
            log = process.stderr.read()
            connection.close()

        assert process.returncode == 130
        assert "Traceback" not in log
        assert "not waiting any longer" in log
