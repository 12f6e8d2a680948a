"""HTTP/1.1 on both sides of the wire, without policy."""
