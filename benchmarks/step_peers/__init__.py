"""What `train_step.py` compares: loops written by hand, ours, and the convolutions alone."""
