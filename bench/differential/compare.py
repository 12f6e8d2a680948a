"""What two launchers showed of one case, made comparable, and where it differs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.differential.backend import Arrived
from bench.differential.cases import TOKEN, Case, Step
from bench.differential.client import Response, Seen

#: One line of what was seen: where, and what.
Facts = tuple[tuple[str, bytes], ...]

_NORMAL: tuple[tuple[re.Pattern[bytes], bytes], ...] = (
    (re.compile(rb"^(date: ).*", re.IGNORECASE), rb"\1*"),
    (re.compile(rb"dur=[0-9.]+"), b"dur=*"),
    (re.compile(rb"lazy-launcher-[0-9a-f]{8}"), b"lazy-launcher-*"),
    (re.compile(rb"127\.0\.0\.1:\d{4,5}"), b"127.0.0.1:*"),
)


@dataclass(frozen=True)
class Wanted:
    """A difference that is meant to be there."""

    where: str
    """A regular expression for the whole of a difference's name, see `differences`."""
    reason: str
    case: str = ""
    """A regular expression for a part of `KIND: NOTE`."""
    sent: bytes = b""
    """A regular expression for a part of what the client sends."""
    split: bool = False
    """Only where what the client sends comes in pieces."""


_CODED = rb"(?i)transfer-encoding:\s*chunked"
_WHOLE = "The last answer on a connection arrives whole, though the client still sends."
_UNCUT = r"client\.state: cut → whole|client\.end: broken → (kept|closed)"
_ENDS = rb"(?i)connection: close|HTTP/1\.0"
_GO_ON = (
    r"client\.status: 400 → \d+|client\.header.*|client\.(framing|body|trailer): \w+"
    r"|client\.(framing|end): .*|client: response new \d+|backend: request new"
)
_KEPT = "A connection is kept after a chunked upload."


def _refused(reason: str, case: str, sent: bytes = b"") -> tuple[Wanted, ...]:
    """What was accepted, and is refused now."""
    names = (
        r"client\.status: \d+ → 400",
        r"client\.end: kept → closed",
        r"(backend: request|client: response) gone.*",
        r"client\.(header.*|body|framing|trailer).*",
    )
    return tuple(Wanted(name, reason, case, sent) for name in names)


#: Differences between the old and the new launcher that are meant to be there.
WANTED: tuple[Wanted, ...] = (
    Wanted(r"client\.end: (closed|reset) → (kept|broken)", _KEPT, sent=_CODED),
    Wanted(_UNCUT, _WHOLE, sent=_CODED),
    Wanted(_UNCUT, _WHOLE, "^(pipelined|sequence): (?!.*within the body)"),
    Wanted(_UNCUT, _WHOLE, "^pipelined:", _ENDS),
    Wanted(r"client\.header connection: gone", _KEPT, sent=_CODED),
    Wanted(r"client: response new \d+", _KEPT, sent=_CODED),
    Wanted(r"backend: request new", _KEPT, sent=_CODED),
    Wanted(
        _GO_ON + r"|backend\.(header .*: (new|other)|framing: .*|body: other)",
        "A pipelined head that is split before its second line end is read as any other.",
        "^(pipelined:|boundary: (two requests|a body and a|chunks and a|line ends))",
        split=True,
    ),
    Wanted(
        r"client\.status: 400 → 200|client: response new 200|backend: request new"
        r"|client\.end: closed → kept",
        "Bytes of a body are no header line of the request behind it.",
        "^mutated:",
        split=True,
    ),
    Wanted(
        _GO_ON,
        "What came before a request that breaks HTTP's rules is answered; the old one read ahead"
        " and answered nothing that still waited.",
        "^pipelined:",
        rb"(?i)content-type:[^\r\n]*\r\n([^\r\n]+\r\n)*content-type:",
    ),
    Wanted(
        r"client\.status: 502 → \d+|client: response new \d+|backend: request new"
        r"|client\.end: (closed|silent) → (kept|broken)",
        "Bytes behind a response without a body belong to no other one: the backend's connection"
        " is closed.",
        "204 with chunks|(204|304) and a body",
    ),
    Wanted(
        r"(client|backend)\.header x-(padded|blank): other",
        "Blanks around a value are no part of it (RFC 9110 §5.5).",
    ),
    Wanted(
        r"backend: request new|client: response new \d+|client\.status: (502|200) → \d+",
        "A small body is at hand whatever its type: an idempotent request is sent again.",
        "(close|reset) (before|within)",
        rb"(PUT|DELETE) ",
    ),
    *_refused(
        "A request line has one blank between its parts (RFC 9112 §3).",
        "^(near miss|mutated):",
        rb"(?m)^[A-Z]+  |  HTTP/1",
    ),
    *_refused("Chunk extensions are bounded.", "", rb";(e{200}|a{1000})"),
    *_refused(
        "A chunk extension has a name, and a value behind its `=` (RFC 9112 §7.1.1).",
        "^(near miss|mutated):",
        rb";(x=\r\n|=)",
    ),
    Wanted(
        r"backend\.(state: whole → cut|body: other)",
        "Chunk extensions are bounded, also where the first chunks have gone on.",
        sent=rb";e{200}",
    ),
    *_refused("The size of a chunk has 16 digits at most.", "chunk: many zeros"),
    Wanted(r"client\.status: 501 → 400", "An empty coding is malformed.", "near miss: no coding"),
    Wanted(
        r"client\.status: (400 → 505|505 → 400)",
        "Whether a malformed request line is one of another version is a matter of words.",
        "^(near miss|mutated):",
    ),
    Wanted(r"client\.behind: gone", "An error that answers a HEAD has no body.", "", rb"HEAD "),
    Wanted(
        r"client\.behind: other",
        "What isn't known to be a HEAD is refused with a body, whose wording may differ.",
        "^(near miss|mutated):",
        rb"HEA",
    ),
    Wanted(
        r"backend: request gone",
        "What is refused, or is never whole, is refused before anything is started for it.",
        "^(near miss|mutated|boundary):",
    ),
    Wanted(
        r"client\.status: 403 → 400|client\.end: closed → kept|client: response new.*"
        r"|backend: request new",
        "A path that leads out of its route is refused whoever asks, and the connection kept.",
        sent=rb"(?is) /r/(a/)?(%2e%2e|\.\.)/.*origin:",
    ),
    Wanted(
        r"backend\.header (content_length|transfer_encoding): gone",
        "To CGI and its heirs `_` and `-` are the same, so a field that frames the body travels"
        " under neither spelling.",
        sent=rb"(?i)(content_length|transfer_encoding):",
    ),
    Wanted(
        r"client\.status: \d+ → 405|client\.end: kept → closed"
        r"|(backend: request|client: response) gone.*",
        "A 2xx to CONNECT begins a tunnel, and an answer to TRACE shows the backend's key.",
        "^near miss: (CONNECT|TRACE)|^mutated:",
        rb"(CONNECT|TRACE) ",
    ),
    Wanted(
        r"order of header lines",
        "In an answer of our own Date stands elsewhere; the order of fields of different names"
        " means nothing (RFC 9110 §5.3).",
        sent=rb" /(healthz|v1/|openai|nowhere|rx|\?| )",
    ),
    Wanted(
        _GO_ON,
        "The last request of a connection is answered; what comes behind it isn't read"
        " (RFC 9112 §9.6), where the old one refused both.",
        "^pipelined:",
        _ENDS,
    ),
    Wanted(
        _GO_ON,
        "Trailers are dropped, and aren't held against the header lines.",
        sent=rb"\r\n0+[^\r\n]*\r\n(X-T: 1\r\n)?Host: evil\r\n",
    ),
    Wanted(
        r"client\.header connection: (other|new|gone)|client\.end: (kept|closed) → (kept|closed)"
        r"|(client: response|backend: request) (gone|new).*",
        "Proxy-Connection is no field of HTTP (RFC 9112 appendix C.2.2) and keeps nothing.",
        sent=rb"(?i)proxy-connection:",
    ),
    Wanted(
        r"client\.header connection: other|client\.end: kept → closed"
        r"|(client: response|backend: request) gone.*",
        "Of `close` and `keep-alive` the first wins (RFC 9112 §9.3), in whatever order.",
        sent=rb"(?is)connection:[^\r]*close\r\n.*connection:[^\r]*keep-alive"
        rb"|connection:[^\r]*keep-alive\r\n.*connection:[^\r]*close"
        rb"|connection:[^\r]*(close,[^\r]*keep-alive|keep-alive,[^\r]*close)",
    ),
    Wanted(
        r"client\.status: 200 → 502|client\.end: closed → kept|client: response new 200"
        r"|backend: request new",
        "The head of a backend's response is bounded, however it comes in.",
        "head too large",
    ),
    Wanted(
        r"client\.status: (400|431) → 200",
        "An answer that the backend gives before the fault in the body comes is passed on.",
        "^near miss: chunk:",
    ),
    Wanted(
        r"client\.header connection: gone|client\.end: closed → kept|client: response new \d+"
        r"|backend: request new",
        "Where all of a body that nobody needs has come by the time of the answer, the connection"
        " is kept.",
        sent=rb"(POST|PUT|PATCH|DELETE) /(healthz|nowhere|rx|\?)",
    ),
    Wanted(
        r"client\.header connection: (new|gone)|client\.end: (kept|closed) → (kept|closed)"
        r"|(client: response|backend: request) (new|gone).*",
        "A client that doesn't wait for its 100 Continue may be answered before its body has come"
        " or after; only then the connection is kept.",
        "^expect: none",
    ),
    Wanted(
        r"client: response gone 400",
        "Whether a small body is JSON is judged when all of it has come.",
        "^mutated:",
        rb"/chat/completions",
    ),
    Wanted(
        r"client\.header connection: new|client\.end: silent → closed",
        "A length that nothing can have is refused at once, and not only when the client leaves.",
        "near miss: length of 64 bits",
    ),
    Wanted(
        r"client\.end: silent → closed|client: response gone 400",
        "A client that half-closes has left.",
        "length of 64 bits",
    ),
)


def normal(line: bytes, token: bytes) -> bytes:
    """A line without what differs from run to run."""
    line = line.replace(token, TOKEN)
    for pattern, instead in _NORMAL:
        line = pattern.sub(instead, line)
    return line


def digest(body: bytes) -> bytes:
    """A body that can be shown: itself where it is short."""
    if len(body) <= 2000:
        return body
    return b"%d bytes, %b" % (len(body), hashlib.sha256(body).hexdigest()[:12].encode())


def facts(case: Case, seen: Seen, token: bytes) -> Facts:
    """Everything that has to be equal, in order."""
    found: list[tuple[str, bytes]] = []
    cut = case.hasty or any(answer.cut for attempts in case.answers for answer in attempts)
    # Whether a faulty body is noticed before its request has gone on depends on what comes in
    # one read; that it never gets there whole doesn't.
    doubtful = case.kind in ("near miss", "mutated", "boundary")
    sent = b"".join(one.data for one in case.sends).replace(TOKEN, token)
    # A client that doesn't wait may be told to continue or not; the backend's own 100 comes on top.
    chance = case.kind == "expect" and not _waits(case)
    responses = [one for one in seen.responses if not (chance and one.status == 100)]
    for number, one in enumerate(responses):
        found += [
            (where, what)
            for where, what in _response(f"client.{number}", one, cut, token)
            # Only a request that has been admitted has times to tell of.
            if not (doubtful and one.status >= 400 and where.endswith("server-timing"))
            if not (_is_own(one) and where.endswith("content-length"))
        ]
    # A response that is seen to be cut may end with a reset or without: both tell it.
    broken = any(one.state == "cut" for one in responses)
    found.append(("client.end", b"broken" if broken else seen.end.encode()))
    if case.tunnel or seen.behind:
        found.append(("client.behind", digest(normal(seen.behind, token))))
    there = [one for one in seen.arrived.arrived if not (doubtful and one.state == "cut")]
    attempts: dict[int, int] = {}
    for arrived in there:
        attempts[arrived.index] = attempts.get(arrived.index, 0) + 1
        where = f"backend.{arrived.index}/{attempts[arrived.index]}"
        found += _arrived(where, arrived, case, cut, token, sent)
    return tuple(found)


def _is_own(one: Response) -> bool:
    """Whether it is an error of the launcher's own, whose wording may differ. One that answers a
    HEAD shows no code, but no backend has taken time for it either."""
    times = [line for line in one.headers if line.lower().startswith(b"server-timing:")]
    return bool(one.code) or (
        one.status >= 400 and one.framing == "none" and not any(b"upstream" in t for t in times)
    )


def _waits(case: Case) -> bool:
    answer = case.answer(0, 0)
    return case.sends[-1].gate == "continue" and answer.moment == "body"


def _response(where: str, one: Response, cut: bool, token: bytes) -> Facts:
    found = [(f"{where}.status", one.line)]
    found += [(f"{where}.header {name(line)}", normal(line, token)) for line in one.headers]
    found.append((f"{where}.framing", one.framing.encode()))
    found.append((f"{where}.state", one.state.encode()))
    found += [(f"{where}.trailer", line) for line in one.trailers]
    if not (cut and one.state != "whole"):
        # Of the launcher's own errors the wording may differ, not the code.
        found.append((f"{where}.body", one.code or digest(normal(bytes(one.body), token))))
    return tuple(found)


def _arrived(where: str, one: Arrived, case: Case, cut: bool, token: bytes, sent: bytes) -> Facts:
    line, *headers = one.head.split(b"\r\n")[:-2]
    found = [(f"{where}.line", normal(line, token))]
    found += [(f"{where}.header {name(part)}", normal(part, token)) for part in headers]
    found.append((f"{where}.framing", one.framing.encode()))
    found += [(f"{where}.trailer", part) for part in one.trailers]
    if one.early:
        # How much of the body came along is a matter of chance.
        return tuple(found)
    found.append((f"{where}.state", one.state.encode()))
    if cut and one.state != "whole":
        if one.framing == "length" and bytes(one.body) not in sent:
            found.append((f"{where}.body", b"not what was sent"))
    else:
        found.append((f"{where}.body", digest(bytes(one.body))))
        if case.tunnel:
            found.append((f"{where}.behind", digest(bytes(one.behind))))
    return tuple(found)


def name(line: bytes) -> str:
    """A header line's name, for the name of a difference."""
    return line.partition(b":")[0].lower().decode("latin-1")[:40]


def differences(old: Facts, new: Facts) -> list[str]:
    """What differs, by name. Of what is there on one side alone, and of a response with another
    status, nothing more is told."""
    found: list[str] = []
    before, after = _units(old), _units(new)
    for unit in sorted(before.keys() | after.keys()):
        kind = unit.partition(".")[0]
        was, now = before.get(unit, {}), after.get(unit, {})
        if was == now:
            continue
        if not was or not now:
            what = "gone" if was else "new"
            found.append(f"{kind}: {_noun(kind)} {what}{_code(was or now)}")
            continue
        if _code(was) != _code(now):
            found.append(f"{kind}.status:{_code(was)} →{_code(now)}")
            continue
        for field in dict.fromkeys([*was, *now]):
            if field == "body" and was.get("state") != now.get("state"):
                # Of one that is cut there is less.
                continue
            found += _one(f"{kind}.{field}", was.get(field, ()), now.get(field, ()))
    if not found and old != new:
        found.append("order of header lines")
    return list(dict.fromkeys(found))


Values = tuple[bytes, ...]


def _units(found: Facts) -> dict[str, dict[str, Values]]:
    """The facts by message, then by field."""
    units: dict[str, dict[str, Values]] = {}
    for where, what in found:
        unit, _, name = where.rpartition(".") if " " not in where else _split(where)
        fields = units.setdefault(unit, {})
        fields[name] = (*fields.get(name, ()), what)
    return units


def _split(where: str) -> tuple[str, str, str]:
    """A header's name may have dots."""
    start, mark, name = where.partition(".header ")
    return start, mark, f"header {name}"


def _noun(kind: str) -> str:
    return "request" if kind == "backend" else "response"


def _code(fields: dict[str, Values]) -> str:
    line = fields.get("status", (b"",))[0].split(b" ")
    return f" {line[1].decode('latin-1')}" if len(line) > 1 else ""


def _one(name: str, was: Values, now: Values) -> list[str]:
    if was == now:
        return []
    if name.endswith((".status", ".end", ".framing", ".state")):
        return [f"{name}: {_short(was)} → {_short(now)}"]
    return [f"{name}: {'gone' if not now else 'new' if not was else 'other'}"]


def _short(values: Sequence[bytes]) -> str:
    return b", ".join(values).decode("latin-1")[:60] or "nothing"


def unwanted(case: Case, found: Sequence[str], wanted: Sequence[Wanted] = WANTED) -> list[str]:
    """Those that nothing in `wanted` explains."""
    label = f"{case.kind}: {case.note}"
    sent = b"".join(one.data for one in case.sends)
    split = any(one.cuts for one in case.sends)
    rules = [
        rule
        for rule in wanted
        if re.search(rule.case, label) and re.search(rule.sent, sent) and (split or not rule.split)
    ]
    return [one for one in found if not any(re.fullmatch(rule.where, one) for rule in rules)]


def told(case: Case, seen: Seen, token: bytes) -> str:
    """One launcher's side of an example, as text."""
    lines = [f"  {where:28} {what[:160]!r}" for where, what in facts(case, seen, token)]
    lines.append(f"  raw, to the client           {normal(seen.raw, token)[:600]!r}")
    for one in seen.arrived.arrived:
        lines.append(f"  raw, to the backend          {normal(one.head, token)[:600]!r}")
    return "\n".join(lines)


def described(case: Case) -> str:
    """What was sent and what the backend does, as text."""
    lines = [f"{case.kind}: {case.note} (ends with: {case.ending})"]
    for one in case.sends:
        split = f" split at {list(one.cuts)[:20]}" if one.cuts else ""
        lines.append(f"  sent ({one.gate}){split}: {_bytes(one.data)}")
    for number, attempts in enumerate(case.answers):
        for answer in attempts:
            lines.append(
                f"  answer {number}: {answer.name}, at the {answer.moment}, {answer.end}:"
                f" {_steps(answer.steps)}"
            )
    return "\n".join(lines)


def _bytes(data: bytes) -> str:
    return f"{data[:700]!r}" + (f" … {len(data)} bytes" if len(data) > 700 else "")


def _steps(steps: Sequence[Step]) -> str:
    return _bytes(b"".join(step.data for step in steps))
