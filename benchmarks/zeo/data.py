"""The objects that are loaded: a bucket for each worker, so that each object is asked for once."""

from typing import Any

from persistent.mapping import PersistentMapping

#: Objects of a bucket.
EACH = 300


def state(number: int) -> dict[str, Any]:
    """An object of about 250 bytes."""
    return {"number": number, "title": f"Object {number}", "text": "word " * 30}


def fill(database: Any, buckets: int) -> None:
    """Store so many buckets in the root."""
    with database.transaction() as connection:
        for bucket in range(buckets):
            objects = {number: PersistentMapping(state(number)) for number in range(EACH)}
            connection.root()[bucket] = PersistentMapping(objects)
