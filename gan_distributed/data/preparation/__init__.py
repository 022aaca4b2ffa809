"""From the entries of a source to a data set that exists: decode, shard, record, publish."""
