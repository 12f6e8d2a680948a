"""The configuration: what routes.toml and the environment say, checked and frozen.

`specs` has the shapes, `load` makes them; whoever uses a configuration imports from here.
"""

from launcher.config.specs import (
    GIB,
    MIB,
    ON_LEASE,
    PRIORITIES,
    QUIET,
    RESERVED,
    WAKES,
    AliasConfig,
    BackendConfig,
    Health,
    KeyConfig,
    KeyScope,
    LauncherConfig,
    ModeConfig,
    ModelSpec,
    PolicyName,
    RouteConfig,
    Secret,
)
from launcher.http.endpoint import Listen

__all__ = [
    "GIB",
    "MIB",
    "ON_LEASE",
    "PRIORITIES",
    "QUIET",
    "RESERVED",
    "WAKES",
    "AliasConfig",
    "BackendConfig",
    "Health",
    "KeyConfig",
    "KeyScope",
    "LauncherConfig",
    "Listen",
    "ModeConfig",
    "ModelSpec",
    "PolicyName",
    "RouteConfig",
    "Secret",
]
