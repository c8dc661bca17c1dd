"""One palette for widgets, plots and colour maps, in a light and a dark form."""
