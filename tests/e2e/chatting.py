"""Streamed chats with the scripted backend, and whether an answer is whole."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

import aiohttp


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    text: str
    """What was said; the body, where the status isn't 200."""
    done: bool
    """The stream came to its own end."""
    first: float
    """Seconds from asking to the first event; comments to keep the stream alive are none."""


def question(model: str, **more: object) -> dict[str, object]:
    """A chat request's body."""
    return {"model": model, "messages": [{"role": "user", "content": "?"}], **more}


def words(name: str, tokens: int) -> str:
    """What the backend of that name says in so many tokens."""
    return "".join(f"{name}-{number} " for number in range(tokens))


async def chat(
    session: aiohttp.ClientSession, base: str, model: str, tokens: int, delay: float
) -> Answer:
    """Ask for so many tokens at that pace, streamed, at the unified endpoint.

    Raises aiohttp.ClientError where the stream breaks off, ValueError or LookupError where an
    event is none of a chat's.
    """
    asked = time.monotonic()
    body = question(model, stream=True, x_tokens=tokens, x_delay=delay)
    async with session.post(f"{base}/openai/v1/chat/completions", json=body) as answer:
        if answer.status != 200:
            return Answer(answer.status, await answer.text(), False, time.monotonic() - asked)
        said, done, first = "", False, 0.0
        async for line in answer.content:
            if not line.startswith(b"data: "):
                continue
            first = first or time.monotonic() - asked
            data = line.removeprefix(b"data: ").strip()
            if data == b"[DONE]":
                done = True
            else:
                event = json.loads(data)
                if "error" in event:
                    raise ValueError(f"an error in the stream: {event['error']}")
                said += event["choices"][0]["delta"].get("content") or ""
    return Answer(200, said, done, first)
