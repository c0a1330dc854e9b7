"""For editors: colours, and a language server; everything but server.py is a function of a text and a place in it."""
