"""`launcher simulate`: the product's scheduler on a virtual clock, with simulated models and
requests from a trace or a generator."""
