"""What a backend may answer instead of bytes.

BackendError
├── NotFound          no such piece
├── RetryLater        passing trouble: the same call may succeed later
└── PermanentError    the same call won't succeed until somebody acts
    ├── AlreadyExists the name is taken
    ├── NoSpace       below the free-space floor, or the device is full
    └── WrongIdentity the place is not the one the catalog knows (unmounted, swapped)
"""

from __future__ import annotations

from core.errors import AtollError


class BackendError(AtollError):
    """Base of the answers below."""


class NotFound(BackendError):
    """No such piece."""


class RetryLater(BackendError):
    """Passing trouble: the same call may succeed later."""


class PermanentError(BackendError):
    """The same call won't succeed until somebody acts."""


class AlreadyExists(PermanentError):
    """The name is taken; nothing was written."""


class NoSpace(PermanentError):
    """Below the free-space floor, or the device is full."""


class WrongIdentity(PermanentError):
    """The place is not the one that the catalog knows: unmounted, swapped or never initialised."""
