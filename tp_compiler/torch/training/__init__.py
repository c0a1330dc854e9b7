"""The training of a traced module as a program: what it minimizes, and with which optimizer."""
