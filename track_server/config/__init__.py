"""Settings: see `settings`."""

from track_server.config.environment import Environment, SettingsError, is_loopback, split_address
from track_server.config.permissions import PermissionServiceSettings
from track_server.config.settings import Credentials, Listening, Settings, environment_name

__all__ = [
    "Credentials",
    "Environment",
    "Listening",
    "PermissionServiceSettings",
    "Settings",
    "SettingsError",
    "environment_name",
    "is_loopback",
    "split_address",
]
