"""What every backend needs around it, each with the backend's own interface, so that they stack in any order."""

from __future__ import annotations

from backends.decorators.faults import Fault, FaultRule, FaultyBackend
from backends.decorators.limit import LimitBackend
from backends.decorators.meter import MeterBackend, OperationMeter
from backends.decorators.retry import RestartableSource, RetryBackend
from backends.decorators.wrapper import BackendWrapper, unwrap

__all__ = [
    "BackendWrapper",
    "Fault",
    "FaultRule",
    "FaultyBackend",
    "LimitBackend",
    "MeterBackend",
    "OperationMeter",
    "RestartableSource",
    "RetryBackend",
    "unwrap",
]
