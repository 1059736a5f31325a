"""Data sets by name: how to load their records, and what is known about them."""

import types
from collections.abc import Callable, Iterator
from typing import Any

from detecture.errors import DatasetError

Records = list[dict[str, Any]]
Loader = Callable[[], Records]
# An alias, because the catalogs have a method called `list`.
Names = list[str]


class UnknownDatasetError(DatasetError, KeyError):
    """A name that no data set is registered under. A KeyError too, as in Detectron2."""

    def __str__(self) -> str:
        # KeyError would show the message in quotes.
        return str(self.args[0])


class _DatasetCatalog:
    """Maps the name of a data set to the function that loads its records.

    The function takes no arguments and returns a list of dicts, one per image, the same at every
    call.
    """

    def __init__(self) -> None:
        self._loaders: dict[str, Loader] = {}

    def register(self, name: str, func: Loader) -> None:
        """Give a data set a name.

        Raises:
            TypeError: `func` cannot be called.
            ValueError: the name is taken.
        """
        if not callable(func):
            raise TypeError(f"data set {name!r}: register a function, not {type(func).__name__}")
        if name in self._loaders:
            raise ValueError(
                f"data set {name!r} is registered already; take another name, or "
                f"DatasetCatalog.remove({name!r}) first"
            )
        self._loaders[name] = func

    def get(self, name: str) -> Records:
        """Load the records of a data set.

        Raises:
            UnknownDatasetError: no such data set; the message lists those that exist.
        """
        return self._find(name)()

    def pop(self, name: str) -> Loader:
        """Forget a data set, and return the function that loads it.

        Raises:
            UnknownDatasetError: no such data set.
        """
        loader = self._find(name)
        del self._loaders[name]
        return loader

    def remove(self, name: str) -> None:
        """Forget a data set.

        Raises:
            UnknownDatasetError: no such data set.
        """
        self.pop(name)

    def list(self) -> Names:
        """Names of all data sets, in the order of registration."""
        return list(self._loaders)

    def _find(self, name: str) -> Loader:
        if name not in self._loaders:
            known = ", ".join(self._loaders) or "none"
            raise UnknownDatasetError(f"data set {name!r} is not registered. Registered: {known}")
        return self._loaders[name]

    def __contains__(self, name: object) -> bool:
        return name in self._loaders

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)

    def __repr__(self) -> str:
        return f"DatasetCatalog({', '.join(self._loaders)})"


class Metadata(types.SimpleNamespace):
    """What is known about one data set, as attributes that never change once set."""

    # So that errors can name the data set even if no name was given.
    name: str = "N/A"

    def __getattr__(self, key: str) -> Any:
        known = ", ".join(self.__dict__) or "none"
        raise AttributeError(f"metadata of data set {self.name!r} has no {key!r}. It has: {known}")

    def __setattr__(self, key: str, value: Any) -> None:
        if hasattr(self, key) and getattr(self, key) != value:
            raise ValueError(
                f"metadata of data set {self.name!r}: {key!r} is {getattr(self, key)!r} already "
                f"and cannot become {value!r}; MetadataCatalog.remove({self.name!r}) starts afresh"
            )
        super().__setattr__(key, value)

    def as_dict(self) -> dict[str, Any]:
        """All attributes as a new dict."""
        return dict(self.__dict__)

    def set(self, **kwargs: Any) -> "Metadata":
        """Set several attributes; returns this object.

        Raises:
            ValueError: one of them is already set to another value.
        """
        for key, value in kwargs.items():
            setattr(self, key, value)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        """Value of an attribute, or `default` if it is not set."""
        return getattr(self, key, default)


class _MetadataCatalog:
    """Maps the name of a data set to its one `Metadata` object."""

    def __init__(self) -> None:
        self._metadata: dict[str, Metadata] = {}

    def get(self, name: str) -> Metadata:
        """The metadata of a data set; created with only its name at the first call.

        Raises:
            ValueError: the name is empty.
        """
        if not name:
            raise ValueError("metadata needs the name of a data set, not an empty string")
        if name not in self._metadata:
            self._metadata[name] = Metadata(name=name)
        return self._metadata[name]

    def pop(self, name: str) -> Metadata:
        """Forget the metadata of a data set, and return it.

        Raises:
            UnknownDatasetError: there is none.
        """
        if name not in self._metadata:
            known = ", ".join(self._metadata) or "none"
            raise UnknownDatasetError(f"no metadata for data set {name!r}. There is: {known}")
        return self._metadata.pop(name)

    def remove(self, name: str) -> None:
        """Forget the metadata of a data set.

        Raises:
            UnknownDatasetError: there is none.
        """
        self.pop(name)

    def list(self) -> Names:
        """Names of all data sets that have metadata."""
        return list(self._metadata)

    def __contains__(self, name: object) -> bool:
        return name in self._metadata

    def __iter__(self) -> Iterator[str]:
        return iter(self._metadata)

    def __len__(self) -> int:
        return len(self._metadata)

    def __repr__(self) -> str:
        return f"MetadataCatalog({', '.join(self._metadata)})"


DatasetCatalog = _DatasetCatalog()
MetadataCatalog = _MetadataCatalog()
