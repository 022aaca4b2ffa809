"""What lies at a URL: data sets, runs, checkpoints, exports, and what is broken or something else. Below the verbs."""
