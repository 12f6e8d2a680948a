"""Speaking to a running launcher, for the commands of the command line."""
