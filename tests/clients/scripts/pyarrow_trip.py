"""pyarrow's own S3 file system (the C++ SDK) and a partitioned Parquet data set on it."""

import os
import sys

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import fs

bucket, large = sys.argv[1:]
store = fs.S3FileSystem(endpoint_override=os.environ["ENDPOINT"], scheme="http", region="us-east-1")
data = open(large, "rb").read()
for name, content in (("small", b"hello"), ("large", data), ("empty", b"")):
    with store.open_output_stream(f"{bucket}/dir/{name}") as out:
        out.write(content)
    with store.open_input_file(f"{bucket}/dir/{name}") as source:
        assert source.read() == content
with store.open_input_file(f"{bucket}/dir/large") as source:
    source.seek(6_000_000)
    assert source.read(99_999) == data[6_000_000:6_099_999]
table = pa.table({"part": [i % 4 for i in range(10_000)], "value": list(range(10_000))})
ds.write_dataset(table, f"{bucket}/set", filesystem=store, format="parquet", partitioning=["part"])
back = ds.dataset(f"{bucket}/set", filesystem=store, format="parquet", partitioning=["part"]).to_table()
assert sorted(back["value"].to_pylist()) == list(range(10_000))
store.copy_file(f"{bucket}/dir/small", f"{bucket}/dir/copy")
names = {
    info.base_name for info in store.get_file_info(fs.FileSelector(f"{bucket}/dir")) if info.type == fs.FileType.File
}
assert names == {"small", "large", "empty", "copy"}, names
store.delete_dir_contents(bucket, missing_dir_ok=True)
assert store.get_file_info(fs.FileSelector(bucket, recursive=True)) == []
print("round trip complete")
