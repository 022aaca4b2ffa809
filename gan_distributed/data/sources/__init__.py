"""Where raw images come from: each format is a listing of entries, sorted by name, and a reader of their bytes."""
