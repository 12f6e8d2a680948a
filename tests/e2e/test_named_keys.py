"""[keys.NAME]: what a key of some routes, of some scopes, of so many a minute can do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import openai
import pytest

from tests.e2e.guarded import bearer, code
from tests.e2e.serving import Launcher, process_route, until

ALICE = hashlib.sha256(b"sk-alice").hexdigest()
KEYS = f"""[keys.alice]
hash = "{ALICE}"
routes = ["one"]
requests_per_minute = 4
[keys.bob]
value = "sk-bob"
wake = "never"
[keys.eye]
value = "sk-eye"
scopes = ["observe"]
"""


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    folder = tmp_path_factory.mktemp("keys")
    routes = process_route("one") + process_route("two")
    with Launcher(folder, routes, top=KEYS) as running:
        yield running


class TestKeysOfTheirOwn:
    def test_lists_hold_what_the_key_may_use(self, launcher: Launcher) -> None:
        for key, models in (("sk-alice", {"one"}), ("sk-bob", {"one", "two"})):
            with launcher.client(api_key=key) as client:
                assert {model.id for model in client.models.list()} == models
                with pytest.raises(openai.NotFoundError):
                    client.models.retrieve("two" if key == "sk-alice" else "three")

    def test_another_routes_key_starts_nothing(self, launcher: Launcher) -> None:
        chat = json.dumps({"model": "two", "messages": []}).encode()
        for path, body in (("/two/v1/models", None), ("/v1/chat/completions", chat)):
            status, answer = launcher.request(
                "POST" if body else "GET", path, body, **bearer("sk-alice")
            )
            assert (status, code(answer)) == (403, "wrong_key")
            assert "alice isn't good for" in json.loads(answer)["error"]["message"]
        status, answer = launcher.request("POST", "/v1/chat/completions", chat, **bearer("sk-bob"))
        assert (status, code(answer)) == (503, "not_resident")
        seen = json.loads(launcher.get("/api/status", **bearer("sk-eye"))[1])["backends"]
        assert [(one["state"], one["start_metrics"]["start_count"]) for one in seen] == [
            ("stopped", 0)
        ] * 2

    def test_looking_takes_a_key_for_it(self, launcher: Launcher) -> None:
        for path in ("/stats", "/metrics", "/api/status", "/api/decisions"):
            status, answer = launcher.get(path, **bearer("sk-alice"))
            assert (status, code(answer)) == (403, "wrong_key")
            assert launcher.get(path, **bearer("sk-eye"))[0] == 200
        assert launcher.get("/one/x", **bearer("sk-eye"))[0] == 403

    def test_so_many_a_minute_and_the_log_knows_whose(self, launcher: Launcher) -> None:
        def ask(client: openai.OpenAI) -> None:
            for _ in range(5):
                client.chat.completions.create(model="one", messages=[])

        def logged() -> list[dict[str, object]]:
            return [line for line in launcher.lines() if line.get("key") == "alice"]

        with launcher.client(api_key="sk-alice") as client:
            with pytest.raises(openai.RateLimitError) as caught:
                ask(client)
            assert caught.value.code == "rate_limited"
            assert 0 < int(caught.value.response.headers["retry-after"]) <= 60
        until(lambda: logged()[-1].get("code") == "rate_limited", "the refusal is in the log")
        served = [line["status"] for line in logged() if line.get("route") == "one"]
        assert set(served) == {200}
        assert 1 <= len(served) <= 4
        metrics = launcher.get("/metrics", **bearer("sk-eye"))[1].decode()
        assert 'launcher_requests_total{code="429",route="?"} 1.0' in metrics
        assert "sk-" not in launcher.log()
