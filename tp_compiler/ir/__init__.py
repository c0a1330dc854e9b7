"""The program: instructions and what is known of them."""
