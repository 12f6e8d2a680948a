"""What the launcher costs on the way of a request, side by side with other proxies."""
