"""Which operation a request is.

Compiled from the model: method, what the path addresses, the query members that are part of an operation's URI
(*markers*), and the required query members and headers. The rule that protects data: a request that carries any marker
we know of is only ever the operation of exactly that marker, never the operation that remains when it is ignored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from gateway.s3.errors import S3Error
from gateway.s3.model import Level, Operation, ServiceModel

#: Markers that the model lacks but that servers and clients of S3 use: ignoring one would run another operation.
EXTRA_MARKERS = frozenset(
    {
        "append",
        "bucketInfo",
        "compose",
        "events",
        "extendedAcl",
        "mdsearch",
        "metadata",
        "move",
        "object-lambda",
        "objectMeta",
        "position",
        "quota",
        "referer",
        "replication-metrics",
        "replication-reset",
        "replicationMetrics",
        "resourceGroup",
        "storageClass",
        "symlink",
        "sync",
        "truncate",
        "websiteConfig",
        "worm",
    }
)

#: Query members that select among operations by themselves; elsewhere they are refused, not ignored.
IDENTIFIERS = ("uploadId", "partNumber", "versionId", "annotationName")

# The model has some requests twice. Names on the left are spoken of as the one on the right.
SAME_REQUEST = {
    "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
    "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
    "GetBucketNotification": "GetBucketNotificationConfiguration",
    "PutBucketNotification": "PutBucketNotificationConfiguration",
    "ListDirectoryBuckets": "ListBuckets",
}

_LAMBDA_PATH = "/WriteGetObjectResponse"


@dataclass(frozen=True, slots=True)
class _Candidate:
    operation: Operation
    required_query: frozenset[str]
    required_headers: frozenset[str]
    accepted: frozenset[str]  # of IDENTIFIERS
    weight: int


class Router:
    """Finds the operation of a request."""

    def __init__(self, model: ServiceModel) -> None:
        self._markers = model.markers() | EXTRA_MARKERS
        self._operations = model.operations
        self._by_marker: dict[tuple[str, Level, frozenset[str]], list[_Candidate]] = {}
        self._lambda = model.operations["WriteGetObjectResponse"]
        for operation in model.operations.values():
            if operation.name in SAME_REQUEST or operation is self._lambda:
                continue
            accepted = frozenset(IDENTIFIERS) & set(operation.query_members)
            candidate = _Candidate(
                operation,
                operation.required_query,
                operation.required_headers,
                accepted,
                len(operation.required_query) + len(operation.required_headers),
            )
            key = (operation.method, operation.level, frozenset(operation.markers))
            self._by_marker.setdefault(key, []).append(candidate)
        for candidates in self._by_marker.values():
            candidates.sort(key=lambda one: -one.weight)  # the one that requires most goes first
        none: frozenset[str] = frozenset()
        # Plain requests with nothing in the query but ignored members: decided without building sets.
        self._plain = {
            (method, level): min(candidates, key=lambda one: one.weight)
            for (method, level, markers), candidates in self._by_marker.items()
            if markers == none and any(not one.weight for one in candidates)
        }
        self._selectors = self._markers | set(IDENTIFIERS)

    def markers(self) -> frozenset[str]:
        """Every query key that makes a request another operation."""
        return self._markers

    def route(
        self, method: str, level: Level, path: str, query: Mapping[str, str], headers: Collection[str]
    ) -> Operation:
        """The operation. `query` has decoded members, `headers` lower-case names.

        Raises S3Error MethodNotAllowed where the method has no operation there, InvalidArgument for identifiers that
        the operation does not take, NotImplemented for browser uploads and unknown subresources.
        """
        if not query or self._selectors.isdisjoint(query):
            plain = self._plain.get((method, level))
            if plain is not None and not (level is Level.OBJECT and method == "PUT" and "x-amz-copy-source" in headers):
                return plain.operation
        if path == _LAMBDA_PATH and method == "POST":
            return self._lambda
        present = self._markers.intersection(query)
        if present & EXTRA_MARKERS:
            raise S3Error("NotImplemented", fields={"Header": sorted(present & EXTRA_MARKERS)[0]})
        found = self._by_marker.get((method, level, present)) or self._containing(method, level, present)
        if not found:
            raise self._no_operation(method, level, present, headers)
        for candidate in found:
            if candidate.required_query <= query.keys() and all(one in headers for one in candidate.required_headers):
                break
        else:
            candidate = found[-1]  # nothing fits whole: the least demanding one tells what is missing
            if candidate.weight and self._selectors.isdisjoint(query):
                raise self._no_operation(method, level, present, headers)
        operation = candidate.operation
        for name, value in operation.markers.items():
            if value and query.get(name, "") not in ("", value):
                raise _argument(name, query[name], f"Invalid value for {name}")
        self._check_identifiers(candidate, query)
        return operation

    def _containing(self, method: str, level: Level, present: frozenset[str]) -> list[_Candidate]:
        # "?select" without its "select-type=2"
        if not present:
            return []
        for (one_method, one_level, markers), candidates in self._by_marker.items():
            if one_method == method and one_level is level and present < markers:
                return candidates
        return []

    def _no_operation(self, method: str, level: Level, present: frozenset[str], headers: Collection[str]) -> S3Error:
        if len(present) > 1:
            known = [name for name in sorted(present) if (method, level, frozenset((name,))) in self._by_marker]
            if len(known) > 1:
                return _argument("ResourceType", known[0], f"Conflicting query parameters: {', '.join(known)}")
        if method == "POST" and level is Level.BUCKET and not present:
            return S3Error(
                "PreconditionFailed",
                fields={"Condition": "Bucket POST must be of the enclosure-type multipart/form-data"},
            )
        resource = sorted(present)[0].upper() if present else level.name
        allowed = sorted({one for one, at, markers in self._by_marker if at is level and markers == present})
        return S3Error(
            "MethodNotAllowed",
            fields={"Method": method, "ResourceType": resource},
            headers={"Allow": ", ".join(allowed)} if allowed else None,
        )

    @staticmethod
    def _check_identifiers(candidate: _Candidate, query: Mapping[str, str]) -> None:
        for name in IDENTIFIERS:
            value = query.get(name)
            if value is None:
                if name in candidate.required_query:
                    raise _argument(name, "", f"This operation needs {name}.")
            elif name not in candidate.accepted:
                if name == "versionId":
                    raise _argument(name, value, "This operation does not accept a version-id.")
                raise _argument(name, value, f"This operation does not accept {name} here.")
            elif not value:
                if name == "versionId":
                    raise _argument(name, "", "Version id cannot be the empty string")
                raise _argument(name, "", f"{name} must not be empty.")


def _argument(name: str, value: str, message: str) -> S3Error:
    return S3Error("InvalidArgument", message, fields={"ArgumentName": name, "ArgumentValue": value})
