"""Studies: many training runs that together answer which optimizer is better, and how sure that is."""
