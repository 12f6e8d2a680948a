"""`GET /metrics`: the metrics for Prometheus."""

from __future__ import annotations

from typing import Protocol

from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.endpoint import Endpoint


class Scrape(Protocol):
    """What is needed of the metrics."""

    @property
    def content_type(self) -> str: ...

    async def render(self) -> bytes:
        """Everything, as text of that type."""
        ...


class Exposition:
    """Prometheus's text."""

    def __init__(self, metrics: Scrape) -> None:
        self._metrics = metrics

    def endpoints(self) -> tuple[Endpoint, ...]:
        """GET /metrics"""
        return (
            Endpoint(
                method="GET", path="/metrics", need="observe", answer=self.show, tag="status",
                operation="get_metrics",
                summary="Prometheus; the table is below.",
                answers={200: str},
                produces="text/plain",
            ),
        )  # fmt: skip

    async def show(self, request: ApiRequest) -> ApiResponse:
        """GET /metrics"""
        return ApiResponse(await self._metrics.render(), content_type=self._metrics.content_type)
