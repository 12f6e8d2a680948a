"""Take configured secrets out of text that others will read: log lines, a backend's last
output, error details."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote

from launcher.config import LauncherConfig, Secret
from launcher.drivers.base import ProcessSpec

MASK = "***"

#: Names of environment variables whose values are secret.
_PRIVATE = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)


#: How many secrets of earlier configurations stay hidden: a backend that was started with one
#: may still print it.
REMEMBERED = 100


class Redactor:
    """Replaces every configured secret by `***`, also where it is percent-encoded or escaped
    as in JSON, with one regular expression for all of them. `text` may be called on any
    thread."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._known: dict[Secret, None] = {}
        self.version = 0
        """Counts the changes: what an earlier version cleaned has to be cleaned anew."""
        self.learn(secrets)

    def learn(self, secrets: Iterable[Secret]) -> None:
        """Hide these from now on, and the last REMEMBERED of those before."""
        now = dict.fromkeys(secrets)
        earlier = [secret for secret in self._known if secret not in now]
        known = {**dict.fromkeys(earlier[-REMEMBERED:]), **now}
        if known == self._known and self._known:
            return
        self._known = known
        self.version += 1
        forms: set[str] = set()
        for secret in known:
            if secret.value:
                forms |= {secret.value, quote(secret.value, safe="")}
                forms.add(json.dumps(secret.value)[1:-1])
        # Longest first: where one secret begins another, none of the longer one may stay.
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        pattern = "|".join(re.escape(form) for form in ordered)
        self._text = re.compile(pattern) if ordered else None

    def text(self, text: str) -> str:
        """Return the text without the secrets."""
        return self._text.sub(MASK, text) if self._text is not None else text

    def __repr__(self) -> str:
        return f"<Redactor {'with' if self._text else 'without'} secrets>"


def secrets_of(config: LauncherConfig) -> tuple[Secret, ...]:
    """Return every secret of a configuration: keys, and the variables of processes that are named
    like one (`HF_TOKEN`, `…_PASSWORD`)."""
    found = [key.secret for key in config.keys if key.secret is not None]
    for backend in config.backends:
        if backend.backend_key is not None:
            found.append(backend.backend_key)
        if isinstance(backend.driver, ProcessSpec):
            found += [Secret(value) for name, value in backend.driver.env if _PRIVATE.search(name)]
    return tuple(dict.fromkeys(found))
