"""[keys.NAME] and the two lists: one kind of key, and what may be wrong with them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from launcher.config import KeyConfig, Secret
from launcher.config.api_keys import digest
from launcher.core.types import Priority, Wake
from tests.config.documents import load, problems

ROUTES = """
[routes.coder]
container = "coder"
[routes.chat]
container = "chat"
"""
HASH = hashlib.sha256(b"sk-alice").hexdigest()


def keys(folder: Path, text: str, environ: dict[str, str] | None = None) -> list[KeyConfig]:
    return list(load(folder, text + ROUTES, environ).keys)


def wrong(folder: Path, text: str) -> list[str]:
    return problems(folder, text + ROUTES)


def test_a_key_by_its_hash(tmp_path: Path) -> None:
    (key,) = keys(tmp_path, f'[keys.alice]\nhash = "{HASH.upper()}"\n')
    assert key == KeyConfig("alice", digest("sk-alice"))
    assert (key.scopes, key.routes, key.secret) == ({"infer"}, None, None)


def test_everything_that_a_key_may_say(tmp_path: Path) -> None:
    (key,) = keys(
        tmp_path,
        f"""[keys.alice]
hash = "{HASH}"
scopes = ["infer", "admin"]
routes = ["coder"]
priority = "batch"
wake = "if-idle"
max_in_flight = 2
requests_per_minute = 30
""",
    )
    assert key == KeyConfig(
        "alice",
        digest("sk-alice"),
        frozenset({"infer", "admin"}),
        frozenset({"coder"}),
        Priority.BATCH,
        Wake.IF_IDLE,
        2,
        30,
    )


def test_a_key_by_its_value(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("sk-alice\n")
    for value in ("${ALICE}", f"file:{tmp_path}/secret"):
        text = f'[keys.alice]\nvalue = "{value}"\n'
        (key,) = keys(tmp_path, text, {"ALICE": "sk-alice"})
        assert (key.digest, key.secret) == (digest("sk-alice"), Secret("sk-alice"))
        assert "sk-alice" not in repr(key)


def test_the_lists_are_the_same_kind(tmp_path: Path) -> None:
    text = '[launcher]\napi_keys = ["a", "both"]\nadmin_keys = ["root", "both"]\n'
    found = {key.name: key for key in keys(tmp_path, text)}
    scopes = {name: set(key.scopes) for name, key in found.items()}
    assert scopes == {
        "api_keys:1": {"infer", "observe"},
        "api_keys:2": {"infer", "observe", "admin"},
        "admin_keys:1": {"admin"},
    }
    assert found["api_keys:1"].secret == Secret("a")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "[keys.alice]: has neither hash nor value: `launcher key new --name alice`"),
        (f'hash = "{HASH}"\nvalue = "x"', "value: says hash and value"),
        ('hash = "abc"', "hash: expected the 64 hexadecimal digits"),
        ("hash = 7", "hash: expected the 64 hexadecimal digits"),
        ('value = ""', "value: is empty"),
        ('value = "${NOBODY}"', "value: ${NOBODY} is not set"),
        ('value = "two\\nlines"', "value: expected one line of printable ASCII"),
        ('value = "x"\nscopes = ["inferr"]', 'scopes: expected "infer", "observe" or "admin"'),
        ('value = "x"\nscopes = []', "scopes: expected a list with something in it"),
        ('value = "x"\nroutes = []', "routes: expected a list with something in it"),
        ('value = "x"\nroutes = ["codr"]', 'there is no route "codr" (did you mean "coder"?)'),
        ('value = "x"\nmax_in_flight = 0', "max_in_flight: expected a whole number above zero"),
        ('value = "x"\nrequests_per_minute = 1.5', "requests_per_minute: expected a whole number"),
        ('value = "x"\npriority = "low"', "priority: expected"),
        ('value = "x"\nwake = "no"', "wake: expected"),
        ('value = "x"\nrate = 5', "rate: unknown key"),
        ('value = "x"\nlinger = 5', "linger: does not belong here, but in [backends.NAME]"),
    ],
)
def test_what_may_be_wrong(tmp_path: Path, lines: str, said: str) -> None:
    (problem,) = wrong(tmp_path, f"[keys.alice]\n{lines}\n")
    assert said in problem
    assert problem.startswith("routes.toml:")
    assert "[keys.alice]" in problem


def test_a_name_is_a_word(tmp_path: Path) -> None:
    (problem,) = wrong(tmp_path, '[keys."Al ice"]\nvalue = "x"\n')
    assert "a key's name is lower-case words joined by dashes, such as al-ice" in problem


def test_two_tables_cant_share_a_key(tmp_path: Path) -> None:
    text = f"""[launcher]
api_keys = ["shared"]
[keys.alice]
hash = "{HASH}"
[keys.bob]
value = "sk-alice"
[keys.carol]
value = "shared"
"""
    first, second = wrong(tmp_path, text)
    assert "[keys.bob]: is the key of [keys.alice], too" in first
    assert "[keys.carol]: is the key of api_keys:1, too" in second
    assert "sk-alice" not in first


def test_no_address_is_for_both(tmp_path: Path) -> None:
    text = '[launcher]\nlisten = ["127.0.0.1:1", "unix:/x", ":0"]\n'
    text += 'admin_listen = ["127.0.0.1:1", "unix:/x", ":0"]\n'
    first, second = wrong(tmp_path, text)
    assert "admin_listen: 127.0.0.1:1 is among listen too" in first
    assert "unix:/x is among listen too" in second


@pytest.mark.parametrize("name", ["http://x", "gpu:8000", "*x", "*.", "a b", "*.*.x"])
def test_allowed_hosts_are_names(tmp_path: Path, name: str) -> None:
    (problem,) = wrong(tmp_path, f'[launcher]\nallowed_hosts = ["{name}"]\n')
    assert "allowed_hosts: expected host names such as" in problem
    text = f'[launcher]\nallowed_hosts = ["GPU.example.org.", "*.Example.net", "*"]\n{ROUTES}'
    assert load(tmp_path, text).allowed_hosts == ("gpu.example.org", "*.example.net", "*")
