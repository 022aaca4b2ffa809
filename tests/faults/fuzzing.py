"""What tests with bad inputs share: bounds of time and memory, ways to spoil things, and a count of what was tried.

FUZZ_FACTOR=20 tries twenty times as many.
"""

import contextlib
import json
import os
import resource
import time
from collections import Counter

from hypothesis import Phase, settings
from hypothesis import strategies as st

from gan_distributed.errors import ConfigError, GanError

FACTOR = float(os.environ.get("FUZZ_FACTOR", "1"))
LONGEST_S = 20.0
# The largest image that is read has 64 megapixels; decoding and turning it takes some copies of it.
MOST_BYTES = 1 << 30
tried: Counter[str] = Counter()


def examples(num):
    # A failing input is printed as it was drawn; to make it smaller would take minutes.
    return settings(max_examples=max(2, round(num * FACTOR)), deadline=None, phases=[Phase.explicit, Phase.generate])


@contextlib.contextmanager
def within_bounds(kind, *errors):
    """Nothing but these errors, each of one line, within bounds of time and memory."""
    tried[kind] += 1
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        yield
    except errors as error:
        assert isinstance(error, GanError)
        assert str(error)
        # Mistakes of a recipe come a line each.
        assert isinstance(error, ConfigError) or "\n" not in str(error)
    assert time.monotonic() - started < LONGEST_S
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_BYTES


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["../../etc/passwd", "/etc/passwd", "", ".", "..", "a\n/b", "\0", "1e400", "nan", "ü" * 300])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def changed_tree(data, tree):
    """The tree with one to three of its parts dropped, replaced, or under another key."""
    tree = json.loads(json.dumps(tree))
    for _ in range(data.draw(st.integers(1, 3))):
        place, keys = tree, []
        while isinstance(place, dict | list) and place:
            keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys))
            if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.integers(0, 3)) == 0:
                break
            place = place[key]
        if not keys or not isinstance(place, dict | list) or not place:
            continue
        how = data.draw(st.sampled_from(["drop", "replace", "replace", "number", "rename"]))
        if how in ("replace", "number"):
            place[key] = data.draw(anything if how == "replace" else st.integers(-3, 10**12))
            continue
        value = place.pop(key)
        if how == "rename" and isinstance(place, dict):
            place[data.draw(st.text(max_size=6))] = value
    return tree


def changed_bytes(data, whole, most=6):
    """Some bytes changed, some cut off or doubled."""
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(0, most))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
            st.integers(0, 255) | st.sampled_from([0, 255])
        )
    how = data.draw(st.sampled_from(["keep", "keep", "cut", "double", "insert"]))
    at = data.draw(st.integers(0, len(content)))
    if how == "cut":
        return bytes(content[:at])
    if how == "double":
        return bytes(content[:at] + content[at // 2 :])
    return bytes(content[:at] + (data.draw(st.binary(max_size=40)) if how == "insert" else b"") + content[at:])


def told(before: Counter[str]) -> str:
    """How many inputs were tried since, by their kind."""
    found = tried - before
    return f"{found.total()} bad inputs tried: {', '.join(f'{kind} {num}' for kind, num in sorted(found.items()))}"
