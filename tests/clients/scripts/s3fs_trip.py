"""s3fs: write, read, range, append by copy, find, remove."""

import os
import sys

import s3fs

bucket, large = sys.argv[1:]
fs = s3fs.S3FileSystem(endpoint_url=os.environ["ENDPOINT"], default_block_size=5 << 20)
data = open(large, "rb").read()
fs.put(large, f"{bucket}/dir/large.bin")
fs.pipe(f"{bucket}/dir/small", b"hello")
with fs.open(f"{bucket}/dir/stream", "wb", block_size=5 << 20) as out:
    for start in range(0, len(data), 1 << 20):
        out.write(data[start : start + (1 << 20)])
for name in ("large.bin", "stream"):
    assert fs.cat(f"{bucket}/dir/{name}") == data
with fs.open(f"{bucket}/dir/large.bin", "rb") as source:
    source.seek(7_000_001)
    assert source.read(123_456) == data[7_000_001 : 7_000_001 + 123_456]
fs.cp(f"{bucket}/dir/small", f"{bucket}/dir/copy")
assert fs.cat(f"{bucket}/dir/copy") == b"hello"
assert sorted(fs.find(bucket)) == [f"{bucket}/dir/{name}" for name in ("copy", "large.bin", "small", "stream")]
fs.rm(f"{bucket}/dir", recursive=True)
fs.invalidate_cache()
assert fs.find(bucket) == []
print("round trip complete")
