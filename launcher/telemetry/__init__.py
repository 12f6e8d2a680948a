"""What happened, for the log, the metrics and the page."""
