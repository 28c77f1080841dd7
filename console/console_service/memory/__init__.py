"""What the console keeps: bounded buffers of records, the oldest out first.

One budget, `CONSOLE_MEMORY_MB`, is divided among the signals (`budget`). Each buffer knows the size of what it holds.
"""
