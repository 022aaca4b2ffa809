"""A job as Kubernetes documents: what it is, its pods, the rules that it keeps, and its way to a running Ray."""
