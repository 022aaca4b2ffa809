"""Kubernetes' way to write amounts of bytes."""

import re

from gan_distributed.errors import InputError

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def bytes_of(quantity: str) -> int:
    """`16Gi` as a number. Raises InputError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kMGT]|[KMGT]i)?", str(quantity))
    if found is None:
        raise InputError(f"{quantity}: write an amount of bytes as 16Gi or 500M")
    return round(float(found[1]) * _UNITS[found[2] or ""])
