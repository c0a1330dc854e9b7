"""From a tree to a program: names, values, expressions, statements; all mistakes are collected."""
