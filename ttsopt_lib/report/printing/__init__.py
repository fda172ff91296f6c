"""How the report prints: figures with their units, tables, HTML, PDF, the look of charts, sounds."""
