"""Converts files of published systems: checkpoints, wordings, adapters merged with their base."""
