"""All of the launcher's own endpoints: which paths are its, who may ask, what is declared."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from launcher.api.assembly import CONCERNS, OwnApi, described
from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.endpoint import Endpoint, OwnEndpoints
from launcher.api.stats import History
from launcher.errors import LauncherError
from launcher.telemetry.decisions import DecisionLog
from launcher.telemetry.metrics import Metrics
from tests.api.world import CONFIG, FakeControl, FakeReloads, plane, read, request, watched


async def nobody(request: ApiRequest) -> ApiResponse:
    raise AssertionError("not asked")


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def api(control: FakeControl) -> OwnApi:
    metrics = Metrics(CONFIG, control.snapshot)
    return OwnApi(
        CONFIG,
        control,
        metrics,
        History(CONFIG),
        DecisionLog(),
        FakeReloads(),
        plane=plane(control),
        watched=watched(control),
    )


def test_it_keeps_the_contract(api: OwnApi) -> None:
    kept: OwnEndpoints = api
    assert kept.find("GET", "/healthz") is not None


@pytest.mark.parametrize(
    ("method", "path", "need"),
    [
        ("GET", "/", "open"),
        ("GET", "/healthz", "open"),
        ("HEAD", "/healthz", "open"),
        ("GET", "/readyz", "open"),
        ("GET", "/routes", "observe"),
        ("GET", "/stats", "observe"),
        ("GET", "/metrics", "observe"),
        ("GET", "/api/status", "observe"),
        ("GET", "/api/decisions", "observe"),
        ("GET", "/api/routes/coder/plan", "observe"),
        ("GET", "/openai/v1/models", "known"),
        ("GET", "/openai/models", "known"),
        ("GET", "/v1/models", "known"),
        ("GET", "/v1/models/coder-fast", "known"),
        ("POST", "/api/routes/coder/start", "admin"),
        ("POST", "/api/routes/coder/stop", "admin"),
    ],
)
def test_own_paths_and_what_they_need(api: OwnApi, method: str, path: str, need: str) -> None:
    found = api.find(method, path)

    assert found is not None
    assert found.endpoint.need == need


def test_at_clients_addresses_there_are_models_and_health_and_nothing_else(api: OwnApi) -> None:
    everywhere = {one.template for one in api.endpoints if one.everywhere}
    lists = {"/openai/v1/models", "/openai/models", "/v1/models"}
    assert everywhere == {"/healthz", "/readyz", *lists, *(f"{path}/{{id}}" for path in lists)}
    for one in api.endpoints:
        path = re.sub(r"\{\w+\}", "x", one.template)
        assert api.find(one.method, path, operators=True) is not None
        found = api.find(one.method, path, operators=False)
        assert (found is not None) is one.everywhere
    # As if there were no such path: not even its methods are told.
    assert api.find("DELETE", "/api/status", operators=False) is None


@pytest.mark.parametrize(
    "path",
    [
        "/coder",
        "/coder/healthz",
        "/healthz/",
        "/healthzz",
        "/v1",
        "/v1/chat/completions",
        "/v1/modelsx",
        "/v1/models/",
        "/openai/v1/embeddings",
        "/api",
        "/api/routes/coder",
        "/api/routes/coder/restart",
        "/metrics/x",
        "//healthz",
        "",
    ],
)
def test_other_paths_are_not_ours(api: OwnApi, path: str) -> None:
    assert api.find("GET", path) is None


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/healthz", "GET"),
        ("DELETE", "/v1/models/coder-fast", "GET"),
        ("GET", "/api/routes/coder/start", "POST"),
        ("HEAD", "/api/routes/coder/stop", "POST"),
    ],
)
def test_other_methods_are_told_which(api: OwnApi, method: str, path: str, allowed: str) -> None:
    with pytest.raises(LauncherError, match=allowed) as caught:
        api.find(method, path)

    assert caught.value.status == 405


@pytest.mark.parametrize("prefix", ["/openai/v1/models/", "/openai/models/", "/v1/models/"])
@pytest.mark.parametrize("id", ["Qwen/Qwen2.5-Coder", "Qwen%2FQwen2.5-Coder"])
async def test_a_model_id_may_hold_slashes(api: OwnApi, prefix: str, id: str) -> None:
    found = api.find("GET", prefix + id)

    assert found is not None
    assert found.args == {"id": "Qwen/Qwen2.5-Coder"}
    assert (
        read(await found.endpoint.answer(request("GET", id=found.args["id"])))["id"]
        == "Qwen/Qwen2.5-Coder"
    )


def test_a_name_is_decoded_after_the_path_was_taken_apart(api: OwnApi) -> None:
    found = api.find("POST", "/api/routes/a%2Fstop/start")

    assert found is not None
    assert found.args == {"name": "a/stop"}


async def test_no_page_starts_a_backend(api: OwnApi, control: FakeControl) -> None:
    for path in ("/", "/healthz", "/readyz", "/routes", "/stats", "/metrics", "/api/status"):
        found = api.find("GET", path)
        assert found is not None
        assert (await found.endpoint.answer(request(path=path))).status == 200

    assert control.admissions == []
    assert control.stops == []


def test_what_is_described_is_what_is_served(api: OwnApi) -> None:
    def said(one: Endpoint) -> Endpoint:
        return replace(one, answer=nobody)

    assert [said(one) for one in described()] == [said(one) for one in api.endpoints]
    assert len(CONCERNS) > 9


def test_every_operation_has_a_name_of_its_own(api: OwnApi) -> None:
    names = [one.operation for one in api.endpoints]
    assert sorted(set(names)) == sorted(names)
    assert [name for name in names if not re.fullmatch(r"[a-z][a-z0-9_]+", name)] == []


def test_every_endpoint_that_answers_json_says_what_is_in_it(api: OwnApi) -> None:
    silent = [
        f"{one.method} {one.path}"
        for one in api.endpoints
        if one.produces == "application/json" and not one.answers
    ]
    assert silent == []


def test_every_summary_is_a_sentence(api: OwnApi) -> None:
    assert [one.path for one in api.endpoints if not one.summary.endswith(".")] == []
