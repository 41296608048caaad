"""A package, so that Chromium and its site end with its last test, not with the last of all."""
