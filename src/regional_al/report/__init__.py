"""What a person sees of a run: results.json, the table in the terminal, report.html.

`records` (typed results.json) and `table` need nothing but the standard library; `html` draws with
matplotlib, jinja2 and Pillow and is imported only by those who want a report.
"""
