"""The local admin socket: what the command line asks of a running server."""
