"""HeadObject."""

from __future__ import annotations

from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.rules.reading import choose_slice, describe, judge_conditions, open_requested


async def head_object(services: Services, request: S3Request) -> S3Response:
    bucket, opened = await open_requested(services, request)
    try:
        if (unchanged := judge_conditions(request, bucket, opened.info)) is not None:
            return unchanged
        return describe(request, bucket, opened.info, await choose_slice(request, opened))
    finally:
        opened.close()
