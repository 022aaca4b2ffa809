"""A thousand workers on one core: order, retry, lease and restart code as it is, a made-up clock and bucket."""
