"""The command line: it parses, calls and prints; the work is done in steepest.study."""
