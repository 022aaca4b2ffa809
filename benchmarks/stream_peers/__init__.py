"""The contestants of `stream.py`: each a process of its own, one loader a file; knows nothing of the figures.

A contestant is `python -m stream_peers.NAME write PICTURES DEST`, which writes its format, or
`python -m stream_peers.NAME run OPTIONS` (JSON), which `contestant.py` drives through stdin and stdout.
"""
