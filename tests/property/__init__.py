"""Random flows: what must hold whatever the graph, the behaviour, the schedule and the faults."""
