"""One module per group of rows; each answers its rows of the table."""
