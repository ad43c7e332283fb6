"""Words that are names too, and what people are called who gave no name. `own_names` says what for.

Lists by hand: long enough for what people are commonly called, and not a dictionary.
"""

from __future__ import annotations

_NOBODY = """
me you user users admin root test tester bot assistant system guest anonymous anon unknown nobody
name none null telegram familiar owner member group channel account deleted support team info 用户 管理员
匿名 测试 机器人 助手 游客 群主
"""
_PARTICLES = """
van von der den de del della da di do dos das du la le el al bin ibn ben abu st the of and y e jr sr ii iii dr
mr mrs ms
"""
_ENGLISH = """
will mark may june april august rose hope grace faith joy art bill chance chase hunter max guy jack frank rich
pat sue ray dawn ivy lily daisy violet olive ruby amber pearl crystal jade ginger penny summer autumn star sky
robin jay gene dean earl duke king prince young long short white black brown green gray grey gold silver stone
wood woods hill lake rivers brook brooks field fields park parks banks marsh moon day night knight cook baker
carter mason miller turner walker fisher archer page bush bird fox wolf wolfe lamb fish love wise good little
case cole dale heath reed rush sandy sunny angel christian major victor junior miles bond bell ball best bright
bishop pope church temple house power powers price waters weeks winter winters worth drew eve lee ken don dick
harry rob jean jeans norm nick wade skip chip buck rusty misty stormy honor honour mercy charity patience
harmony melody chastity destiny heaven trinity genesis iris holly basil sage rosemary clay cliff glen forest
rocky ridge lane street wells ford ross bud buddy son bar barb carol cat kit kitty cherry peach berry coral
pepper curry rice bacon ham butter sugar candy cookie china jordan chad israel georgia india paris florence
austin dallas houston phoenix savannah sydney london berlin milan english french german welsh scott ireland
holland west east north south weaver taylor smith potter porter sawyer shepherd java perl python swift julia ada
rust go cooper gardener gardner hand head foot bean beans branch book booker child childs cross crow dove drake
drum early fair farmer fast flowers frost gates hood hunt joker judge law marshall noble pace paige pike pool
pound rain read reader rock root sharp singer snow spring swan tiger towns trees valentine wall ward war weather
wheeler yes no an in on so to he she do hu you li
"""
_CHINESE = """
高兴 方便 白云 黄金 安静 文明 平安 高峰 向阳 明白 安全 成功 成长 经理 方法 方向 方程
高手 高原 金钱 金山 黄河 黄山 马上 马虎 江山 江南 江湖 石头 白天 白雪 温暖 温柔 温度
关心 关于 关系 严格 严肃 于是 易经 时间 时代 时候 任务 任意 路过 常常 常见 周到 周末
周年 周围 许多 许可 和平 和谐 开心 健康 文化 建国 国庆 国家 中国 中华 建军 解放 胜利
幸福 快乐 美丽 英雄 世界 阳光 春天 夏天 秋天 冬天 明天 今天 天天 星星 月亮 太阳 大海
大山 小雨 下雨 雪花 思想 思考 自强 自然 自由 光明 光荣 长江 长城 东方 东升 南方 北方
西方 海洋 海外 家庭 学习 学文 志愿 志气 进步 爱国 爱民 为民 人民 卫国 保国 立国 立业
立新 创新 永远 永久 有为 有才 可爱 可心 如意 如果 若水 一般 一直 子夜 子孙 正义 正直
正好 忠诚 忠心 诚实 诚信 信心 信任 力量 向上 向前 上进 安心 安康 安宁 康乐 乐观 乐天
知足 知道 真理 真实 真心 善良 小小 小心 小时 小红 小学 大家 大众 老师 老板 毛病 毛巾
水平 水利
"""

NOBODY = frozenset(_NOBODY.split())
PARTICLES = frozenset(_PARTICLES.split())  # never a name by themselves
ENGLISH = frozenset(_ENGLISH.split())  # words, places and days that are given or family names
CHINESE = frozenset(_CHINESE.split())
SURNAMES = frozenset(
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩邓冯曹彭曾肖田董潘袁蔡蒋余于杜叶程魏苏吕丁任卢姚沈钟姜崔谭陆范汪"
    "廖石金韦贾夏付方邹熊白孟秦邱侯江尹薛闫段雷龙黎史陶贺毛郝顾龚邵万覃武钱戴严莫孔向常汤康易乔赖文施洪季安颜倪樊兰殷葛章庄岳"
    "齐劉陳楊黃趙吳孫馬羅鄭謝許韓鄧馮蕭葉蘇呂盧鍾薑譚陸範賈鄒龍賀顧萬錢嚴湯喬賴顏蘭莊齊"
)
TWO_SURNAMES = (
    *("欧阳", "司马", "上官", "诸葛", "东方", "皇甫", "尉迟", "公孙", "慕容", "令狐", "端木", "夏侯"),
    *("歐陽", "司馬", "諸葛", "東方", "尉遲", "公孫"),
)
