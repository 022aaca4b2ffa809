"""From files at URLs to batches: sources, their preparation, and then manifest, shards, order, stream."""
