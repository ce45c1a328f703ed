"""The comparison of several studies across their workloads."""
