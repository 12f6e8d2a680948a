"""The reference says what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.api.openapi import ENDPOINTS
from launcher.config.schema import KEYS
from launcher.errors import ERROR_KINDS
from launcher.reference import NEEDS, main, rendered, table
from launcher.telemetry.metrics_table import METRICS

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


def test_it_has_every_endpoint() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for one in ENDPOINTS:
        assert f"| `{one.method} {one.template}` | {NEEDS[one.need]} | {one.summary}" in page


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
