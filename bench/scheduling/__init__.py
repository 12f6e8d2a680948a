"""The scheduling policies side by side, in simulation: `python -m bench.scheduling`."""
