"""detecture: name every visually distinct texture region of an image and segment it."""

from typing import Any

__version__ = "0.1.0"

__all__ = ["SemanticPredictor", "SemanticResult", "TexturePredictor", "TextureResult"]


def __getattr__(name: str) -> Any:
    # Imported late, so that `python -m detecture.doctor` can report what is wrong with torch.
    if name in __all__:
        from detecture import engine

        return getattr(engine, name)
    raise AttributeError(f"module 'detecture' has no attribute {name!r}")
