"""GetObject."""

from __future__ import annotations

from gateway.s3.contract import S3Request, S3Response, Services
from gateway.s3.rules.reading import choose_slice, describe, judge_conditions, open_requested, stream, whole

#: Reads up to this many bytes are fetched whole and leave with the headers in one write.
_AT_ONCE = 1 << 20


async def get_object(services: Services, request: S3Request) -> S3Response:
    bucket, opened = await open_requested(services, request)
    streaming = False
    try:
        wanted = whole(request, opened)
        if wanted is None:
            if (unchanged := judge_conditions(request, bucket, opened.info)) is not None:
                return unchanged
            wanted = await choose_slice(request, opened)
        response = describe(request, bucket, opened.info, wanted)
        if wanted.length == 0:
            response.body = b""
        elif wanted.length <= _AT_ONCE:
            response.body = await opened.fetch(wanted.offset, wanted.length)
        else:
            response.body = await stream(opened, wanted.offset, wanted.length)
            streaming = True
        return response
    finally:
        if not streaming:
            opened.close()
