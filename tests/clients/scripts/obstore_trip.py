"""obstore (Rust object_store): multipart, ranges, conditional writes, listing, copy."""

import os
import sys

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import S3Store

bucket, large = sys.argv[1:]
store = S3Store(
    bucket, endpoint=os.environ["ENDPOINT"], region="us-east-1", virtual_hosted_style_request=False,
    client_options={"allow_http": True},
)  # fmt: skip
data = open(large, "rb").read()
obstore.put(store, "dir/large", data, chunk_size=5 << 20, use_multipart=True)
first = obstore.put(store, "dir/small", b"hello")
assert bytes(obstore.get(store, "dir/large").bytes()) == data
assert bytes(obstore.get_range(store, "dir/large", start=5_000_000, length=1234)) == data[5_000_000:5_001_234]
many = obstore.get_ranges(store, "dir/large", starts=[0, 9_000_000], lengths=[10, 20])
assert [bytes(one) for one in many] == [data[:10], data[9_000_000:9_000_020]]
try:
    obstore.put(store, "dir/small", b"other", mode="create")
    raise SystemExit("a second creator must be refused")
except AlreadyExistsError:
    pass
second = obstore.put(store, "dir/small", b"hello again", mode={"e_tag": first["e_tag"]})
try:
    obstore.put(store, "dir/small", b"lost update", mode={"e_tag": first["e_tag"]})
    raise SystemExit("an update of an old version must be refused")
except PreconditionError:
    pass
assert obstore.head(store, "dir/small")["e_tag"] == second["e_tag"]
obstore.copy(store, "dir/small", "dir/copy")
names = sorted(meta["path"] for batch in obstore.list(store) for meta in batch)
assert names == ["dir/copy", "dir/large", "dir/small"], names
assert list(obstore.list_with_delimiter(store)["common_prefixes"]) == ["dir"]
obstore.delete(store, names)
assert [meta for batch in obstore.list(store) for meta in batch] == []
print("round trip complete")
