"""The options of the data stream."""

from typing import Any

from pydantic import Field

from gan_distributed.config.section import Positive, PositiveInt, Section


class DataConfig(Section):
    """Where the prepared images are, and in what order they come."""

    url: str | None = Field(None, description="folder of a prepared data set; --data")
    num_lanes: PositiveInt = Field(64, description="parts that the data set is cut into; the most workers there can be")
    window_blocks: PositiveInt = Field(4, description="blocks of a lane that are shuffled together")
    memory_bytes: PositiveInt = Field(2 << 30, description="bytes of blocks that one worker may hold when it streams")
    fetch_threads: PositiveInt = Field(16, description="most concurrent reads from a bucket, a worker")
    gather_threads: int = Field(1, ge=0, le=64, description="threads that gather batches ahead; 0: the caller's own")
    map_local: bool = Field(True, description="map shards on a local disk into memory; off for slow network disks")
    cache_bytes: int = Field(0, ge=0, description="bytes of blocks kept on a node's disk for its ranks; 0: off")
    cache_folder: str = Field("~/.cache/gan_distributed", description="where they are kept")
    read_timeout_s: Positive = Field(10.0, description="seconds that a store may be silent before a new try")
    storage_options: dict[str, Any] = Field(
        default_factory=dict, description="fsspec options for data.url, passed on unchanged: endpoint, project, …"
    )
