"""`launcher simulate`: the scheduler on a virtual clock, with models that take their time and
requests that come as a trace or a generator says. Nothing here decides anything."""
