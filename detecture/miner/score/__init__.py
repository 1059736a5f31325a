"""How well an image is suited to segmentation of textures, from its annotation and models."""
