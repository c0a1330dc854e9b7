"""From a tree to a program: names, values, expressions, statements; every mistake gathered on the way."""
