"""`GET /`: where to look next."""

from __future__ import annotations

from typing_extensions import TypedDict

from launcher.api.answers import json_answer
from launcher.api.contract import ApiRequest, ApiResponse
from launcher.api.endpoint import Endpoint
from launcher.api.shapes import shape


@shape
class Pointed(TypedDict):
    """Where to look next."""

    message: str
    see: list[str]
    """Paths."""


class Pointer:
    """For whoever opens the launcher's address."""

    def endpoints(self) -> tuple[Endpoint, ...]:
        """GET /"""
        return (
            Endpoint(
                method="GET", path="/", need="open", answer=self.show, tag="page",
                operation="get_pointer",
                summary="Points to the others.",
                answers={200: Pointed},
            ),
        )  # fmt: skip

    async def show(self, request: ApiRequest) -> ApiResponse:
        """GET /"""
        return json_answer(
            Pointed(
                message="This is a lazy-launch proxy. Clients of the OpenAI API use "
                "/openai/v1; each route answers under its own prefix.",
                see=["/admin", "/openai/v1/models", "/routes", "/stats", "/healthz", "/readyz"],
            )
        )
