"""Other libraries' conventions: each comparison runs their optimizer and ours, told by an argument to do the same.

`comparisons` gathers what is compared, which `of_keras` and its like say library by library. `peers` runs it, `measure`
does so in a process of its own: jax may not be forked after it has started its threads, and wants float64 said before
anything else.
"""
