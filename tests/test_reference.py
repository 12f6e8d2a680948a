"""The reference says what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.api.router import OwnApi
from launcher.api.stats import History
from launcher.decisions import DecisionLog
from launcher.errors import ERROR_KINDS
from launcher.loading.keys import KEYS
from launcher.metrics import Metrics
from launcher.metrics_table import METRICS
from launcher.reference import ENDPOINTS, Endpoint, main, rendered, table
from tests.api.world import CONFIG, FakeControl

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference.md"


def test_the_page_is_up_to_date() -> None:
    assert main(["--check", "--page", str(PAGE)]) == 0


def test_it_has_every_key_error_and_metric() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in (
        *(key.name for key in KEYS),
        *ERROR_KINDS,
        *(metric.name for metric in METRICS),
    ):
        assert f"| `{name}` |" in page, name


@pytest.fixture
def api() -> OwnApi:
    control = FakeControl()
    return OwnApi(
        CONFIG, control, Metrics(CONFIG, control.snapshot), History(CONFIG), DecisionLog()
    )


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: f"{one.method} {one.path}")
def test_every_endpoint_is_there_and_asks_what_the_page_says(
    api: OwnApi, endpoint: Endpoint
) -> None:
    path = endpoint.path.replace("{id}", "org/model").replace("{name}", "coder")
    found = api.find(endpoint.method, path)
    assert found is not None
    assert found.need == endpoint.need


def test_no_endpoint_is_left_out(api: OwnApi) -> None:
    fixed = {(method, path) for path, methods in api._exact.items() for method in methods}
    actions = {
        (method, f"/api/routes/{{name}}/{action}")
        for action, methods in api._actions.items()
        for method in methods
    }
    assert fixed | actions <= {(one.method, one.path) for one in ENDPOINTS}


def stale(folder: Path) -> Path:
    """A copy of the page with one table emptied."""
    copy = folder / "reference.md"
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split("<!-- begin errors -->\n")
    _, after = rest.split("<!-- end errors -->")
    copy.write_text(f"{before}<!-- begin errors -->\n<!-- end errors -->{after}", encoding="utf-8")
    return copy


def test_a_page_that_is_out_of_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = stale(tmp_path)
    assert main(["--check", "--page", str(page)]) == 1
    assert "out of date" in capsys.readouterr().err
    assert main(["--write", "--page", str(page)]) == 0
    assert page.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")
    assert main(["--check", "--page", str(page)]) == 0


@pytest.mark.parametrize(
    ("page", "odd"),
    [("", "endpoints"), ("<!-- begin other -->\n<!-- end other -->", "other")],
)
def test_a_page_without_all_the_tables(page: str, odd: str) -> None:
    with pytest.raises(ValueError, match=odd):
        rendered(page)


def test_tables() -> None:
    assert table(("a", "b"), [("x|y", "")]) == "| a | b |\n| --- | --- |\n| x\\|y |  |\n"


def test_the_rest_of_the_page_stays(tmp_path: Path) -> None:
    page = stale(tmp_path)
    page.write_text("By hand.\n" + page.read_text(encoding="utf-8"), encoding="utf-8")
    main(["--write", "--page", str(page)])
    assert page.read_text(encoding="utf-8") == "By hand.\n" + PAGE.read_text(encoding="utf-8")
