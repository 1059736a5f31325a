"""Files of published systems to ours: checkpoints, wordings, adapters joined with their base."""
