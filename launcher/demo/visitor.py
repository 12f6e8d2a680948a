"""A client for the demo's self-check: asks models over HTTP as anybody would.

Blocking (urllib), for a thread of its own; knows the OpenAI API and nothing of the launcher.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request

#: Seconds for one answer, the model's start included; a real model's takes its time.
TIMEOUT = 600.0


class NoAnswer(Exception):
    """The launcher or a model didn't answer as it should; says what was asked."""


def ask(base: str, model: str, question: str) -> str:
    """What a model says, by way of the unified endpoint. Raises NoAnswer."""
    body = _question(question) | {"model": model}
    answer = _post(f"{base}/openai/v1/chat/completions", body)
    return _said(answer, "message")


def ask_streaming(base: str, route: str, question: str) -> list[str]:
    """The pieces in which a route's model says it. Raises NoAnswer, also for a stream that
    ends without its `[DONE]`."""
    url = f"{base}/{route}/v1/chat/completions"
    lines = _post(url, _question(question) | {"stream": True}).splitlines()
    events = [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: ")]
    if not events or events[-1] != b"[DONE]":
        raise NoAnswer(f"{url}: the stream has no end: {lines[-1:]!r}")
    return [piece for event in events[:-1] if (piece := _said(event, "delta"))]


def _question(text: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 200}


def _post(url: str, body: dict[str, object]) -> bytes:
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            content: bytes = answer.read()
            return content
    except urllib.error.HTTPError as error:
        with error:
            raise NoAnswer(f"{url}: {error.code} {error.read().decode(errors='replace')}") from None
    except OSError as error:
        raise NoAnswer(f"{url}: {error}") from error


def _said(answer: bytes, part: str) -> str:
    try:
        choices = json.loads(answer)["choices"]
        return "".join(choice[part].get("content") or "" for choice in choices)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoAnswer(f"not a chat completion: {answer[:200]!r}") from error
