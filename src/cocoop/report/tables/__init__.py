"""Protocol tables in the terminal, in Markdown, LaTeX and CSV, beside published numbers."""
