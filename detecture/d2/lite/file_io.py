"""Paths that are not plain files: their prefix selects a handler."""

from iopath.common.file_io import HTTPURLHandler
from iopath.common.file_io import PathManager as IopathPathManager

PathManager = IopathPathManager()
"""The one of this package: what checkpoints are read through. Register further handlers here."""

PathManager.register_handler(HTTPURLHandler())
