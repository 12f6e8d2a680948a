"""Whether a backend has work of its own that no request holds: its `busy` path.

ComfyUI answers `POST /prompt` at once and renders for minutes; its `/queue` tells.
"""

from __future__ import annotations

import logging

import orjson

from launcher.config import BackendConfig
from launcher.http.endpoint import Endpoint
from launcher.runtime.fetch import FetchFailed, fetch
from launcher.runtime.probe import PROBE_TIMEOUT, key_header

log = logging.getLogger(__name__)

#: Members of a JSON answer that mean work: a list that isn't empty, true, or a number above 0.
KEYS = ("busy", "running", "queue_running", "queue_pending")
#: Bytes of the answer that are looked at. A queue longer than this isn't empty.
LIMIT = 1024 * 1024
#: Times in a row that no usable answer counts as busy. After them it doesn't: a backend that
#: hangs would otherwise keep its place for ever.
PATIENCE = 3


async def ask(config: BackendConfig, endpoint: Endpoint) -> bool | None:
    """Ask once. None: it is there but gave no usable answer; nobody there is not busy."""
    assert config.busy is not None
    try:
        reply = await fetch(
            endpoint, config.busy, headers=key_header(config), timeout=PROBE_TIMEOUT, limit=LIMIT
        )
    except FetchFailed as error:
        log.warning("asking whether %s is busy: %s", config.id, error.seen)
        return False if error.stage == "refused" else None
    if not 200 <= reply.status < 300:
        log.warning("asking whether %s is busy: it answered %d", config.id, reply.status)
        return None
    return reply.truncated or says_busy(reply.body)


def says_busy(body: bytes) -> bool:
    """Whether a 2xx answer's body speaks of work. Empty, or without any of KEYS: no work."""
    try:
        said: object = orjson.loads(body) if body.strip() else None
    except orjson.JSONDecodeError:
        return False
    if isinstance(said, dict):
        return any(_means_work(said.get(key)) for key in KEYS)
    return _means_work(said)


def _means_work(value: object) -> bool:
    if isinstance(value, bool | list):
        return bool(value)
    return isinstance(value, int | float) and value > 0
