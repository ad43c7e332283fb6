"""Keys, tokens and passwords: by the form their makers gave them, by what they are called, and by looking random.

The three are asked in this order of trust. A hash looks random too and is no secret: a string of hexadecimal digits
counts only where it is called a key, and so do UUIDs. Values that are plainly a stand-in or code ("your_password",
`os.environ[...]`) stay, since a reply that explains them teaches nobody's secret.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from finetune.redact.findings import Finding, of_pattern

_B = r"(?<![0-9A-Za-z_])"
_E = r"(?![0-9A-Za-z_-])"

# Prefixes and lengths as their makers document them.
_FORMS = re.compile(
    "|".join(
        [
            r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
            r"(?:.{,20000}?-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
            r"|[0-9A-Za-z+/=\s:,.-]*)",  # cut off
            rf"{_B}eyJ[0-9A-Za-z_-]{{8,}}\.eyJ[0-9A-Za-z_-]{{8,}}\.[0-9A-Za-z_-]*",  # JSON Web Token
            rf"{_B}(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{{16}}{_E}",  # Amazon
            rf"{_B}LTAI[0-9A-Za-z]{{12,26}}{_E}",  # Alibaba Cloud
            rf"{_B}AKID[0-9A-Za-z]{{13,40}}{_E}",  # Tencent Cloud
            rf"{_B}AIza[0-9A-Za-z_-]{{35}}{_E}|{_B}ya29\.[0-9A-Za-z_-]{{20,}}|{_B}GOCSPX-[0-9A-Za-z_-]{{28}}{_E}",
            rf"{_B}gh[opusr]_[0-9A-Za-z]{{36,255}}{_E}|{_B}github_pat_[0-9A-Za-z_]{{22,255}}",
            rf"{_B}gl(?:pat|dt|rt|ptt|cbt|ft)-[0-9A-Za-z_.-]{{20,}}",
            rf"{_B}sk-(?=[A-Za-z_-]*[0-9])[0-9A-Za-z_-]{{20,}}",  # OpenAI and those who took its form
            rf"{_B}(?:sk|rk|pk|whsec)_(?:live|test)_[0-9A-Za-z]{{10,}}|{_B}whsec_[0-9A-Za-z+/=]{{24,}}",  # Stripe
            rf"{_B}xox[abeoprs]-[0-9A-Za-z-]{{10,}}|{_B}xapp-[0-9]-[0-9A-Za-z-]{{10,}}",  # Slack
            r"(?<=hooks\.slack\.com/services/)T[0-9A-Z]+/B[0-9A-Z]+/[0-9A-Za-z]{16,}",
            r"(?<=discord\.com/api/webhooks/)[0-9]{15,20}/[0-9A-Za-z_-]{40,}",
            rf"{_B}[MNO][0-9A-Za-z_-]{{23,25}}\.[0-9A-Za-z_-]{{6}}\.[0-9A-Za-z_-]{{27,40}}",  # Discord bots
            r"(?<![0-9])(?<![0-9A-Za-z]_)[0-9]{8,10}:[0-9A-Za-z_-]{33,36}(?![0-9A-Za-z_-])",  # Telegram bots
            rf"{_B}hf_[0-9A-Za-z]{{30,}}|{_B}npm_[0-9A-Za-z]{{36}}{_E}|{_B}pypi-[0-9A-Za-z_-]{{50,}}",
            rf"{_B}SG\.[0-9A-Za-z_-]{{16,32}}\.[0-9A-Za-z_-]{{32,64}}|{_B}key-[0-9a-f]{{32}}{_E}",
            rf"{_B}do[opr]_v1_[0-9a-f]{{64}}|{_B}shp(?:at|ca|pa|ss)_[0-9a-f]{{32}}|{_B}r8_[0-9A-Za-z]{{37}}",
            rf"{_B}gsk_[0-9A-Za-z]{{40,}}|{_B}xai-[0-9A-Za-z]{{40,}}|{_B}tvly-[0-9A-Za-z-]{{20,}}|{_B}pplx-[0-9a-f]{{40,}}",
            rf"{_B}hvs\.[0-9A-Za-z_-]{{24,}}|{_B}AGE-SECRET-KEY-1[0-9A-Z]{{58}}|{_B}dckr_pat_[0-9A-Za-z_-]{{20,}}",
        ]
    ),
    re.DOTALL,
)
_IN_URL = re.compile(r"(?i:(?<![0-9a-z])[a-z][a-z0-9+.-]{1,20})://(?P<value>[^\s/@:\0<>\"']*:[^\s/@\0<>\"']+)@")
# Amazon's second half has no form of its own, and follows the first.
_BESIDE_KEY = re.compile(
    r"(?:AKIA|ASIA)[0-9A-Z]{16}[^0-9A-Za-z+/].{0,60}?(?<![0-9A-Za-z+/])(?P<value>[0-9A-Za-z+/]{40})(?![0-9A-Za-z+/])",
    re.DOTALL,
)
_IN_QUERY = re.compile(
    r"(?i:[?&#;](?:access_?token|auth|auth_?token|api_?key|apikey|key|token|secret|sig|signature|password|passwd|pwd|code"
    r"|x-amz-signature|sas|session(?:_?id)?)=)(?P<value>[^\s&#\0<>\"'，。；）]{6,})"
)
_IN_COOKIE = re.compile(
    r"(?i:(?<![a-z])(?:(?:connect\.)?sid|(?:j|php)?sess(?:ion)?_?id|csrf_?token)=)(?P<value>[^\s&;,\0<>\"']{16,})"
)
_IN_HEADER = re.compile(
    r"(?i:authorization[\"']?\s*[:=]\s*[\"']?(?:bearer|basic|token|bot|digest)\s+"
    r"|(?<![a-z])(?:bearer|basic)\s+(?=[^0-9\s]*[0-9]))"
    r"(?P<value>[0-9A-Za-z+/_.~=-]{12,})"
)
_IN_HEADER_KEY = re.compile(
    r"(?i:(?<![a-z-])(?:x-api-key|x-auth-token|private-token)[\"']?\s*[:=]\s*[\"']?)(?P<value>[0-9A-Za-z+/_.~=-]{8,})"
)

_CALLED = (
    r"(?:(?P<password>pass ?phrase|passcode|pass ?word|passwd|pwd|密码|口令|暗号"
    r"|(?<![a-z])(?:pw|pass(?=\s*[:=])|pin(?: code| number)?))"
    r"|(?:(?:api|access|secret|private|auth|account|encryption|signing|master|shared|license)"
    r"[ _-]?(?:access[ _-]?)?key(?:[ _-]?id)?"
    r"|(?:client|app|consumer|webhook|shared)[ _-]?secret|secret|token|recovery[ _-](?:key|code|phrase)"
    r"|密钥|秘钥|令牌|私钥|公钥密码|授权码|激活码))"
)
_NAMED = rf"(?i:{_CALLED})(?:(?<=[\u4e00-\u9fff])|(?![0-9A-Za-z_]))[\"'`*]{{0,3}}"
_VALUE = r"[\"'`“「*]{0,2}(?P<value>[!#-&(-+\--:=?-_a-z{-~]{4,})"  # ASCII but space, quotes, comma, semicolon, < and >
_ASSIGNED = re.compile(
    rf"{_NAMED}(?:\s?(?:for|to|of|on)(?: [A-Za-z0-9_.-]{{1,20}}){{1,4}}?|\s?\([^()\n]{{1,20}}\))?"
    r"(?:\s*(?::=|=>|[:=])[\s*]*|\s+(?i:is now|is|was|reads|to)\s*:?\s+"
    rf"|\s*(?:改成了|改成|设为|设成|就是|仍是|是|为)\s*:?\s*){_VALUE}"
)
_BESIDE = re.compile(rf"{_NAMED}(?:\s+|(?<=[\u4e00-\u9fff])){_VALUE}")
_CODE = re.compile(r"[A-Za-z_$][\w.$]*[(\[{].*")  # what a call or an element gives
_WORDS = re.compile(
    r"(?i:(?:seed|recovery|mnemonic|secret|backup)[ _-]?(?:phrase|words?)|mnemonic|助记词)[^a-z\n]{1,10}(?i:is|are)?\s*"
    r"(?P<value>[a-z]{3,8}(?:[ ,]+[a-z]{3,8}){11,23})"  # of a wallet, BIP 39
)
_STAND_IN = re.compile(
    r"(?i:x{3,}|\*+|\.+|-+|_+|your.*|my[_-].*|(?:.*[-_.])?(?:example|placeholder|changeme|redacted|dummy)(?:[-_.].*)?"
    r"|none|null|true|false|undefined|required|optional|string|str|int|bool|secretstr|todo|tbd|here"
    r"|\$.*|%.*|\{.*|@.*|(?:self|os|process|settings|config|env)\..*|https?:.*)"
)
_IDENTIFIER = re.compile(
    r"[A-Za-z_$][A-Za-z_]*(?:(?:\.|->|::)[A-Za-z_]\w*)+|[a-z]+(?:_[a-z]+)*|[A-Z]+(?:_[A-Z]+)*|[a-z]+(?:[A-Z][a-z]+)+"
)

# What is longer is a file in letters.
_LONG = re.compile(r"(?<![0-9A-Za-z_+/=.@%#-])[0-9A-Za-z_+/-]{24,200}={0,2}(?![0-9A-Za-z_+/=@%])")
_HASH_OF = re.compile(r"(?:sha[0-9]{1,3}[-:=]|md5[-:=]|base64,|integrity=\"?|#)$", re.IGNORECASE)
_OF_CONTENT = re.compile(r"sha[0-9]{1,3}-.*|Qm[1-9A-HJ-NP-Za-km-z]{44}")  # what SRI and IPFS call a file
_HEX = re.compile(r"(?:0x)?[0-9A-Fa-f-]+")
_MIN_ENTROPY = 3.6  # bits a character: an even mix of letters and digits has 5.9, a long word about 3
_MIN_CHANGES = 0.4  # of neighbours that differ in kind: 0.6 in an even mix, below 0.35 in words joined by capitals


def secrets(text: str) -> Iterator[Finding]:
    for pattern in (_FORMS, _BESIDE_KEY, _IN_URL, _IN_COOKIE, _WORDS):
        yield from of_pattern(pattern, text, "SECRET")
    for pattern in (_IN_QUERY, _IN_HEADER, _IN_HEADER_KEY):
        for found in of_pattern(pattern, text, "SECRET"):
            if not _stands_for_one(text[found.start : found.end]):
                yield found
    for pattern, is_secret in ((_ASSIGNED, _is_value), (_BESIDE, _is_value_at_once)):
        for match in pattern.finditer(text):
            value = match["value"].rstrip(".:*?)]}")  # without the full stop of its sentence
            if not _stands_for_one(value) and is_secret(value, bool(match["password"])):
                yield Finding(match.start("value"), match.start("value") + len(value), "SECRET")
    for match in _LONG.finditer(text):
        if looks_random(match[0]) and not _HASH_OF.search(text[max(0, match.start() - 12) : match.start()]):
            yield Finding(match.start(), match.end(), "SECRET")


def _stands_for_one(value: str) -> bool:
    return any(pattern.fullmatch(value) for pattern in (_STAND_IN, _IDENTIFIER, _CODE))


def _is_value(value: str, is_password: bool) -> bool:
    """After "password:" or "the token is"."""
    if value.isdigit():
        return is_password and len(value) <= 12
    kinds = {_kind(character) for character in value}
    return len(value) >= 6 and len(kinds) >= 2 and (bool(kinds & {"0", "!"}) or len(kinds) >= 3)


def _is_value_at_once(value: str, is_password: bool) -> bool:
    """After "password" and a space, where words are the rule, or after 密码, where digits can be a year."""
    if value.isdigit():
        return is_password and 6 <= len(value) <= 12
    return len(value) >= 6 and bool(re.search("[0-9]", value)) and bool(re.search("[A-Za-z]", value))


def looks_random(value: str) -> bool:
    """Letters, both large and small, and digits in a mix that words, paths and names in code do not have."""
    if (
        _HEX.fullmatch(value)
        or _OF_CONTENT.fullmatch(value)
        or value.count("/") > len(value) / 12
        or value.count("-") + value.count("_") > len(value) / 6
    ):
        return False
    letters = value.replace("-", "").replace("_", "").replace("/", "").replace("+", "").rstrip("=")
    kinds = [_kind(character) for character in letters]
    if len(kinds) < 20 or set(kinds) != {"A", "a", "0"} or kinds.count("0") < 2:
        return False
    changes = sum(a != b for a, b in pairwise(kinds)) / (len(kinds) - 1)
    return changes >= _MIN_CHANGES and _entropy(letters) >= _MIN_ENTROPY


def _kind(character: str) -> str:
    if character.isdigit():
        return "0"
    if character.isalpha():
        return "A" if character.isupper() else "a"
    return character if character in "-_" else "!"


def _entropy(text: str) -> float:
    """In bits a character, by the characters of this text alone."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())
