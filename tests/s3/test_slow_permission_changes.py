"""Requests whose body comes long after they were allowed: what they were allowed on may be another object by then."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.harness.live_server import REGION, LiveServer
from tests.s3.expecting import ALT_ID, ALT_KEY, SECRET, plain_request

PUBLIC = f"""<AccessControlPolicy xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Owner><ID>{ALT_ID}</ID></Owner>
<AccessControlList><Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">
<ID>{ALT_ID}</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant>
<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group">
<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee><Permission>READ</Permission></Grant>
</AccessControlList></AccessControlPolicy>""".encode()
TAGS = b"<Tagging><TagSet><Tag><Key>mine</Key><Value>yes</Value></Tag></TagSet></Tagging>"


@pytest.mark.parametrize(("query", "document"), [("acl", PUBLIC), ("tagging", TAGS)])
def test_a_former_owner_changes_nothing_of_what_replaced_the_object(
    server: LiveServer, main: Any, alt: Any, new_bucket: Callable[..., str], query: str, document: bytes
) -> None:
    bucket = new_bucket(ACL="public-read-write")
    alt.put_object(Bucket=bucket, Key="key", Body=b"of alt")
    url = f"{server.url}/{bucket}/key"
    signed = AWSRequest(method="PUT", url=f"{url}?{query}", data=document)
    S3SigV4Auth(Credentials(ALT_KEY, SECRET), "s3", REGION).add_auth(signed)
    parts = urlsplit(server.url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    connection.putrequest("PUT", f"/{bucket}/key?{query}", skip_host=True)
    connection.putheader("Host", parts.netloc)
    for name, value in signed.headers.items():
        if name.lower() != "host":
            connection.putheader(name, value)
    connection.putheader("Content-Length", str(len(document)))
    connection.endheaders()
    connection.send(document[:10])
    time.sleep(0.5)  # the request is allowed by now and waits for its body
    main.put_object(Bucket=bucket, Key="key", Body=b"of main, private")
    connection.send(document[10:])
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status == 409
    assert plain_request("GET", url).status == 403
    assert main.get_object_tagging(Bucket=bucket, Key="key")["TagSet"] == []
