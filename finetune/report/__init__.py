"""A run, for a person to read: one HTML file that holds everything it shows, and the same in the terminal.

    words       what verdicts, checks, reasons and numbers are called
    outline     what stands in a report, as far as the run has come
    charts      curves and intervals, drawn as SVG
    page        the HTML: page.html, page.css
    terminal    its text form

Everything is made of the record alone, of which any part may be missing: a run that failed has a report, too.
"""

from finetune.report.page import html
from finetune.report.terminal import text

__all__ = ["html", "text"]
