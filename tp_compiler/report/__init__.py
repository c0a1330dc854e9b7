"""Results in, pages out: text, JSON, LaTeX, HTML, plots, `.npz`. No mathematics; nothing here changes a number."""
