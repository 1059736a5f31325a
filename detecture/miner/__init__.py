"""The miner: finds images with a few large textures, and makes a training set of them."""
