"""Who asks: keys, their limits, and what a web page must not make a browser do."""
