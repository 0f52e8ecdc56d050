"""The S3 edge: Amazon's own service model compiled into routes, parsers and writers, and handlers written by hand."""
