"""What a person sees of a run: the table in the terminal, its status, `report.html`.

`table` and `status` need only the standard library. `html` (with `data`, `figures` and `overlays`)
draws with matplotlib, jinja2 and Pillow, and is imported only where a report is wanted.
"""
