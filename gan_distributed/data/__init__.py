"""From files at URLs to batches: sources, manifest, shards, order, stream."""
