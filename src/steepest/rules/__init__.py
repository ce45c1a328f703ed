"""The update rules, one file per rule or family. Drop a file in; the registry, tests, docs and command line find it."""
