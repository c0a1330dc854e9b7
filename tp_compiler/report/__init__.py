"""Output: text, JSON, LaTeX, HTML, plots, `.npz`. No mathematics; nothing here changes a number."""
