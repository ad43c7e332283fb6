"""IP addresses that could be somebody's, and accounts of messengers that are named as such.

Addresses that are the same everywhere say nothing about a person and are the subject of many a good answer: they stay.
So do 127.0.0.1, the private ranges of RFC 1918, netmasks, and the public resolvers. Numbers with three dots that follow
"version" or "section" are none.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from finetune.redact.findings import Finding, of_pattern

_FOUR = re.compile(r"(?<![0-9A-Za-z_.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9A-Za-z_]|\.[0-9])")
_SIX = re.compile(r"(?<![0-9A-Za-z_:.])[23][0-9A-Fa-f]{3}(?::[0-9A-Fa-f]{0,4}){2,7}(?![0-9A-Za-z_:])")
_NO_ADDRESS = re.compile(
    r"(?:(?<![a-z])v|version|firmware|driver|kernel|windows|release|build|(?:up|down)grade[ds]? (?:to|from)"
    r"|section|chapter|clause|figure|版本|版|章|节|条|款|号|第|§)(?:\s+is|是|为|到|:)?\s*$",
    re.IGNORECASE,
)
_SAME_EVERYWHERE = tuple(
    ipaddress.ip_network(each)
    for each in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.168.0.0/16", "224.0.0.0/3"),
        *("1.1.1.1", "1.0.0.1", "8.8.8.8", "8.8.4.4", "9.9.9.9", "114.114.114.114", "223.5.5.5", "223.6.6.6"),
    )
)

_QQ = re.compile(
    r"(?<![0-9A-Za-z_])(?i:QQ(?:\s*(?:号码|号|number|no\.?|id))?(?:\s+is|是|为)?[\s:：#]*)"
    r"(?P<value>[1-9][0-9]{4,10})(?![0-9A-Za-z_])"
)
_WECHAT = re.compile(
    r"(?:(?<![0-9A-Za-z_])(?i:wechat(?: id)?|weixin|vx|wx)(?:\s+(?i:is)\s+|\s*[:：=]\s*|\s+)"
    r"|微信(?:号码|号)?(?:\s*(?:是|为|[:：]))?\s*)"
    r"(?P<value>wxid_[0-9a-z]{6,20}|(?=[A-Za-z_-]*[0-9_])[A-Za-z][-_A-Za-z0-9]{5,19})(?![0-9A-Za-z_-])"
)


def ips(text: str) -> Iterator[Finding]:
    for match in (*_FOUR.finditer(text), *_SIX.finditer(text)):
        try:
            address = ipaddress.ip_address(match[0])
        except ValueError:
            continue
        everywhere = any(address in network for network in _SAME_EVERYWHERE)
        if not everywhere and not _NO_ADDRESS.search(text[max(0, match.start() - 24) : match.start()]):
            yield Finding(match.start(), match.end(), "IP")


def accounts(text: str) -> Iterator[Finding]:
    for pattern in (_QQ, _WECHAT):
        yield from of_pattern(pattern, text, "ACCOUNT")
