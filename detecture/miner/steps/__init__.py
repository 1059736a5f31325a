"""The stages as `detecture.miner.stages` calls them: parts of the miner, with a config."""
