"""S3's errors: codes, HTTP statuses, default messages, and the mapping of the object store's refusals."""

from __future__ import annotations

from collections.abc import Mapping

from core.errors import AtollError


class S3Error(AtollError):
    """An answer that refuses. `fields` are printed as further XML elements, in order; `headers` go with the answer.

    Status and message default to the code's entry in `CODES`.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        status: int | None = None,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        default_status, default_message = CODES[code] if code in CODES else (400, code)
        self.code = code
        self.message = message or default_message
        self.status = default_status if status is None else status
        self.fields: Mapping[str, str] = fields or {}
        self.headers: Mapping[str, str] = headers or {}
        super().__init__(f"{code}: {self.message}")


#: code -> (HTTP status, message)
CODES: dict[str, tuple[int, str]] = {}
