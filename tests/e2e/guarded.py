"""A launcher whose door has keys, each of them a word that must not be seen anywhere else."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from tests.e2e.recording import Record
from tests.e2e.serving import Launcher

API, SECOND, ADMIN = "canary-api-Kp1", "canary-api/Kp+2", "canary-admin-Qz3"
NAMED, FILED, HASHED = "canary-named-Rt8", "canary-filed-Bn9", "canary-hashed-Ly0"
BACKEND_KEY, TOKEN, CLIENTS = "canary-backend-Vx4", "canary-token-Hf5", "canary-client-Wd6"
SECRETS = (API, SECOND, ADMIN, NAMED, FILED, BACKEND_KEY, TOKEN)
"""What the configuration holds."""
CREDENTIALS = ("authorization", "x-api-key", "api-key")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def code(body: bytes) -> str:
    return str(json.loads(body)["error"]["code"])


def top(folder: Path) -> str:
    """Keys of every way of writing them, for any routes."""
    file = folder / "filed"
    file.write_text(f"{FILED}\n")
    hashed = hashlib.sha256(HASHED.encode()).hexdigest()
    return f"""api_keys = {json.dumps([API, SECOND])}
admin_keys = {json.dumps([ADMIN])}
[keys.named]
value = "${{CANARY_NAMED}}"
scopes = ["infer", "observe"]
[keys.filed]
value = "file:{file}"
[keys.hashed]
hash = "{hashed}"
scopes = ["infer", "observe", "admin"]
"""


class Guarded(Launcher):
    """Four routes that remember what they are sent, and one that prints its secrets and dies."""

    def __init__(self, folder: Path, *, more: str = "", log_level: str = "info") -> None:
        self.records = {
            name: Record(folder, name) for name in ("injected", "stripped", "passed", "public")
        }
        lines = {
            "injected": f'backend_key = "{BACKEND_KEY}"',
            "stripped": "",
            "passed": 'auth = "passthrough"',
            "public": "public = true",
        }
        routes = "".join(
            record.route(f"needs = {{}}\n{lines[name]}", env=f'HF_TOKEN = "{TOKEN}"')
            for name, record in self.records.items()
        )
        talks = "import os, sys; sys.exit(f'{os.environ} keys: told')"
        told = f'HF_TOKEN = "{TOKEN}", KEY_FOR_MODELS = "{BACKEND_KEY}", ECHO = "{API}"'
        last_words = json.dumps([sys.executable, "-c", talks, TOKEN, "{port}"])
        routes += f"[routes.dying]\ncommand = {last_words}\nenv = {{ {told} }}\n"
        env = {"CANARY_NAMED": NAMED, "LAUNCHER_LOG_LEVEL": log_level}
        super().__init__(folder, routes + more, top=top(folder), env=env)

    def sent_on(self, route: str, **headers: str) -> dict[str, str]:
        """What credentials reach a route's backend of a request with these headers."""
        status, body = self.get(f"/{route}/page?canary-in-the-query-Sb7", **headers)
        assert status == 200, body
        seen = self.records[route].last().headers
        return {name: seen[name] for name in CREDENTIALS if name in seen}
