"""The CDF index of rows that stay: summed once, so that a draw reads one cache line of memory instead of a row."""
