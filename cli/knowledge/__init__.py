"""`familiar knowledge`: the documents that replies rest on.

keeping.py   sync, add, list, remove, rebuild, status: the documents and their index
asking.py    search, ask, eval, gaps: what they answer
"""

from __future__ import annotations

import typer

from cli.knowledge import asking, keeping

app = typer.Typer(help="The documents that replies rest on.", no_args_is_help=True)
app.command()(keeping.sync)
app.command()(keeping.add)
app.command("list")(keeping.listing)
app.command()(keeping.remove)
app.command()(asking.search)
app.command()(asking.ask)
app.command("eval")(asking.evaluate)
app.command()(asking.gaps)
app.command()(keeping.rebuild)
app.command()(keeping.status)
