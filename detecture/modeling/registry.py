"""Builds what is registered under a name."""

from collections.abc import Callable
from typing import Any

from detecture.d2 import Registry
from detecture.errors import ConfigError


def build_registered(registry: Registry, name: str, key: str, *args: Any, **kwargs: Any) -> Any:
    """Call what is registered under `name`.

    Args:
        registry: where to look.
        name: value of the config key `key`.
        key: named in the error.
        args, kwargs: passed on.

    Raises:
        ConfigError: nothing of this name is registered.
    """
    try:
        builder: Callable[..., Any] = registry.get(name)
    except KeyError as error:
        known = ", ".join(sorted(known for known, _ in registry))
        raise ConfigError(f"{key}: nothing is registered as {name!r}; known: {known}") from error
    return builder(*args, **kwargs)
