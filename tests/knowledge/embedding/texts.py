"""Texts in English and Chinese, with what a tokenizer meets in real documents."""

from __future__ import annotations

ENGLISH = (
    "The library opens at nine in the morning and closes at six, except on Sundays.",
    "To reset the router, hold the small button on its back for ten seconds.",
    "Aspirin thins the blood; patients who take warfarin should ask a doctor first.",
    "The Treaty of Westphalia ended the Thirty Years' War in 1648.",
    "def fibonacci(n: int) -> int:\n    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)\n",
    "| Item | Price |\n| --- | --- |\n| Tea | 2.50 € |\n| Coffee | 3.10 € |",
    "Photosynthesis converts light energy into chemical energy stored in glucose.",
    "Our parental leave is sixteen weeks, of which two must be taken right after the birth.",
    "Error 0x80070057 (E_INVALIDARG) means that one of the parameters is wrong.",
    "The cat sat on the mat.",
    "Invoices are due within 30 days; after that we charge 1.5% interest a month.",
    "Tokyo is the capital of Japan and has about fourteen million inhabitants.",
    "naïve café, Zürich, Łódź, “quoted” — and an ellipsis…",
    "A",
    "https://example.org/a/b?c=d&e=f#g",
)
CHINESE = (
    "图书馆早上九点开门，下午六点关门，星期天除外。",
    "要重置路由器，请按住背面的小按钮十秒钟。",
    "阿司匹林会稀释血液；服用华法林的病人应先询问医生。",
    "1648年的威斯特伐利亚和约结束了三十年战争。",
    "光合作用将光能转化为储存在葡萄糖中的化学能。",
    "我们的育儿假为十六周，其中两周必须在孩子出生后立即休。",
    "東京是日本的首都，約有一千四百萬居民。",
    "发票须在30天内付清；逾期按每月1.5%计息。",
    "营业时间：９：００～１８：００（周日休息）",
    "猫坐在垫子上。",
    "①准备材料②填写表格③提交申请",
    "《红楼梦》是曹雪芹所著的长篇小说。",
    "温度为25℃，湿度为60%。",
    "请联系客服：service@example.org，电话 010-12345678。",
    "人工智能😀正在改变世界！！！",
)
