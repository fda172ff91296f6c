"""The subjects of the report, one whole subject per file: its tables and charts, and the words beside them."""
