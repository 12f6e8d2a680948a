"""Two versions of the launcher, given the same requests: what is seen has to be equal."""
