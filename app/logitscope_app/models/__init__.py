"""What the dashboard knows, without Qt: frozen states made from a run file, tested without a display."""
