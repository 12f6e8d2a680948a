"""What operators do over time, on top of the gate: switches, leases, modes, home, drains."""
