"""What a run is made of: configuration, settings, run folder, notebooks, report."""
