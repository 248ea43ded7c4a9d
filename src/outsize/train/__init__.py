"""Training: from options to a run folder with a finished, resumable run."""
