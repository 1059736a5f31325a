"""Data sets by name: loading their metadata, and registering them in the catalogs."""
