"""The figures of `stream.py`, and what measures them: contests in turn, a bucket on loopback."""
