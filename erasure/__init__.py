"""Pure codec: schemes, sealing, stripes, footers, Merkle trees, keys. No I/O. Format: docs/formats/object.md."""
