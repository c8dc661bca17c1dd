"""What runs beside the window: threads that read run files and hand over finished frames."""
