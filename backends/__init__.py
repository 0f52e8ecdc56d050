"""Where pieces live: the interface, a file per backend, decorators, the conformance suite."""
