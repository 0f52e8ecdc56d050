"""A file system in memory that loses what was not synced, as a disk does at a power cut. For Linux, over FUSE."""
