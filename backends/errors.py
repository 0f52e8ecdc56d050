"""What a backend may answer instead of bytes.

BackendError
├── NotFound          no such piece
├── Unreadable        the piece is there, its bytes can't be read
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


class Unreadable(BackendError):
    """The piece is there, but its bytes can't be read, as of a bad sector. It should be made anew elsewhere; of other
    pieces in the same place this says nothing."""


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
