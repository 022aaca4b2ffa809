"""Pictures of a trained generator: which ones, made in batches, laid out, moved, written. Below the verbs."""
