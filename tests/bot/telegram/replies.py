"""Replies as chat models write them: what the renderer is for."""

from __future__ import annotations

PYTHON = '''Here is a function that does it:

```python
import json
from pathlib import Path

def load(path: Path) -> dict[str, int]:
    """Read the counts."""
    if not path.exists():
        return {}
    return json.loads(path.read_text("utf-8"))
```

Call it with `load(Path("counts.json"))`. It returns **an empty dict** when there is no file, so you need not check.
'''

STEPS = """To install it:

1. **Get the source:**
   ```bash
   git clone https://example.com/tool.git
   cd tool
   ```
   This takes a minute.
2. Build it with `make`.

   On a Mac you need the command line tools:

   ```sh
   xcode-select --install
   ```
3. Done.
   - Try `tool --help`
   - or read the [manual](https://example.com/manual)
     - chapter 1 is *short*
"""

NARROW_TABLE = """## Comparison

| Language | Typed | Year |
|:---------|:-----:|-----:|
| Python   | no    | 1991 |
| Rust     | yes   | 2015 |
| 仓颉     | yes   | 2024 |

Both are **fine**.
"""

WIDE_TABLE = """| Plan | What you get | Who it is for |
|---|---|---|
| Free | One user, **no** history, community support by the forum | People who want to try it first |
| Team | Up to ten users, `sso`, thirty days of history | Small companies, see [pricing](https://example.com/p) |
| Enterprise | Everything in Team<br>A contract | Anybody who needs one |
"""

CHINESE = """# 如何学习编程

**第一步：**先选一门语言。推荐 **Python**，因为它的语法简单；也可以选**“易语言”**这样的中文语言。

1. 安装解释器
2. 写第一个程序：
   ```python
   print("你好，世界！")
   ```
3. 多练习，*不要着急*。

> 学而时习之，不亦说乎？

| 语言 | 难度 |
|---|---|
| Python | 低 |
| C++ | 很高 |
"""

EMOJI = """Great question! 🎉👨‍👩‍👧‍👦

- 🇨🇳 **China** 🇨🇳: 中文
- 🇩🇪 *Germany* 👍🏽: Deutsch
- 🏴󠁧󠁢󠁥󠁮󠁧󠁿 `England` ❤️‍🔥: English

That is **all 😀** for `today 🌍`!
"""

HEADINGS = """# Title
## Overview
Some text under it.

### Details of `load()`
More text.

---

##### A remark
The end.
"""

QUOTES = """She wrote:

> The first line of the quote.
> The second, with **bold** and `code`.
>
> > And one within it.
>
> - a list
> - in a quote
>
> ```
>   indented code
> ```

And that was all.
"""

LINKS = """See [the docs](https://docs.example.com/a_(b)?q=1#top), [a file](./README.md), [mail](mailto:me@example.com),
[a local server](http://localhost:8000/), <https://example.org>, https://example.net/bare and [the section](#part-2).

![A picture](https://example.com/cat.png) As shown in [1] and [2][second], it works[^1].

[second]: https://example.com/second
[third]: https://example.com/third

[^1]: Mostly.
"""

LATEX = r"""The quadratic formula is

\[
x = \frac{-b \pm \sqrt{b^2 - 4ac}}{2a}
\]

where \(a \neq 0\), so $x_1 + x_2 = -\frac{b}{a}$. It costs $5 to $10, not $20.

$$\sum_{i=1}^{n} i = \frac{n(n+1)}{2}$$

In code it stays `\(a\)`.
"""

HTML = """Use a `<div>`, or <b>bold</b> in HTML:

<details>
<summary>More</summary>

The text **inside**.

</details>

A line<br>and a <!-- comment -->.
"""

TASKS = """Before the release:

- [x] write the tests
- [ ] update the ~~docs~~ *changelog*
- [ ] `git tag v1.0`

About ~5 minutes, or ~10 with tea.
"""

UNCLOSED_FENCE = """This was cut:

```js
const a = [1, 2, 3];
for (const x of a) {
"""

UNCLOSED_MARKS = "It is **very important to know that `this [link](https://exa"

NESTED = """- Fruit
  - Apples
    - Red
      - Sweet
    - Green
  - Pears

    A paragraph about pears.
- Vegetables
  1. Carrots
  2. Peas

* * *

Text with ***bold italic***, **bold with `code` and [a *link*](https://example.com) in it** and __underscores__,
snake_case_names, 2*3*4, C:\\path\\*, 100% & <5.
"""

REPLIES = {
    name.lower(): value
    for name, value in list(globals().items())
    if name.isupper() and isinstance(value, str) and not name.startswith("_")
}
