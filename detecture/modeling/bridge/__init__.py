"""What turns the VLM's states into masks and trains it: parts, losses, refinement."""
