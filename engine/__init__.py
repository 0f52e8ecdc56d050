"""Objects: versions, manifests, bodies, multipart, data path, keys, packs, rebuild, collection."""
