"""Addresses of object stores, such as s3://bucket/folder: how they are opened, and their errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from detecture.errors import DetectureError, MinerError, brief

_REMEDY = (
    's3://bucket/folder needs pip install -e ".[store]", gs:// gcsfs in the place of s3fs, az:// '
    "adlfs; a plain path is a folder of this machine"
)


def is_address(text: str) -> bool:
    """Whether a value is an address of fsspec, not a path."""
    return "://" in text or "::" in text


def open_address(key: str, address: str) -> tuple[Any, str]:
    """The file system of an address, and the folder in it; its library finds the credentials.

    Nothing is read yet.

    Args:
        key: of the config, for the error.
        address: its value.

    Raises:
        MinerError: the library for it is not installed, or the address is not valid.
    """
    try:
        import fsspec
    except ImportError as error:
        raise MinerError(
            f'{key} {brief(address)}: needs fsspec: pip install -e ".[store]"'
        ) from error
    try:
        found, root = fsspec.core.url_to_fs(address, use_listings_cache=False)
    except Exception as error:  # each protocol has a library of its own
        raise MinerError(
            f"{key} {address:.200}: cannot be opened ({type(error).__name__}: {error!s:.200}); "
            f"{_REMEDY}"
        ) from error
    return found, str(root).rstrip("/")


@contextmanager
def told(where: str) -> Iterator[None]:
    """Reword the libraries' errors of network and permissions as our own.

    Args:
        where: what is read or written, for the error.

    Raises:
        MinerError: in place of what was raised, unless that was one of our errors already.
    """
    try:
        yield
    except DetectureError:
        raise
    except Exception as error:  # each protocol has a library of its own
        raise MinerError(
            f"{where}: cannot be had ({type(error).__name__}: {error!s:.200}); check the address, "
            "your credentials and the network, and run the same again: it goes on from there"
        ) from error
