"""ZEO clients side by side: ours, stock ZEO in a patched process, native threads.

`loads` is the benchmark; `client` the process that it runs for each way and
round, `proxy` the delay between it and a real runzeo, `plot` makes the pictures.
"""
