"""What the settings of a Milvus index may be: checked before anything is encoded, not once all vectors were sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from irexp.types import UserError

#: The ranges of a server (knowhere's); Milvus Lite has no check, and with one link a process dies in it.
_RANGES = {
    "links": (2, 2048),
    "ef_construction": (1, 2**31 - 1),
    "lists": (1, 65536),
    "search.ef": (1, 2**31 - 1),
    "search.probes": (1, 65536),
    "terms": (1, 2**31 - 1),
    "search.terms": (1, 2**31 - 1),
}

#: The name of a partition, which Milvus Lite uses as that of a folder.
_PARTITION = re.compile("[A-Za-z0-9_]{1,255}")


def check_uri(uri: str | None) -> None:
    """Refuse what is not the address of a server, or holds a secret, which every manifest would repeat.

    Raises:
        UserError: saying where credentials belong, without repeating them.
    """
    if uri is None:
        return
    parts = urlsplit(uri)
    if parts.username or parts.password or parts.query or parts.fragment or "@" in parts.netloc:
        raise UserError(
            "index.uri holds more than http://host:port/database; credentials belong into the environment variables "
            "MILVUS_TOKEN, or MILVUS_USER and MILVUS_PASSWORD, since settings are recorded; remove this job's folder "
            "under outputs, which has recorded them"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(
            f"index.uri={uri} is not the address of a Milvus server, such as http://localhost:19530; null is Milvus "
            f"Lite, in the index's folder"
        )


def check_partition(name: str | None) -> None:
    """Refuse a name that a server does not take for a partition.

    Raises:
        UserError: saying what a name may hold.
    """
    if name is not None and not _PARTITION.fullmatch(name):
        raise UserError(
            f"index.partition={name!r} is not a name for a partition of Milvus: it must have 1 to 255 letters, digits "
            f"and underscores; null is the default partition"
        )


def check_ranges(settings: Mapping[str, int | None]) -> None:
    """Refuse numbers that a server does not take.

    Args:
        settings: the value of each setting below `index`, such as `links` or `search.ef`; None is always allowed.

    Raises:
        UserError: naming the setting and its range.
    """
    for name, value in settings.items():
        least, most = _RANGES[name]
        if value is not None and not least <= value <= most:
            raise UserError(f"index.{name}={value} is out of range: Milvus takes {least:,} to {most:,}")
