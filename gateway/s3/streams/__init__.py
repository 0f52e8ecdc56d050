"""Request bodies: framing, lengths, signatures and trailers, checked while the bytes flow."""
