"""Other libraries' conventions: each comparison runs their optimizer and ours, told by an argument to do the same.

`comparisons` says what is compared, `peers` runs it, `measure` does so in a process of its own: jax may not be forked
after it has started its threads, and wants float64 said before anything else.
"""
