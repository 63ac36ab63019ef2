"""Find, read and cite documents and code in folders that an operator has named."""
