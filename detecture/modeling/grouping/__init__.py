"""Finding regions: pixel embeddings, classical features, mixtures, the number of regions."""
