"""What accounts refuse.

AccountError
├── InvalidUser(field)     a name, id, e-mail address, key or quota of a form that is not accepted
├── UserExists(what)       the name, id, e-mail address or access key is taken
├── NoSuchUser
├── NoSuchAccessKey
├── DeclaredUser           the user is written in the configuration and can't be changed here
└── RootHasNoQuota
"""

from __future__ import annotations

from core.errors import AtollError


class AccountError(AtollError):
    """Base of what accounts refuse."""


class InvalidUser(AccountError):
    """`field` names what is malformed, `rule` says what it must be; the value may be a secret and is in neither."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"the user's {field} is not valid: {rule}")
        self.field, self.rule = field, rule


class UserExists(AccountError):
    """`field` tells which of the user's properties another user has."""

    def __init__(self, field: str, value: str) -> None:
        super().__init__(f"another user has the {field} {value!r}")
        self.field = field


class NoSuchUser(AccountError):
    def __init__(self, name: str) -> None:
        super().__init__(f"there is no user {name!r}")


class NoSuchAccessKey(AccountError):
    def __init__(self, access_key_id: str) -> None:
        super().__init__(f"there is no access key {access_key_id!r}")


class DeclaredUser(AccountError):
    def __init__(self, name: str) -> None:
        super().__init__(f"the user {name!r} is declared in the configuration; change it there")


class RootHasNoQuota(AccountError):
    def __init__(self) -> None:
        super().__init__("the root user may own any number of buckets")
