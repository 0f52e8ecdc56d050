"""S3's rules that several operations share: names, attributes, tags, canned ACLs, conditions, integrity of bodies."""
