"""duckdb: Parquet and CSV written and queried through httpfs, with range reads."""

import os
import sys
from urllib.parse import urlsplit

import duckdb
from duckdb_extensions import import_extension

bucket, _ = sys.argv[1:]
import_extension("httpfs")
db = duckdb.connect()
db.execute("LOAD httpfs")
db.execute(
    "CREATE SECRET (TYPE s3, KEY_ID $key, SECRET $secret, ENDPOINT $endpoint, URL_STYLE 'path', USE_SSL false, "
    "REGION 'us-east-1')".replace("$key", repr(os.environ["AWS_ACCESS_KEY_ID"]))
    .replace("$secret", repr(os.environ["AWS_SECRET_ACCESS_KEY"]))
    .replace("$endpoint", repr(urlsplit(os.environ["ENDPOINT"]).netloc))
)
db.execute(
    f"COPY (SELECT range AS id, hash(range) AS h FROM range(1000000)) TO 's3://{bucket}/t/one.parquet' (FORMAT parquet)"
)
db.execute(f"COPY (SELECT range AS id FROM range(1000)) TO 's3://{bucket}/t/two.csv' (HEADER)")
assert db.execute(f"SELECT count(*), sum(id) FROM 's3://{bucket}/t/one.parquet'").fetchone() == (10**6, 499999500000)
assert db.execute(f"SELECT h = hash(id) FROM 's3://{bucket}/t/one.parquet' WHERE id = 777777").fetchone() == (True,)
assert db.execute(f"SELECT sum(id) FROM 's3://{bucket}/t/two.csv'").fetchone() == (499500,)
assert len(db.execute(f"SELECT file FROM glob('s3://{bucket}/t/*')").fetchall()) == 2
print("round trip complete")
