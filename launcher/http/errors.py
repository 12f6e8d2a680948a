"""What can go wrong on a connection, by the names that the field uses."""

from __future__ import annotations


class ClientDisconnected(ConnectionError):
    """The client left while its request was read or its response was written."""


class UpstreamDisconnected(ConnectionError):
    """The connection to the backend is gone."""


class ConnectTimeout(TimeoutError):
    """No connection to the backend within the time allowed."""


class RemoteProtocolError(Exception):
    """The backend's answer breaks HTTP."""
