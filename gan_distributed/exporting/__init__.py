"""A trained generator for other programs: one self-contained form, its file formats, its card. Below the verbs."""
