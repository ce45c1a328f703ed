"""Running a plan: the study folder, the engine, worker processes and progress."""
