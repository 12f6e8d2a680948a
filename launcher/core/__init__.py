"""Decisions: events in, effects out. No I/O, no clock, no asyncio, no logging."""
