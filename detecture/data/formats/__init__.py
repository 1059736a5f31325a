"""Formats of data sets on disk: one writer and one reader for each."""
