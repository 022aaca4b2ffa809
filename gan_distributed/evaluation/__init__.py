"""Scores of a generator: images -> features -> numbers, each with the protocol that says how it was made.

The same code scores during training and in `evaluate`. Ranks share the images by fixed batches, so that a feature does
not depend on how many ranks there are.
"""
