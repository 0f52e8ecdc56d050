"""What third parties may import: `atoll.backends`. Everything else is the application's own."""
