"""The widgets: one file a kind of panel, each drawing a frozen state."""
