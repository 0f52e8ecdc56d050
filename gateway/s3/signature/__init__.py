"""Signature Version 4: who signed a request, and whether it is the one that was signed."""
