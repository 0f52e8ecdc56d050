"""A database that keeps other values than it is given."""

from __future__ import annotations

#: Makes PostgreSQL flip one bit of what is written into a catalog's rows, but for the catalog's own.
FLIPPING = """
CREATE FUNCTION flip() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.value = set_byte(NEW.value, 0, get_byte(NEW.value, 0) # 1); RETURN NEW; END $$;
CREATE TRIGGER flip BEFORE INSERT ON atoll_rows FOR EACH ROW WHEN (NEW.key >= '\\x10' AND length(NEW.value) > 0)
EXECUTE FUNCTION flip();
"""
