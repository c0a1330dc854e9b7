"""Pictures: results, verifications, classes of parametrizations and graphs of equations, drawn by matplotlib."""
