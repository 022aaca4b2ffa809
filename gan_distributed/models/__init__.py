"""Network families, one file each: a generator and its mirrored discriminator."""
