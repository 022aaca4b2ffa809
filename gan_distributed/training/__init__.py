"""The training loop and all it owns: losses, steps, state, checkpoints, metrics."""
