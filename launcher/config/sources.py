"""routes.toml and secret files: raw values, each with where it was found.

Checks which tables a file has; `tables` reads the values, by the same rules and with the same
messages wherever they come from.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: Where routes.toml is looked for, in this order, unless a file is named.
DEFAULT_PLACES = ("routes.toml", "/etc/launcher/routes.toml")

#: The tables that a file may hold.
TABLES = ("launcher", "capacity", "aliases", "routes", "backends", "modes", "keys")

#: A secret file has a few lines; a larger one is the wrong file.
SECRET_FILE_LIMIT = 64 * 1024

#: `$${`, which is a literal `${`; `${NAME}` and `${NAME:-default}`; any other `${`.
_REFERENCE = re.compile(r"\$(\$\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}|(\$\{)")

_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?")
_ASSIGNMENT = re.compile(r"""\s*([A-Za-z0-9_-]+|"[^"]*"|'[^']*')\s*=""")


@dataclass(frozen=True, slots=True)
class Value:
    """A value as it was written, and where."""

    raw: object
    where: str
    """Such as `routes.toml:7: [routes.coder] port`: what a message about it begins with."""
    literal: bool = False
    """From the environment: `${…}` in it isn't expanded."""


Values = dict[str, Value]


@dataclass(slots=True)
class Document:
    """All values, by table."""

    source: str = "environment"
    launcher: Values = field(default_factory=dict)
    capacity: Value | None = None
    routes: dict[str, Values] = field(default_factory=dict)
    backends: dict[str, Values] = field(default_factory=dict)
    aliases: Values = field(default_factory=dict)
    modes: dict[str, Values] = field(default_factory=dict)
    keys: dict[str, Values] = field(default_factory=dict)
    at: dict[str, str] = field(default_factory=dict)
    """Table → where it stands: what a message about the whole table begins with."""
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean "x"?)` where a known word is close, else an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f' (did you mean "{close[0]}"?)' if close else ""


def find_file(path: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the file to read: the one named, by argument or `LAUNCHER_CONFIG`, else the first
    of the default places that exists."""
    named = path or environ.get("LAUNCHER_CONFIG")
    if named:
        return named
    return next((place for place in DEFAULT_PLACES if Path(place).is_file()), None)


def read_file(path: str) -> Document:
    """Read one file; what is wrong with it is in the document's problems."""
    document = Document(source=path)
    try:
        text = Path(path).read_bytes().decode()
        data = tomllib.loads(text)
    except OSError as error:
        document.problems.append(f"{path}: can't be read: {error.strerror}")
    except UnicodeDecodeError:
        document.problems.append(f"{path}: isn't UTF-8 text, as TOML has to be")
    except tomllib.TOMLDecodeError as error:
        document.problems.append(f"{path}: isn't valid TOML: {error}")
    except RecursionError:
        document.problems.append(f"{path}: is nested too deeply to be read")
    else:
        _sort_in(document, data, _Lines(path, text))
    return document


def _sort_in(document: Document, data: dict[str, object], lines: _Lines) -> None:
    for name, content in data.items():
        if name not in TABLES:
            hint = did_you_mean(name, TABLES)
            document.problems.append(
                f"{lines.at((name,))}: unknown{hint}: a file holds [launcher], [capacity], "
                "[aliases], [routes.NAME], [backends.NAME], [modes.NAME] and [keys.NAME]"
            )
        elif not isinstance(content, dict):
            document.problems.append(f"{lines.at((name,))}: expected a table: [{name}]")
        elif name == "launcher":
            document.launcher = _values(content, ("launcher",), lines)
        elif name == "aliases":
            document.aliases = _values(content, ("aliases",), lines)
        elif name == "capacity":
            document.capacity = Value(content, lines.at(("capacity",)))
        else:
            tables = {
                "routes": document.routes,
                "backends": document.backends,
                "modes": document.modes,
                "keys": document.keys,
            }[name]
            for one, table in content.items():
                label = f"[{name}.{one}]"
                document.at[label] = lines.at((name, one))
                if isinstance(table, dict):
                    tables[one] = _values(table, (name, one), lines)
                else:
                    document.problems.append(f"{document.at[label]}: expected a table: {label}")


def _values(table: dict[str, object], path: tuple[str, ...], lines: _Lines) -> Values:
    return {key: Value(raw, lines.at(path, key)) for key, raw in table.items()}


class _Lines:
    """Finds the line of a table or key by the beginnings of lines; for messages only."""

    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self._lines: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        for number, line in enumerate(text.splitlines(), 1):
            if header := _HEADER.fullmatch(line):
                table = tuple(part.strip().strip("\"'") for part in header[1].split("."))
                self._lines.setdefault(table, number)
            elif key := _ASSIGNMENT.match(line):
                self._lines.setdefault((*table, key[1].strip("\"'")), number)

    def at(self, table: tuple[str, ...], key: str = "") -> str:
        """`routes.toml:7: [routes.coder] port`."""
        number = self._lines.get((*table, key) if key else table)
        number = number or self._lines.get(table)
        line = f":{number}" if number else ""
        return f"{self._path}{line}: [{'.'.join(table)}]{f' {key}' if key else ''}"


class Unresolved(ValueError):
    """A variable or secret file is missing. The message is complete."""


def expand(raw: object, environ: Mapping[str, str]) -> object:
    """Fill in `${NAME}` and `${NAME:-default}` in every string, however deep.

    The default is taken where the variable is unset or empty. Raises Unresolved for a
    variable that is unset and has no default, and for a `${` that is no reference.
    """
    if isinstance(raw, str):
        return _REFERENCE.sub(lambda found: _resolve(found, environ), raw)
    if isinstance(raw, list):
        return [expand(one, environ) for one in raw]
    if isinstance(raw, dict):
        return {name: expand(one, environ) for name, one in raw.items()}
    return raw


def _resolve(found: re.Match[str], environ: Mapping[str, str]) -> str:
    literal, name, default, broken = found.groups()
    if literal:
        return "${"
    if broken:
        raise Unresolved("${ begins a variable: write ${NAME}, ${NAME:-default}, or $${ for itself")
    try:
        value = lookup(environ, name)
    except ValueError as error:
        raise Unresolved(str(error)) from None
    if default is not None:
        return value or default
    if value is None:
        raise Unresolved(
            f"${{{name}}} is not set: set {name} (or {name}_FILE, a file that holds it), "
            f"or write ${{{name}:-default}}"
        )
    return value


def read_secret_files(raw: object) -> object:
    """Replace `file:/path` by the file's content, in a list too. Raises Unresolved."""
    if isinstance(raw, list):
        parts: list[object] = []
        for one in raw:
            read = read_secret_files(one)
            # One file may hold several keys, one per line.
            parts += read.splitlines() if isinstance(read, str) else [read]
        return parts
    if isinstance(raw, str) and raw.startswith("file:"):
        try:
            return secret_file(raw.removeprefix("file:"))
        except ValueError as error:
            raise Unresolved(str(error)) from None
    return raw


def lookup(environ: Mapping[str, str], name: str) -> str | None:
    """Return a variable, or the content of the file that `<name>_FILE` names; None where neither
    is set.

    Raises ValueError where the file can't be read.
    """
    if name in environ:
        return environ[name]
    path = environ.get(f"{name}_FILE")
    if not path:
        return None
    try:
        return secret_file(path)
    except ValueError as error:
        raise ValueError(f"{name}_FILE: {error}") from None


def secret_file(path: str) -> str:
    """Return the content of a secret file without its last line end.

    Raises ValueError where it can't be read.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(SECRET_FILE_LIMIT + 1)
    except OSError as error:
        raise ValueError(f"can't read {path}: {error.strerror}") from None
    if len(data) > SECRET_FILE_LIMIT:
        raise ValueError(f"{path} is larger than a secret can be (64 KiB)")
    try:
        return data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} isn't text (UTF-8)") from None
