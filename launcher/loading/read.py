"""routes.toml and the environment, side by side: raw values, each with where it was found.

Checks the shape of the file (which tables there are) and no value. What the keys mean is
`tables` and `build`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from launcher import settings

#: Where routes.toml is looked for, where nobody says.
DEFAULT_PLACES = ("routes.toml", "/etc/launcher/routes.toml")

#: The tables that a file may hold.
TABLES = ("launcher", "capacity", "aliases", "routes", "backends", "modes", "keys")

#: `MAP__<route>__<field>`: the fields, each a key of the route's table.
MAP_FIELDS = ("container", "port", "health", "auth", "models")
_MAP = re.compile(r"MAP__(.+?)__(\w+)")

_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?")
_ASSIGNMENT = re.compile(r"""\s*([A-Za-z0-9_-]+|"[^"]*"|'[^']*')\s*=""")


@dataclass(frozen=True, slots=True)
class Value:
    """A value as it was written, and where."""

    raw: object
    where: str
    """Such as `routes.toml:7: [routes.coder] port`: what a message about it begins with."""
    literal: bool = False
    """From the environment: `${…}` in it means nothing."""


Values = dict[str, Value]


@dataclass(slots=True)
class Document:
    """All that was said, by table."""

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
    """` (did you mean "x"?)`, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f' (did you mean "{close[0]}"?)' if close else ""


def find_file(path: str | None, environ: Mapping[str, str]) -> str | None:
    """The file to read: the one named, by argument or `LAUNCHER_CONFIG`, else the first of the
    default places that exists."""
    named = path or environ.get("LAUNCHER_CONFIG")
    if named:
        return named
    return next((place for place in DEFAULT_PLACES if Path(place).is_file()), None)


def read_file(path: str) -> Document:
    """One file. What is wrong with it is in the document's problems."""
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
    """Which line a table or key stands on, as far as a look at the lines' beginnings tells;
    only messages depend on it."""

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


def add_environment(document: Document, environ: Mapping[str, str]) -> None:
    """Lay the environment over the document: `LAUNCHER_*` and `MAP__*` win over the file,
    inherited names fill in what is left."""
    filled, problems = settings.with_files(environ)
    document.problems += problems
    for key, text in settings.read(settings.Settings, filled):
        if text is not None and key != "config":
            where = f"environment: {settings.PREFIX}{key.upper()}"
            document.launcher[key] = Value(text, where, literal=True)
    for name in settings.unknown(environ):
        known = [settings.PREFIX + key.upper() for key in settings.Settings.model_fields]
        document.warnings.append(
            f"environment: {name} is unknown and ignored{did_you_mean(name, known)}"
        )
    _add_inherited(document, filled)
    _add_routes(document, environ)


def _add_inherited(document: Document, environ: Mapping[str, str]) -> None:
    inherited = dict(settings.read(settings.Inherited, environ))
    for key, names in settings.FILLS_IN.items():
        for name in names:
            text = inherited[name.lower()]
            if text is None:
                continue
            if key not in document.launcher:
                document.launcher[key] = Value(text, f"environment: {name}", literal=True)
            elif not document.launcher[key].literal and name in _CONTESTED:
                document.warnings.append(
                    f"environment: {name} is ignored, for {document.source} says {key}; "
                    f"{settings.PREFIX}{key.upper()} would override it"
                )
            break


#: Inherited names that somebody sets for this program alone: ignoring them would surprise.
_CONTESTED = ("IDLE_SECONDS", "START_TIMEOUT_SECONDS", "PREWARM_ROUTES", "DOCKER_HOST_SOCKET")


def _add_routes(document: Document, environ: Mapping[str, str]) -> None:
    for name in sorted(environ):
        found = _MAP.fullmatch(name)
        if found is None or not environ[name].strip():
            continue
        field_name = found[2].lower()
        if field_name not in MAP_FIELDS:
            document.warnings.append(
                f"environment: {name} is ignored: MAP__<route>__ is followed by one of "
                f"{', '.join(MAP_FIELDS)}{did_you_mean(field_name, MAP_FIELDS)}"
            )
            continue
        route = found[1] if found[1] in document.routes else found[1].lower().replace("_", "-")
        document.at.setdefault(f"[routes.{route}]", f"environment: MAP__{found[1]}__*")
        values = document.routes.setdefault(route, {})
        if field_name == "container":
            # The container takes the place of whatever the file starts for this route.
            values.pop("backend", None)
            values.pop("command", None)
        values[field_name] = Value(environ[name], f"environment: {name}", literal=True)
