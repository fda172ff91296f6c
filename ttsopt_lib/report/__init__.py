"""From records to what people read: summary.json, tables, figures, report.html and report.pdf.

Nothing here measures. Every figure that the report prints comes from `Summary`,
which is derived from the records alone, so re-rendering takes seconds and changes no number.
"""
