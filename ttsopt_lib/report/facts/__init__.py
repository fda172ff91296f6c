"""From records to the summary: every number, every verdict and every piece of advice of the report."""
