"""Migration in: buckets of other S3 services copied into this deployment, and read through to while that lasts."""
