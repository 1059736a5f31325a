"""detecture: name every visually distinct texture region of a picture and segment it."""

__version__ = "0.1.0"
