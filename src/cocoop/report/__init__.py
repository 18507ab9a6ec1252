"""Records to what a person reads: tables, plots and one self-contained page."""
