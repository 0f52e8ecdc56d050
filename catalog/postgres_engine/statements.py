"""Every statement that the engine sends, but for the schema's.

Written so that they mean the same on PostgreSQL, CockroachDB and YugabyteDB: plain SQL, arrays as parameters, changes
of data in WITH. No advisory locks, no notifications, no system columns. A statement is a transaction of its own unless
it says otherwise, and prepared once for each connection.
"""

from __future__ import annotations

from typing import Final

#: $1 keys.
GET: Final = "SELECT key, value, version FROM atoll_rows WHERE key = ANY($1::bytea[])"
VERSIONS: Final = "SELECT key, version FROM atoll_rows WHERE key = ANY($1::bytea[])"


def scan(*, reverse: bool, keys_only: bool) -> str:
    """$1 ≤ key < $2, at most $3 rows of key, value, version."""
    value = "''::bytea" if keys_only else "value"
    order = "DESC" if reverse else "ASC"
    return f"SELECT key, {value}, version FROM atoll_rows WHERE key >= $1 AND key < $2 ORDER BY key {order} LIMIT $3"  # noqa: S608


#: In one snapshot: the row $1, if it is there, as place 0, and up to $4 rows with $2 ≤ key < $3 in order, as place 1.
ROW_AND_RANGE: Final = """
SELECT 0 AS place, key, value FROM atoll_rows WHERE key = $1
UNION ALL
SELECT 1, r.key, r.value FROM (
    SELECT key, value FROM atoll_rows WHERE key >= $2 AND key < $3 ORDER BY key LIMIT $4
) r
ORDER BY place, key
"""

#: One commit, serializable. First what it read is checked, then, only if all of that still holds, it writes. One row:
#: the keys among $1 that have another version than in $2 (0: absent), and the indexes among the ranges $3 ≤ key < $4
#: that have another number of rows than in $5. $6, $7, $8: keys, values and versions to put. $9: keys to delete. $10,
#: $11: the commit's id and the keys for the feed; no id: nothing is announced. $12, $13, $14: keys, values and versions
#: to create; it fails (23505) where one of these is there. A key that must be absent and is written is better created
#: than checked: PostgreSQL would note the check on the whole page of the index, and collide with every insert there.
COMMIT: Final = """
WITH stale AS (
    SELECT e.key FROM unnest($1::bytea[], $2::bigint[]) AS e(key, version)
    WHERE COALESCE((SELECT r.version FROM atoll_rows r WHERE r.key = e.key), 0) <> e.version
), changed AS (
    SELECT g.place FROM unnest($3::bytea[], $4::bytea[], $5::bigint[]) WITH ORDINALITY AS g(low, high, rows, place)
    WHERE (SELECT count(*) FROM atoll_rows r WHERE r.key >= g.low AND r.key < g.high) <> g.rows
), verdict AS (
    SELECT ARRAY(SELECT key FROM stale) AS keys, ARRAY(SELECT place FROM changed) AS ranges,
        NOT EXISTS (SELECT 1 FROM stale) AND NOT EXISTS (SELECT 1 FROM changed) AS sound
), written AS (
    INSERT INTO atoll_rows (key, value, version)
    SELECT w.key, w.value, w.version FROM unnest($6::bytea[], $7::bytea[], $8::bigint[]) AS w(key, value, version)
    WHERE (SELECT sound FROM verdict)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version
    RETURNING 1
), created AS (
    INSERT INTO atoll_rows (key, value, version)
    SELECT w.key, w.value, w.version FROM unnest($12::bytea[], $13::bytea[], $14::bigint[]) AS w(key, value, version)
    WHERE (SELECT sound FROM verdict)
    RETURNING 1
), removed AS (
    DELETE FROM atoll_rows WHERE key = ANY($9::bytea[]) AND (SELECT sound FROM verdict) RETURNING 1
), announced AS (
    INSERT INTO atoll_outbox (id, keys, void)
    SELECT $10::bytea, $11::bytea, false WHERE $10::bytea IS NOT NULL AND (SELECT sound FROM verdict) RETURNING 1
)
SELECT keys, ranges FROM verdict
"""

#: Take the place of a commit whose outcome is unknown: from its success on, the commit $1 can't happen any more. Fails
#: (23505) where the commit is there, or was taken the place of before.
FENCE: Final = "INSERT INTO atoll_outbox (id, keys, void) VALUES ($1, ''::bytea, true)"

#: What became of commit $1: a row with `void` false where it happened.
OUTCOME: Final = """
SELECT void FROM atoll_outbox WHERE id = $1 UNION ALL SELECT void FROM atoll_numbered WHERE id = $1
"""

#: The keys of commits that have no number yet.
UNNUMBERED: Final = "SELECT keys FROM atoll_outbox WHERE NOT void"

_NOW: Final = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

#: The newest number, the database's clock, and the commits in the ranges $1 ≤ id < $2 that have no number yet, up to $3
#: a range. All of one snapshot.
LOOK: Final = f"""
SELECT s.number, {_NOW} AS now_us, o.id, o.keys, o.void
FROM atoll_sequence s LEFT JOIN (
    unnest($1::bytea[], $2::bytea[]) AS g(low, high) CROSS JOIN LATERAL (
        SELECT id, keys, void FROM atoll_outbox WHERE id >= g.low AND id < g.high ORDER BY id LIMIT $3
    ) o
) ON true
"""  # noqa: S608

#: Number commits: only if the newest number is still $1, make it $2, move the ids $3 (with $4: void) from the outbox to
#: the numbered ones, and write the feed rows $5, $6 with version $7. One row if it did. An id is numbered already where
#: somebody took the place of a commit that had been numbered meanwhile.
NUMBER: Final = """
WITH turn AS (
    UPDATE atoll_sequence SET number = $2 WHERE one = 1 AND number = $1 RETURNING number
), taken AS (
    DELETE FROM atoll_outbox WHERE id = ANY($3::bytea[]) AND EXISTS (SELECT 1 FROM turn) RETURNING 1
), kept AS (
    INSERT INTO atoll_numbered (id, void)
    SELECT k.id, k.void FROM unnest($3::bytea[], $4::boolean[]) AS k(id, void) WHERE EXISTS (SELECT 1 FROM turn)
    ON CONFLICT (id) DO NOTHING
    RETURNING 1
), fed AS (
    INSERT INTO atoll_rows (key, value, version)
    SELECT f.key, f.value, $7 FROM unnest($5::bytea[], $6::bytea[]) AS f(key, value) WHERE EXISTS (SELECT 1 FROM turn)
    RETURNING 1
)
SELECT number FROM turn
"""

#: Forget numbered ids in the ranges $1 ≤ id < $2: nobody asks for them any more.
FORGET: Final = """
DELETE FROM atoll_numbered WHERE id IN (
    SELECT n.id FROM unnest($1::bytea[], $2::bytea[]) AS g(low, high) CROSS JOIN LATERAL (
        SELECT id FROM atoll_numbered WHERE id >= g.low AND id < g.high ORDER BY id LIMIT $3
    ) n
)
"""

#: In a transaction: rows of another catalog, $1 keys, $2 values, $3 version.
LOAD: Final = """
INSERT INTO atoll_rows (key, value, version)
SELECT w.key, w.value, $3 FROM unnest($1::bytea[], $2::bytea[]) AS w(key, value)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version
"""
#: In a transaction: the sequence is at least $1.
RAISE: Final = "UPDATE atoll_sequence SET number = $1 WHERE one = 1 AND number < $1"

SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
