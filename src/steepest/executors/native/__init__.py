"""The native executor: C generated from a program's trace, compiled once per machine, one call for many parameters."""
