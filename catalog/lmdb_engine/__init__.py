"""The embedded engine: one process, one LMDB file, transactions grouped into one synced commit."""
