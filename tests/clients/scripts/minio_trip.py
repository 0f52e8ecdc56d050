"""minio-py: buckets, multipart, stat, ranges, compose, copy, tags, presigned URLs, bulk removal."""

import io
import os
import sys
import urllib.request
from urllib.parse import urlsplit

from minio import Minio
from minio.commonconfig import ComposeSource, CopySource, Tags
from minio.deleteobjects import DeleteObject

bucket, large = sys.argv[1:]
client = Minio(
    urlsplit(os.environ["ENDPOINT"]).netloc, access_key=os.environ["AWS_ACCESS_KEY_ID"],
    secret_key=os.environ["AWS_SECRET_ACCESS_KEY"], secure=False, region="us-east-1",
)  # fmt: skip
assert client.bucket_exists(bucket)
data = open(large, "rb").read()
client.fput_object(bucket, "dir/large", large, part_size=5 << 20, metadata={"who": "me"})
client.put_object(bucket, "dir/small", io.BytesIO(b"hello"), 5)
client.put_object(bucket, "dir/unknown", io.BytesIO(data), -1, part_size=5 << 20)
assert client.get_object(bucket, "dir/large").read() == data
assert client.get_object(bucket, "dir/unknown").read() == data
assert client.get_object(bucket, "dir/large", offset=100, length=50).read() == data[100:150]
assert client.stat_object(bucket, "dir/large").size == len(data)
client.copy_object(bucket, "dir/copy", CopySource(bucket, "dir/large"))
client.compose_object(bucket, "dir/composed", [ComposeSource(bucket, "dir/large"), ComposeSource(bucket, "dir/small")])
assert client.get_object(bucket, "dir/composed").read() == data + b"hello"
tags = Tags.new_object_tags()
tags["colour"] = "blue"
client.set_object_tags(bucket, "dir/small", tags)
assert client.get_object_tags(bucket, "dir/small") == {"colour": "blue"}
with urllib.request.urlopen(client.presigned_get_object(bucket, "dir/small")) as answer:
    assert answer.read() == b"hello"
names = [item.object_name for item in client.list_objects(bucket, recursive=True)]
assert names == ["dir/composed", "dir/copy", "dir/large", "dir/small", "dir/unknown"], names
assert [item.object_name for item in client.list_objects(bucket)] == ["dir/"]
assert list(client.remove_objects(bucket, [DeleteObject(name) for name in names])) == []
client.remove_bucket(bucket)
print("round trip complete")
