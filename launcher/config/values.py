"""Values as people write them: durations, sizes, names, lists, paths, addresses.

Each function takes what TOML or the environment gave and returns the checked value; it
raises ValueError with what was expected, in words that end a sentence beginning with the
key's name. A message never quotes the value, which may be a secret; the caller knows.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Mapping
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from launcher.config import (
    ON_LEASE,
    PRIORITIES,
    QUIET,
    WAKES,
    Health,
    KeyScope,
    Listen,
    ModelSpec,
    PolicyName,
    Secret,
)
from launcher.core.types import Needs, OnLease, Priority, Wake

T = TypeVar("T")

_DURATION_UNITS = {
    "ms": 0.001,
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)(b?)", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_RESOURCE = re.compile(r"[a-z][a-z0-9_-]*")
_DIGEST = re.compile(r"[0-9A-Fa-f]{64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

DURATION = 'a duration such as "90s", "10m" or "1h30m" (a bare number is seconds)'


def seconds(raw: object) -> float:
    """A duration: a number of seconds, or numbers with units (`1h30m`, `500 ms`)."""
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        value = float(raw)
    elif isinstance(raw, str):
        value = _seconds_of(raw.strip().lower())
    else:
        raise ValueError(f"expected {DURATION}")
    if not 0 <= value < math.inf:
        raise ValueError(f"expected {DURATION}, not negative")
    return value


def _seconds_of(text: str) -> float:
    if _NUMBER.fullmatch(text):
        return float(text)
    total, at = 0.0, 0
    while at < len(text):
        part = _DURATION_PART.match(text, at)
        if part is None or part[2] not in _DURATION_UNITS:
            raise ValueError(f"expected {DURATION}")
        total += float(part[1]) * _DURATION_UNITS[part[2]]
        at = part.end()
    if not at:
        raise ValueError(f"expected {DURATION}")
    return total


def positive_seconds(raw: object) -> float:
    """A duration above zero."""
    value = seconds(raw)
    if not value:
        raise ValueError(f"expected {DURATION}, above zero")
    return value


def seconds_or_never(raw: object) -> float:
    """A duration; 0 and "never" are `inf`."""
    if isinstance(raw, str) and raw.strip().lower() == "never":
        return math.inf
    try:
        return seconds(raw) or math.inf
    except ValueError as error:
        raise ValueError(f'{error}, or "never"') from None


def seconds_or_none(raw: object) -> float | None:
    """A duration; 0 and "never" are None: no limit."""
    value = seconds_or_never(raw)
    return None if value == math.inf else value


def size(raw: object) -> int:
    """A size in bytes, or plain units: an integer, or `24GiB`, `500MB`, `64M`.

    One letter alone counts in powers of 1024, as `docker run --memory` does.
    """
    expected = 'expected a whole number or a size such as "24GiB" or "500MB"'
    if isinstance(raw, int) and not isinstance(raw, bool):
        value = float(raw)
    elif isinstance(raw, str) and (found := _SIZE.fullmatch(raw.strip())):
        number, letter, binary, byte = found.groups()
        if binary and not letter:
            raise ValueError(expected)
        base = 1000 if letter and byte and not binary else 1024
        value = float(number) * base ** " kmgt".index(letter.lower() or " ")
    else:
        raise ValueError(expected)
    if value < 0 or value != int(value):
        raise ValueError(f"{expected}, not negative and not a fraction")
    return int(value)


def needs(raw: object) -> Needs:
    """Named budgets, `{ gpu = 1 }` or `{ vram = "24GiB" }`: sorted, zeros left out."""
    if not isinstance(raw, dict):
        raise ValueError('expected a table such as { gpu = 1 } or { vram = "9GiB" }')
    found: list[tuple[str, int]] = []
    for name, units in raw.items():
        if not _RESOURCE.fullmatch(name):
            raise ValueError(f"a resource is a lower-case word, which {name!r} is not")
        try:
            found.append((name, size(units)))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return tuple(sorted((name, units) for name, units in found if units))


def whole(raw: object) -> int:
    """A whole number, zero or more."""
    if isinstance(raw, str) and raw.strip().isascii() and raw.strip().isdigit():
        return int(raw)
    if isinstance(raw, int) and not isinstance(raw, bool) and raw >= 0:
        return raw
    raise ValueError("expected a whole number")


def positive(raw: object) -> int:
    """A whole number, one or more."""
    value = whole(raw)
    if not value:
        raise ValueError("expected a whole number above zero")
    return value


def port(raw: object) -> int:
    """A TCP port."""
    try:
        value = whole(raw)
    except ValueError:
        value = 0
    if not 1 <= value <= 65535:
        raise ValueError("expected a port from 1 to 65535")
    return value


def boolean(raw: object) -> bool:
    """true or false; in the environment also 1/0, yes/no, on/off."""
    if isinstance(raw, bool):
        return raw
    word = raw.strip().lower() if isinstance(raw, str) else ""
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise ValueError("expected true or false")


def text(raw: object) -> str:
    """A string with something in it, and no control characters."""
    if isinstance(raw, str) and raw.strip() and raw.isprintable():
        return raw.strip()
    raise ValueError("expected a string that isn't empty")


def texts(raw: object) -> tuple[str, ...]:
    """A list of strings; one string is split at its commas."""
    if isinstance(raw, str):
        return tuple(part.strip() for part in raw.split(",") if part.strip())
    if isinstance(raw, list):
        return tuple(text(one) for one in raw)
    raise ValueError("expected a list of strings")


def some_texts(raw: object) -> tuple[str, ...]:
    """The same, and not empty."""
    found = texts(raw)
    if not found:
        raise ValueError("expected a list with something in it, or nothing at all")
    return found


def secret(raw: object) -> Secret | None:
    """A secret; an empty one is None."""
    if not isinstance(raw, str):
        raise ValueError("expected a string")
    value = raw.strip()
    if not value.isprintable() or not value.isascii():
        # It travels in a header (RFC 9110, 5.5).
        raise ValueError("expected one line of printable ASCII")
    return Secret(value) if value else None


def some_secret(raw: object) -> Secret:
    """A secret that isn't empty."""
    found = secret(raw)
    if found is None:
        raise ValueError("is empty, so that nothing would open")
    return found


def secrets(raw: object) -> tuple[Secret, ...]:
    """A list of secrets, empty ones left out; one string is split at commas and lines."""
    if isinstance(raw, str):
        raw = [part for line in raw.splitlines() for part in line.split(",")]
    if not isinstance(raw, list):
        raise ValueError("expected a list of strings")
    found = [one for one in map(secret, raw) if one is not None]
    return tuple(dict.fromkeys(found))


def digest(raw: object) -> bytes:
    """A SHA-256 in hexadecimal."""
    if isinstance(raw, str) and _DIGEST.fullmatch(raw.strip()):
        return bytes.fromhex(raw.strip())
    raise ValueError("expected the 64 hexadecimal digits that `launcher key new` prints")


def scopes(raw: object) -> frozenset[KeyScope]:
    """What a key is good for."""
    return frozenset(_one_of(one, _SCOPES) for one in some_texts(raw))


def container(raw: object) -> str:
    """A container's name or compose service, of the characters that Docker allows."""
    if isinstance(raw, str) and _NAME.fullmatch(raw.strip()):
        return raw.strip()
    raise ValueError("expected the name of a container or compose service (letters, digits, _.-)")


def command(raw: object) -> tuple[str, ...]:
    """A program and its arguments."""
    if isinstance(raw, list) and raw and all(isinstance(one, str) for one in raw) and raw[0]:
        if any("\0" in one for one in raw):
            raise ValueError("an argument can't hold a NUL character")
        return tuple(raw)
    raise ValueError('expected a list: the program, then each argument: ["llama-server", "-m", …]')


def variables(raw: object) -> tuple[tuple[str, str], ...]:
    """A table of environment variables."""
    if not isinstance(raw, dict):
        raise ValueError('expected a table such as { CUDA_VISIBLE_DEVICES = "0" }')
    for name, value in raw.items():
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"{name!r} can't be the name of a variable")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"{name}: expected a string or a number")
        if "\0" in str(value):
            raise ValueError(f"{name}: a variable can't hold a NUL character")
    return tuple((name, str(value)) for name, value in raw.items())


def model(raw: object) -> ModelSpec:
    """A model: its id, or `{ id = "gpt-4o", upstream = "Qwen/…" }`."""
    if isinstance(raw, dict):
        if set(raw) - {"id", "upstream"} or "id" not in raw:
            raise ValueError('expected { id = "…", upstream = "…" }')
        upstream = _model_id(raw["upstream"]) if "upstream" in raw else None
        return ModelSpec(_model_id(raw["id"]), upstream)
    return ModelSpec(_model_id(raw))


def _model_id(raw: object) -> str:
    if isinstance(raw, str) and raw.strip() and raw.isprintable():
        return raw.strip()
    raise ValueError('expected model ids such as "coder" or { id = "gpt-4o", upstream = "Qwen/…" }')


def models(raw: object) -> tuple[ModelSpec, ...]:
    """A list of models; one string is split at its commas."""
    if isinstance(raw, str):
        raw = list(texts(raw))
    if not isinstance(raw, list):
        raise ValueError("expected a list of model ids")
    return tuple(model(one) for one in raw)


def _one_of(raw: object, words: Mapping[str, T]) -> T:
    """What one of some words stands for."""
    if isinstance(raw, str) and (word := raw.strip().lower()) in words:
        return words[word]
    *others, last = (f'"{word}"' for word in words)
    raise ValueError(f"expected {', '.join(others)} or {last}")


_SCOPES: dict[str, KeyScope] = {"infer": "infer", "observe": "observe", "admin": "admin"}
_AUTH: dict[str, Literal["inject", "passthrough"]] = {
    "inject": "inject",
    "passthrough": "passthrough",
}
_POLICIES: dict[str, PolicyName] = {
    "bounded": "bounded",
    "arrival": "arrival",
    "collation": "collation",
}


def auth(raw: object) -> Literal["inject", "passthrough"]:
    """What happens to the client's credentials."""
    return _one_of(raw, _AUTH)


def policy(raw: object) -> PolicyName:
    """How the scheduler decides."""
    return _one_of(raw, _POLICIES)


def priority(raw: object) -> Priority:
    """A request's class."""
    return _one_of(raw, PRIORITIES)


def wake(raw: object) -> Wake:
    """What a request may cause where its backend isn't up."""
    return _one_of(raw, WAKES)


def on_lease(raw: object) -> OnLease:
    """What a request does that needs a leased place."""
    return _one_of(raw, ON_LEASE)


def state_file(raw: object) -> str:
    """A file's path; "none" (or nothing) keeps no state."""
    if not isinstance(raw, str):
        raise ValueError('expected a path, or "none"')
    return "" if raw.strip() == "none" else raw.strip()


_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
#: Path segments that need no thought: no escapes, no dot segments, nothing HTTP treats apart.
_SEGMENT = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~!$&'()*+,;=:@-]+")


def health(raw: object) -> Health:
    """How readiness is asked: a path, `docker`, or `tcp`."""
    if isinstance(raw, str):
        word = raw.strip()
        if word in ("docker", "tcp"):
            return Health("docker" if word == "docker" else "tcp")
        if word.startswith("/"):
            return Health("http", request_path(word))
    raise ValueError('expected a path such as "/health", or "docker", or "tcp"')


def request_path(raw: object) -> str:
    """A path on a backend, with or without a query."""
    if isinstance(raw, str) and re.fullmatch(r"/[!-~]*", raw.strip()) and "#" not in raw:
        return raw.strip()
    raise ValueError('expected a path such as "/health": from the slash on, no spaces, no #')


def quiet(raw: object) -> tuple[str, ...]:
    """Paths behind the prefix that neither wake nor keep; "default" stands for the usual ones."""
    found: list[str] = []
    for one in texts(raw):
        found += QUIET if one == "default" else (request_path(one),)
    return tuple(dict.fromkeys(found))


def prefix(raw: object) -> str:
    """A path prefix: `/v2/coder`. A slash at its end is dropped."""
    if isinstance(raw, str):
        path = raw.strip().rstrip("/")
        if path.startswith("/") and all(map(_SEGMENT.fullmatch, path[1:].split("/"))):
            return path
    raise ValueError('expected a path prefix such as "/v2/coder", without %, "..", "//" or "?"')


def prefixes(raw: object) -> tuple[str, ...]:
    """One path prefix or several."""
    return tuple(dict.fromkeys(prefix(one) for one in texts(raw)))


def host_name(raw: object) -> str:
    """A host name as clients send it, in lower case, without a port."""
    if isinstance(raw, str) and _HOST.fullmatch(name := raw.strip().lower().rstrip(".")):
        return name
    raise ValueError('expected a host name such as "comfy.lan", without a port')


def host_names(raw: object) -> tuple[str, ...]:
    """One host name or several."""
    return tuple(dict.fromkeys(host_name(one) for one in texts(raw)))


def allowed_hosts(raw: object) -> tuple[str, ...]:
    """Host names; `*.example.org` for all below one, `*` for any."""
    found = []
    for one in texts(raw):
        name = one.removeprefix("*.")
        try:
            found.append(one if one == "*" else one[: len(one) - len(name)] + host_name(name))
        except ValueError:
            raise ValueError(
                'expected host names such as "gpu.example.org" or "*.example.org", without a '
                'port, or "*"'
            ) from None
    return tuple(dict.fromkeys(found))


def host_header(raw: object) -> Literal["client", "backend"]:
    """Whose Host header a backend sees."""
    if raw == "client":
        return "client"
    if raw == "backend":
        return "backend"
    raise ValueError('expected "client" or "backend"')


def scheme(raw: object) -> Literal["http", "https"]:
    """How a backend is spoken to."""
    if raw == "http":
        return "http"
    if raw == "https":
        return "https"
    raise ValueError('expected "http" or "https"')


def base_path(raw: object) -> str:
    """Put before every path on its way to the backend: empty, or `/x`."""
    if raw in ("", "/"):
        return ""
    return prefix(raw)


def _host_and_port(raw: str) -> tuple[str, int]:
    """`host:port`, `[v6]:port`, `:port`. Raises ValueError."""
    parts = urlsplit(f"//{raw}")
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        raise ValueError
    host = parts.hostname or ""
    if ":" in host:
        ipaddress.IPv6Address(host)
    elif host and host != "*" and not _HOST.fullmatch(host):
        raise ValueError
    if parts.port is None:
        raise ValueError
    return host, parts.port


def address(raw: object) -> str:
    """Where a backend answers: `host:port` or `unix:/path`."""
    expected = 'expected "host:port" or "unix:/path"'
    if not isinstance(raw, str):
        raise ValueError(expected)
    where = raw.strip()
    if where.startswith("unix:"):
        if not where.startswith("unix:/"):
            raise ValueError(expected)
        return where
    try:
        host, number = _host_and_port(where)
    except ValueError:
        raise ValueError(expected) from None
    if not host or host == "*" or not number:
        raise ValueError(expected)
    return where


def listen_on(raw: object) -> Listen:
    """One address to listen on: `host:port`, `:port` (everywhere), `unix:/path`, or a port.

    Port 0 asks for a free one.
    """
    expected = 'expected "host:port", ":port" or "unix:/path"'
    where = str(raw).strip() if isinstance(raw, str | int) and not isinstance(raw, bool) else ""
    if where.startswith("unix:/"):
        return Listen(unix_path=where.removeprefix("unix:"))
    try:
        host, number = _host_and_port(f":{where}" if where.isdigit() else where)
    except ValueError:
        raise ValueError(expected) from None
    return Listen(host if host and host != "*" else "0.0.0.0", number)


def listens(raw: object) -> tuple[Listen, ...]:
    """One address to listen on or several."""
    parts: list[object] = list(texts(raw)) if isinstance(raw, str) else []
    if isinstance(raw, list):
        parts = raw
    elif not isinstance(raw, str):
        parts = [raw]
    if not parts:
        raise ValueError('expected an address such as "0.0.0.0:8000"')
    return tuple(dict.fromkeys(listen_on(one) for one in parts))


def networks(raw: object) -> tuple[str, ...]:
    """Networks in CIDR notation; a single address is a network of one."""
    try:
        return tuple(str(ipaddress.ip_network(one, strict=False)) for one in texts(raw))
    except ValueError:
        raise ValueError('expected networks such as ["10.0.0.0/8", "127.0.0.1"]') from None


def engine(raw: object) -> str:
    """The Docker Engine's address; a bare path is a socket's."""
    if isinstance(raw, str):
        where = raw.strip()
        if where.startswith("/"):
            return f"unix://{where}"
        if re.fullmatch(r"(unix:///|(tcp|https?)://[^/])\S*", where):
            return where
    raise ValueError('expected "unix:///var/run/docker.sock" or "tcp://host:2375"')
