"""Files that survive a kill: atomic writes, hashes, and checkpoints made of them."""
