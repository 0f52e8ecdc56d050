"""The root of every error that Atoll raises on purpose.

AtollError
├── ConfigError        a setting that can't be used (message names it)
├── StartRefused       a state in which starting would risk data (message says which and what to do)
├── catalog.errors.*   conflicts, corruption, future versions
├── backends.errors.*  NotFound, PermanentError, RetryLater
├── erasure.errors.*   damage, each naming what is damaged
└── engine.errors.*    the object store's own refusals, mapped to S3 errors by the gateway
"""

from __future__ import annotations


class AtollError(Exception):
    """Base of all our errors. Its text is fit for a log: it never holds a secret."""


class ConfigError(AtollError):
    """A setting that can't be used."""


class StartRefused(AtollError):
    """Starting now would risk data; the text says why and what to do."""
